"""One slice of a volume, by itself or with its neighbours as channels (2.5-D)."""

import dataclasses

import numpy as np

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.pixels import Image, automatic_window

SLICE, NEIGHBOURS = "slice", "neighbours"


def cut(member: str) -> tuple[str, str, int]:
    """What stands behind `#` of a reference: the volume's part, the kind of cut, the slice.

    `series/1/slice/12` is slice 12, from 0, of `series/1`; `neighbours/12` the slices 11 to 13.
    Without a cut the kind is "".
    """
    parts = member.split("/")
    if len(parts) >= 2 and parts[-2] in (SLICE, NEIGHBOURS) and parts[-1].isdigit():
        return "/".join(parts[:-2]), parts[-2], int(parts[-1])
    return member, "", 0


def one_slice(volume: Image, kind: str, number: int) -> Image:
    """A flat image of a volume.

    A volume in the patient's axes is cut across the body and shown as radiologists see it: the
    front above, the patient's right on the left. Without a window of the file, that of the whole
    volume is taken, so that slices can be compared.

    Args:
        volume: (z, h, w, c).
        kind: "slice", or "neighbours" for the slices before, at and behind `number` as the three
            channels of a grey volume; at an end the last slice is repeated.
        number: of the slice, from 0.

    Raises:
        BadText: there is no such slice, or neighbours of colours are asked for.
    """
    pixels = volume.pixels
    if pixels.ndim != 4 or number >= len(pixels):
        count = len(pixels) if pixels.ndim == 4 else 1
        raise BadText(f"there is no slice {number} among {count}", "count from 0")
    if kind == NEIGHBOURS and pixels.shape[-1] != 1:
        raise BadText("neighbours are of grey volumes; this one has colours", "take slices")

    def flat(values: np.ndarray) -> np.ndarray:
        if kind == NEIGHBOURS:
            near = np.clip([number - 1, number, number + 1], 0, len(values) - 1)
            found = np.moveaxis(values[near, ..., 0], 0, -1)
        else:
            found = values[number]
        return found[::-1, ::-1] if volume.ras else found

    return dataclasses.replace(
        volume,
        pixels=flat(pixels),
        spacing=volume.spacing[1:],
        window=volume.window or automatic_window(pixels),
        voi=None if volume.voi is None else flat(volume.voi),
        ras=False,
    )
