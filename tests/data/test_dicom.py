import logging
from pathlib import Path

import numpy as np
import pytest
from toy_images import write_dicom

from biofm_jax.data.bad_records import BadRecords, BadText
from biofm_jax.data.dicom import is_dicom, read_dicom
from biofm_jax.data.dicom_series import read_series, series_slices
from biofm_jax.data.image_folders import Cut, walk
from biofm_jax.data.image_records import read_image_records
from biofm_jax.data.imaging import ImageData
from biofm_jax.data.pictures import Picture
from biofm_jax.data.pixels import shown
from biofm_jax.errors import UserError

pydicom = pytest.importorskip("pydicom")
SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"


def ramp(h=6, w=8, start=0, dtype=np.int16):
    return (np.arange(h * w).reshape(h, w) * 10 + start).astype(dtype)


def test_units_window_and_spacing(tmp_path):
    path = write_dicom(
        tmp_path / "a.dcm",
        ramp(),
        RescaleSlope=2,
        RescaleIntercept=-100,
        WindowCenter=[40, 400],
        WindowWidth=[400, 2000],
    )
    found = read_dicom(path)
    np.testing.assert_array_equal(found.pixels[..., 0], ramp() * 2.0 - 100)
    assert found.spacing == (0.5, 0.25)
    # PS3.3 C.11.2.1.2.1: centre - 0.5 -+ (width - 1) / 2
    assert found.window == (-160.0, 239.0)
    stored = pydicom.dcmread(path)
    expected = pydicom.pixels.apply_windowing(
        pydicom.pixels.apply_rescale(stored.pixel_array, stored), stored
    )
    low, high = expected.min(), expected.max()
    shape = (expected - expected.min()) / (high - low)
    ours = shown(found) / 65535
    inner = (shape > 0) & (shape < 1)
    slope = np.polyfit(ours[..., 0][inner], expected[inner], 1)
    np.testing.assert_allclose(np.polyval(slope, ours[..., 0][inner]), expected[inner], atol=2)


def test_tables_sigmoids_inversion_and_padding(tmp_path):
    from pydicom.dataset import Dataset

    table = Dataset()
    table.LUTDescriptor = [480, 0, 8]
    table.add_new("LUTData", "US", (np.arange(480) % 256).tolist())
    path = write_dicom(tmp_path / "t.dcm", ramp(), VOILUTSequence=[table])
    found = read_dicom(path)
    np.testing.assert_allclose(shown(found)[..., 0] / 65535 * 255, ramp() % 256, atol=0.01)
    assert shown(found, window=(0.0, 100.0))[0, 5, 0] == 32768  # asked for: the table is left out
    curve = read_dicom(
        write_dicom(
            tmp_path / "s.dcm", ramp(), WindowCenter=100, WindowWidth=50, VOILUTFunction="SIGMOID"
        )
    )
    np.testing.assert_allclose(
        shown(curve)[..., 0] / 65535, 1 / (1 + np.exp(-4 * (ramp() - 100) / 50)), atol=1e-4
    )
    dark = read_dicom(
        write_dicom(tmp_path / "m.dcm", ramp(), PhotometricInterpretation="MONOCHROME1")
    )
    assert shown(dark)[0, 0, 0] == 65535 and shown(dark)[-1, -1, 0] == 0
    outside = ramp(start=100)
    outside[0, 0] = -2000
    padded = read_dicom(write_dicom(tmp_path / "p.dcm", outside, PixelPaddingValue=-2000))
    assert padded.pixels[0, 0, 0] == 110
    inverted = write_dicom(
        tmp_path / "i.dcm",
        outside,
        PixelPaddingValue=-2000,
        PhotometricInterpretation="MONOCHROME1",
    )
    assert shown(read_dicom(inverted))[0, 0, 0] == 0  # black, as outside of any picture


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("MR_small_RLE.dcm", (64, 64, 1)),
        ("MR_small_jp2klossless.dcm", (64, 64, 1)),
        ("MR_small_jpeg_ls_lossless.dcm", (64, 64, 1)),
        ("MR_small_bigendian.dcm", (64, 64, 1)),
        ("SC_rgb_jpeg_gdcm.dcm", (100, 100, 3)),  # JPEG lossless, as scanners send it
        ("SC_rgb_dcmtk_+eb+cy+np.dcm", (100, 100, 3)),
        ("examples_palette.dcm", (350, 800, 3)),
        ("rtdose_rle.dcm", (15, 10, 10, 1)),
    ],
)
def test_transfer_syntaxes_of_files_that_pydicom_ships(name, shape):
    found = read_dicom(SHIPPED / name)
    assert found.pixels.shape == shape
    if name.startswith("MR_small"):
        np.testing.assert_array_equal(
            found.pixels, read_dicom(SHIPPED / "MR_small.dcm").pixels, name
        )


