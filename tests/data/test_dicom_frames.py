"""Enhanced multi-frame objects: unit, window and place stand in groups of each frame."""

import numpy as np
import pytest
from toy_images import write_dicom

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.dicom import read_dicom
from biofm_jax.data.dicom_series import read_series, series_slices
from biofm_jax.data.imaging import ImageData

pydicom = pytest.importorskip("pydicom")

HEIGHTS = (9.0, 3.0, 0.0, 6.0)  # mm of each frame: not in their order
FRAMES = (np.arange(48).reshape(6, 8) + 1000 * np.arange(4)[:, None, None]).astype(np.int16)


def group(**sequences):
    """A functional group: `Macro={field: value}`."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    made = Dataset()
    for name, fields in sequences.items():
        inner = Dataset()
        for field, value in fields.items():
            setattr(inner, field, value)
        setattr(made, name, Sequence([inner]))
    return made


def enhanced(path, places, turns=((1, 0, 0, 0, 1, 0),), slopes=(2,)):
    """Four frames at `places`; orientation and slope are shared where there is one."""
    shared = {
        "PixelMeasuresSequence": {"PixelSpacing": [0.5, 0.25], "SliceThickness": 1.5},
        "FrameVOILUTSequence": {
            "WindowCenter": 40,
            "WindowWidth": 0.5,
            "VOILUTFunction": "LINEAR_EXACT",
        },
    }
    own = [{"PlanePositionSequence": {"ImagePositionPatient": list(p)}} for p in places]
    for name, field, values in (
        ("PlaneOrientationSequence", "ImageOrientationPatient", [list(t) for t in turns]),
        ("PixelValueTransformationSequence", "RescaleSlope", slopes),
    ):
        more = {"RescaleIntercept": -100} if field == "RescaleSlope" else {}
        if len(values) == 1:
            shared[name] = {field: values[0]} | more
        else:
            for frame, value in zip(own, values):
                frame[name] = {field: value} | more
    write_dicom(
        path,
        FRAMES.reshape(24, 8),
        position=None,
        orientation=None,
        spacing=None,
        Rows=6,
        NumberOfFrames=4,
        SharedFunctionalGroupsSequence=[group(**shared)],
        PerFrameFunctionalGroupsSequence=[group(**fields) for fields in own],
    )
    return path


def test_frames_are_in_the_files_unit_and_ordered_by_place(tmp_path):
    """By the order of frames, the thickness and stored values all would be wrong."""
    path = enhanced(tmp_path / "a.dcm", [(0, 0, z) for z in HEIGHTS])
    stored = read_dicom(path)
    np.testing.assert_array_equal(stored.pixels[..., 0], FRAMES * 2.0 - 100)
    assert stored.window == (39.75, 40.25)  # LINEAR_EXACT, narrower than 1
    volume = read_series(tmp_path)
    expected = (FRAMES * 2.0 - 100)[np.argsort(HEIGHTS)][:, ::-1, ::-1]
    np.testing.assert_array_equal(volume.pixels[..., 0], expected)
    assert volume.spacing == (3.0, 0.5, 0.25)  # not the thickness, 1.5
    assert volume.ras and series_slices(tmp_path) == 4


def test_each_frame_may_have_its_own_slope(tmp_path):
    path = enhanced(tmp_path / "a.dcm", [(0, 0, z) for z in HEIGHTS], slopes=(2, 3, 4, 5))
    expected = FRAMES * np.array([2.0, 3, 4, 5])[:, None, None] - 100
    np.testing.assert_array_equal(read_dicom(path).pixels[..., 0], expected)


def test_sagittal_frames_are_turned(tmp_path):
    places = [(x, 0, 0) for x in HEIGHTS]
    enhanced(tmp_path / "a.dcm", places, turns=((0, 1, 0, 0, 0, -1),))
    volume = read_series(tmp_path)
    expected = (FRAMES * 2.0 - 100)[np.argsort(HEIGHTS)].transpose(1, 2, 0)[::-1, ::-1, ::-1]
    np.testing.assert_array_equal(volume.pixels[..., 0], expected)
    assert volume.spacing == (0.5, 0.25, 3.0) and series_slices(tmp_path) == 6


def test_frames_that_make_no_volume_are_named(tmp_path):
    same = enhanced(tmp_path / "same.dcm", [(0, 0, z) for z in (0, 3, 3, 6)])
    with pytest.raises(BadText, match="two slices lie at one place: frame 2 and frame 3"):
        read_series(same, "series/0")
    turns = [(1, 0, 0, 0, 1, 0)] * 3 + [(0, 1, 0, 0, 0, -1)]
    mixed = enhanced(tmp_path / "mixed.dcm", [(0, 0, z) for z in HEIGHTS], turns)
    with pytest.raises(BadText, match=r"of 4 slices 1 have orientation .*first: frame 4"):
        read_series(mixed, "series/0")


def test_a_table_names_a_file_of_frames(tmp_path, monkeypatch):
    monkeypatch.setenv("BIOFM_CACHE", str(tmp_path / "cache"))
    enhanced(tmp_path / "in" / "a.dcm", [(0, 0, z) for z in HEIGHTS])
    (tmp_path / "in" / "labels.csv").write_text("file,label\na.dcm,x\n")
    fields = {"window": (-100.0, 7000.0), "holdout": 0.0}
    flat = ImageData(str(tmp_path / "in"), image=(6, 8), volumes="neighbours", **fields).open()
    assert [row["id"] for row in flat.records] == [
        f"a.dcm#series/0/neighbours/{k}" for k in range(4)
    ]
    # Of the lowest slice, frame 3: itself, itself, and the one above, frame 2.
    low = np.rint((FRAMES[[2, 2, 1], 0, 0] * 2.0) / 7100 * 255)
    np.testing.assert_allclose(flat.pixels[0, 0, 0], low, atol=1)
    whole = ImageData(str(tmp_path / "in"), image=(4, 6, 8), channels=1, **fields).open()
    assert [row["id"] for row in whole.records] == ["a.dcm#series/0"]
    assert whole.pixels[0, :, -1, -1, 0].argsort().argsort().tolist() == [2, 1, 3, 0]
