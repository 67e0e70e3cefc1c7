"""What an enhanced multi-frame DICOM object says of its frames (PS3.3 C.7.6.16).

A field stands in the functional groups that all frames share, or in those of each frame.
"""

import numpy as np

SHARED, EACH = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"


def of_frames(elements, name: str) -> list:
    """A field of every frame, None where a frame has none; [] where there are no groups.

    Args:
        elements: pydicom's data set.
        name: keyword of a field inside a functional group, such as `ImagePositionPatient`.
    """
    shared = [_within(group, name) for group in (elements.get(SHARED) or [])[:1]]
    own = [_within(group, name) for group in elements.get(EACH) or []]
    common = shared[0] if shared else None
    return [common if value is None else value for value in own] or shared


def grouped(elements, name: str):
    """A field of the first frame that tells it; None where none does."""
    return next((value for value in of_frames(elements, name) if value is not None), None)


def rescaled(units: np.ndarray, elements) -> np.ndarray:
    """Stored values in the file's unit by the slope and intercept of each frame.

    Args:
        units: (h, w, c), or (z, h, w, c) of several frames, as stored.
        elements: without slope and intercept of the whole file.

    Returns:
        The same where the groups tell no line, else float32.
    """
    slopes, starts = (of_frames(elements, n) for n in ("RescaleSlope", "RescaleIntercept"))
    lines = np.array(
        [(1 if a is None else a, 0 if b is None else b) for a, b in zip(slopes, starts)], np.float64
    )
    if not len(lines) or (lines == (1, 0)).all():
        return units
    lines = lines if units.ndim == 4 and len(lines) == len(units) else lines[:1]
    slope, start = lines.T.reshape(2, -1, *(1,) * (units.ndim - 1))
    return (units * slope + start).astype(np.float32)


def _within(group, name: str):
    for element in group:
        if element.VR == "SQ" and element.value and name in element.value[0]:
            return element.value[0].get(name)
    return None