def test_a_decoder_that_is_lacking_is_no_damage(tmp_path):
    """JPEG of 12 bits, which neither of the decoders here reads."""
    with pytest.raises(BadText, match="no decoder here reads its transfer syntax, JPEG Ext") as one:
        read_dicom(SHIPPED / "JPGExtended.dcm")
    assert "pylibjpeg-libjpeg" in one.value.fix
    private = pydicom.dcmread(SHIPPED / "MR_small.dcm")
    private.file_meta.TransferSyntaxUID = "1.2.840.113619.5.2.1"
    private.save_as(tmp_path / "p.dcm", implicit_vr=False, little_endian=True)
    with pytest.raises(BadText, match="reads its transfer syntax, a private one"):
        read_dicom(tmp_path / "p.dcm")


def test_frames_are_slices():
    assert Picture("examples_ybr_color.dcm#slice/29", SHIPPED).read().pixels.shape == (240, 320, 3)
    dose = read_dicom(SHIPPED / "rtdose.dcm").pixels
    np.testing.assert_array_equal(Picture("rtdose.dcm#slice/3", SHIPPED).read().pixels, dose[3])


def series(folder, *, axial=True, count=4, **changes):
    """Slices of voxels whose value tells their place; files are named against their order."""
    for k in range(count):
        pixels = ramp(start=1000 * k)
        usual = {
            "position": (0.0, 0.0, 3.0 * k) if axial else (3.0 * k, 0.0, 0.0),
            "orientation": (1, 0, 0, 0, 1, 0) if axial else (0, 1, 0, 0, 0, -1),
        }
        change = changes.get(str(k), {})
        write_dicom(folder / f"{count - k}.dcm", pixels, **usual | change)
    return folder


def test_a_series_becomes_a_volume_in_the_patients_axes(tmp_path):
    volume = read_series(series(tmp_path / "s"))
    # Stored axes are LPS: the array is flipped to the front and to the right, not in z.
    expected = np.stack([ramp(start=1000 * k)[::-1, ::-1] for k in range(4)])
    np.testing.assert_array_equal(volume.pixels[..., 0], expected)
    assert volume.spacing == (3.0, 0.5, 0.25)
    one = Picture("s#slice/2", tmp_path).read()  # shown as stored: patient's right on the left
    np.testing.assert_array_equal(one.pixels[..., 0], ramp(start=2000))
    assert one.spacing == (0.5, 0.25)
    sagittal = read_series(series(tmp_path / "g", axial=False))
    # Slices run to the left, rows to the back, columns to the foot.
    expected = np.stack([ramp(start=1000 * k) for k in range(4)])  # (left, foot, back)
    np.testing.assert_array_equal(
        sagittal.pixels[..., 0], expected.transpose(1, 2, 0)[::-1, ::-1, ::-1]
    )
    assert sagittal.spacing == (0.5, 0.25, 3.0)
    assert series_slices(tmp_path / "g") == 6


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"orientation": (0, 1, 0, 0, 0, -1)}, r"of 4 slices 1 have orientation .*\(the first: 2"),
        ({"spacing": (1, 1)}, "1 have pixel spacing in mm 1 x 1, others 0.5 x 0.25"),
        ({"spacing": None}, "1 have pixel spacing in mm none, others"),
        ({"position": (0.0, 0.0, 3.0)}, "two slices lie at one place: 2.dcm and 3.dcm"),
        ({"position": (0.0, 0.0, 7.0)}, "a gap of 4 mm behind 3.dcm, where others are 3 mm"),
    ],
)
def test_slices_that_do_not_belong_together_are_named(tmp_path, change, reason):
    series(tmp_path, **{"2": change})
    with pytest.raises(BadText, match=reason):
        read_series(tmp_path)


def test_rounding_of_headers_parts_no_series(tmp_path):
    tilt = np.arccos(0.9995)
    turns = [(1, 0, 0, 0, np.cos(tilt) + sign * 1e-7, np.sin(tilt)) for sign in (1, -1, 1)]
    for k, turn in enumerate(turns):
        write_dicom(
            tmp_path / f"{k}.dcm",
            ramp(),
            position=(0, 0, 3.0 * k),
            orientation=turn,
            spacing=(0.488281, 0.48828125 if k else 0.488281),
        )
    assert read_series(tmp_path).pixels.shape == (3, 6, 8, 1)


def test_without_a_patient_a_study_stays_together(tmp_path):
    """Anonymised files have no PatientID: slices of one head would be on both sides."""
    for k in range(4):
        study = f"1.9.{k // 2}"
        write_dicom(tmp_path / f"{k}.dcm", ramp(start=k), StudyInstanceUID=study, PatientID="")
    records = walk(tmp_path, BadRecords("x"), Cut(2), lambda ending: None)
    assert [record.group for record in records] == ["study 1", "study 1", "study 2", "study 2"]
    (tmp_path / "labels.csv").write_text("file,label\n" + "".join(f"{k}.dcm,a\n" for k in range(4)))
    listed = read_image_records(tmp_path, BadRecords("x"))
    assert [record.group for record in listed] == [record.group for record in records]


def test_a_series_of_one_slice_is_a_volume_of_one(tmp_path):
    write_dicom(tmp_path / "in" / "a.dcm", ramp())
    out = ImageData(str(tmp_path / "in"), image=(6, 8), volumes="neighbours").prepare(
        tmp_path / "out"
    )
    assert '"id": ".#series/0/neighbours/0"' in (out / "records.jsonl").read_text()


