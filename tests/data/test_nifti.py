import gzip

import numpy as np
import pytest
from toy_images import write_nifti

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.imaging import ImageData
from biofm_jax.data.nifti import nifti_slices, read_nifti
from biofm_jax.data.pictures import Picture
from biofm_jax.errors import UserError

nibabel = pytest.importorskip("nibabel")

VOXELS = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "ASR", "PIL", "SLA"])
def test_any_orientation_is_turned_to_ras_as_nibabel_does(tmp_path, axes):
    sizes = np.array([1.0, 2.0, 3.0])
    turned = nibabel.orientations.axcodes2ornt(axes)
    affine = np.zeros((4, 4))
    for array, (world, sign) in enumerate(turned):
        affine[int(world), array] = sign * sizes[array]
    affine[:, 3] = 5, 6, 7, 1
    path = write_nifti(tmp_path / "v.nii.gz", VOXELS, affine)
    expected = nibabel.as_closest_canonical(nibabel.load(path))
    found = read_nifti(path)
    np.testing.assert_array_equal(found.pixels[..., 0].T, np.asarray(expected.dataobj))
    np.testing.assert_allclose(found.spacing[::-1], expected.header.get_zooms())
    assert nifti_slices(path) == expected.shape[2]


def test_oblique_scaled_and_coloured_volumes(tmp_path):
    angle = np.deg2rad(30)
    affine = np.eye(4)
    affine[:2, :2] = [[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    image = nibabel.Nifti1Image(VOXELS, affine)
    image.header.set_slope_inter(2, 1)
    nibabel.save(image, tmp_path / "o.nii")
    found = read_nifti(tmp_path / "o.nii")
    np.testing.assert_allclose(found.pixels[..., 0].T, 2 * VOXELS[::-1] + 1)
    contrasts = write_nifti(tmp_path / "c.nii", np.stack([VOXELS, VOXELS + 7], -1), np.eye(4))
    assert read_nifti(contrasts).pixels.shape == (5, 4, 3, 2)
    rgb = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["G"] = 9
    colour = write_nifti(tmp_path / "r.nii", rgb, np.eye(4))
    assert read_nifti(colour).pixels[0, 0, 0].tolist() == [0, 9, 0]


def test_resampling_in_mm(tmp_path):
    """A ball of 8 mm keeps its 8 mm whatever the voxels are."""
    places = np.indices((40, 20, 20)).T * [0.5, 1, 2] - [10, 10, 20]  # mm from the middle
    grid = places.T
    ball = (np.sqrt((grid**2).sum(0)) < 8).astype(np.int16) * 100
    write_nifti(tmp_path / "b.nii", ball, np.diag([0.5, 1, 2, 1]))
    data = ImageData(str(tmp_path), image=(24, 24, 24), channels=1, spacing=(1.0, 1.0, 1.0))
    made = data.to_example()(data.clean(Picture("b.nii", tmp_path))).pixels[..., 0] > 127
    across = [made.any(axis=tuple({0, 1, 2} - {axis})).sum() for axis in range(3)]
    assert all(14 <= length <= 17 for length in across)
    volume = made.sum() / (4 / 3 * np.pi * 8**3)
    assert abs(volume - 1) < 0.05


def test_units_of_length_are_millimetres(tmp_path):
    image = nibabel.Nifti1Image(VOXELS, np.diag([500.0, 250, 800, 1]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "v.nii")
    np.testing.assert_allclose(read_nifti(tmp_path / "v.nii").spacing, (0.8, 0.25, 0.5))
    image.header.set_xyzt_units("meter")  # a header that says so by mistake: 500 metres a voxel
    nibabel.save(image, tmp_path / "v.nii")
    data = ImageData(str(tmp_path), image=(4, 4, 4), channels=1, spacing=(1.0, 1.0, 1.0))
    with pytest.raises(UserError, match=r"resampled it would have 4000000 x .* check the spacing"):
        data.prepare(tmp_path / "out")


def test_a_slice_that_is_not_finite_leaves_the_others_as_they_are(tmp_path):
    voxels = np.random.default_rng(0).random((6, 7, 4)).astype(np.float32) * 100
    write_nifti(tmp_path / "whole.nii", voxels[:, :, [0, 1, 3]], np.eye(4))
    voxels[2:4, 3, 2] = np.nan
    write_nifti(tmp_path / "hole.nii", voxels, np.eye(4))
    expected = [Picture(f"whole.nii#slice/{k}", tmp_path).pixels() for k in range(3)]
    found = [Picture(f"hole.nii#slice/{k}", tmp_path).pixels() for k in (0, 1, 3)]
    np.testing.assert_allclose(found, expected, atol=1500)  # of 65535: another window, slightly
    assert all(np.ptp(each) > 60000 for each in found)
    with pytest.raises(UserError, match="2 pixels are not finite"):
        Picture("hole.nii#slice/2", tmp_path).pixels()


def test_a_volume_of_one_slice_and_slices_that_a_table_names(tmp_path):
    (tmp_path / "in").mkdir()
    write_nifti(tmp_path / "in" / "one.nii", VOXELS[:, :, :1], np.eye(4))
    write_nifti(tmp_path / "in" / "five.nii", VOXELS, np.eye(4))
    (tmp_path / "in" / "labels.csv").write_text("file,label\none.nii,a\nfive.nii#slice/3,b\n")
    store = ImageData(
        str(ImageData(str(tmp_path / "in"), image=(4, 3)).prepare(tmp_path / "out")), image=(4, 3)
    ).open()
    assert [row["id"] for row in store.records] == ["one.nii#slice/0", "five.nii#slice/3"]
    third = Picture("five.nii#slice/3", tmp_path / "in").pixels()[..., 0] // 257
    np.testing.assert_allclose(store.pixels[1, ..., 0], third, atol=1)


def test_damage_is_named(tmp_path):
    path = write_nifti(tmp_path / "v.nii.gz", VOXELS, np.eye(4))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadText, match="cut short or damaged"):
        read_nifti(path)
    plain = tmp_path / "p.nii"
    plain.write_bytes(gzip.decompress(whole)[:-30])
    with pytest.raises(BadText, match="cut short or damaged"):
        read_nifti(plain)
    flattened = np.eye(4)
    flattened[:3, 2] = flattened[:3, 1]
    singular = nibabel.Nifti1Image(VOXELS, None)
    singular.header.set_sform(flattened, code=1)
    nibabel.save(singular, tmp_path / "s.nii")
    with pytest.raises(BadText, match="singular affine"):
        read_nifti(tmp_path / "s.nii")
    flat = nibabel.Nifti1Image(VOXELS[0], np.eye(4))
    nibabel.save(flat, tmp_path / "f.nii")
    with pytest.raises(BadText, match="it has axes"):
        read_nifti(tmp_path / "f.nii")
    unknown = bytearray(gzip.decompress(whole))
    unknown[80:92] = bytes(12)  # pixdim[1:4], the size of a voxel
    (tmp_path / "z.nii").write_bytes(unknown)
    assert read_nifti(tmp_path / "z.nii").spacing == ()
    data = ImageData(str(tmp_path / "z.nii"), image=(4, 4, 4), spacing=(1.0, 1.0, 1.0), channels=1)
    with pytest.raises(UserError, match="no pixel spacing in mm"):
        data.to_example()(Picture("z.nii", tmp_path))