def test_other_troubles_of_series_are_named(tmp_path):
    sizes = series(tmp_path / "sizes")
    write_dicom(sizes / "9.dcm", ramp(5, 8), position=(0, 0, 12))
    with pytest.raises(BadText, match="of 5 slices 1 have size 5 x 8, others 6 x 8"):
        read_series(sizes)
    two = series(tmp_path / "two")
    write_dicom(two / "9.dcm", ramp(), series="9.9")
    with pytest.raises(BadText, match="holds 2 series"):
        read_series(two)
    assert read_series(two, "series/1").pixels.shape == (1, 6, 8, 1)
    bare = tmp_path / "bare"
    for k in range(3):
        write_dicom(
            bare / f"{3 - k}.dcm",
            ramp(start=k),
            position=None,
            orientation=None,
            spacing=None,
            InstanceNumber=k,
        )
    found = read_series(bare)  # by number; without spacing
    assert found.pixels[:, 0, 0, 0].tolist() == [0, 1, 2] and found.spacing == ()
    data = ImageData(str(tmp_path / "bare"), image=(2, 4, 4), spacing=(1.0, 1.0, 1.0), channels=1)
    with pytest.raises(UserError, match="no pixel spacing in mm"):
        data.prepare(tmp_path / "out")


def test_damaged_files_and_other_objects_are_named(tmp_path):
    with pytest.raises(BadText, match="cut short or damaged"):
        read_dicom(SHIPPED / "MR_truncated.dcm")
    with pytest.raises(BadText, match=r"holds no image \(modality SR\)"):
        read_dicom(SHIPPED / "test-SR.dcm")
    (tmp_path / "x.dcm").write_bytes(b"nothing")
    with pytest.raises(BadText, match="no DICOM file"):
        read_dicom(tmp_path / "x.dcm")
    assert is_dicom(SHIPPED / "dicomdirtests" / "98892001" / "CT5N" / "2062")
    assert not is_dicom(SHIPPED / "dicomdirtests" / "DICOMDIR")
    bad = BadRecords("shipped")
    found = walk(SHIPPED / "dicomdirtests" / "98892001", bad, Cut(3), lambda ending: None)
    assert [str(r.picture) for r in found] == ["CT2N#series/0", "CT5N#series/0"]
    assert {r.group for r in found} == {"patient 1"} and not bad.records


def test_nothing_that_names_a_person_leaves_a_dicom_file(tmp_path, caplog, recwarn):
    """Names stand in every place where some reader or message could pick them up."""
    secret = "Zzyzx"
    person = {
        "PatientName": f"{secret}^Anna",
        "PatientID": f"{secret}-77",
        "PatientBirthDate": f"{secret}",  # not a date either: a reader would warn, and quote it
        "PatientAddress": f"{secret} street",
        "InstitutionName": f"{secret} hospital",
        "ReferringPhysicianName": f"Dr {secret}",
        "StudyDescription": f"of {secret}",
        "SeriesDescription": f"of {secret}",
        "ImageComments": f"{secret} was here",
        "AccessionNumber": f"{secret}",
    }
    source, out = tmp_path / "in", tmp_path / "out"
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    try:
        for number in range(4):
            write_dicom(source / f"{number}.dcm", ramp(start=number), **person)
        damaged = write_dicom(source / "9.dcm", ramp(), **person)
        wrong = write_dicom(source / "8.dcm", ramp(), **person, WindowCenter="40", WindowWidth="4")
        zero = write_dicom(source / "7.dcm", np.full((6, 8), 3, np.int16), **person)
        write_dicom(source / "6.dcm", ramp(), **person | {"Modality": secret, "Rows": 0})
    finally:
        pydicom.config.settings.writing_validation_mode = pydicom.config.RAISE
    damaged.write_bytes(damaged.read_bytes()[:-40])
    wrong.write_bytes(wrong.read_bytes().replace(b"40", b"Zz"))
    assert secret.encode() in zero.read_bytes()
    with caplog.at_level(logging.DEBUG):
        data = ImageData(str(source), image=(6, 8), channels=1, tolerance=0.6)
        data.prepare(out)
        store = ImageData(str(out), image=(6, 8), channels=1).open()
        assert {row["group"] for row in store.records} == {"patient 1"}
        with pytest.raises(UserError) as stopped:
            ImageData(str(source), image=(6, 8), channels=1).prepare(tmp_path / "no")
        with pytest.raises(UserError) as one:
            Picture("9.dcm", source).pixels()
    written = b""
    for file in tmp_path.rglob("*"):
        if file.is_file() and source not in file.parents:
            written += str(file.relative_to(tmp_path)).encode() + file.read_bytes()
    told = f"{stopped.value} {one.value} {caplog.text} {[str(w.message) for w in recwarn]}"
    assert b"7.dcm" in written and "9.dcm" in told  # what is bad is named
    for trace in (secret, secret.lower(), "Anna"):
        assert trace.encode() not in written
        assert trace not in told
