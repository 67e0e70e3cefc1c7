import numpy as np
import pytest
from PIL import Image
from toy_images import gradient, save

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.pictures import Picture
from biofm_jax.data.pixels import shown
from biofm_jax.data.raster import raster_pages, read_raster

tifffile = pytest.importorskip("tifffile")


def test_colours_palettes_greys_and_bits(tmp_path):
    colour = gradient(6, 8)
    np.testing.assert_array_equal(read_raster(save(tmp_path / "a.png", colour)).pixels, colour)
    grey = gradient(6, 8, 1)
    np.testing.assert_array_equal(read_raster(save(tmp_path / "g.tif", grey)).pixels, grey)

    palette = Image.fromarray(colour).quantize(16)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(
        read_raster(tmp_path / "p.png").pixels, np.asarray(palette.convert("RGB"))
    )
    bits = Image.fromarray(grey[..., 0]).convert("1")
    bits.save(tmp_path / "b.png")
    assert set(np.unique(read_raster(tmp_path / "b.png").pixels)) == {0, 255}


def test_transparency_lies_on_white(tmp_path):
    clear = np.dstack([gradient(4, 4), np.full((4, 4), 255, np.uint8)])
    Image.fromarray(clear).save(tmp_path / "full.png")
    np.testing.assert_array_equal(read_raster(tmp_path / "full.png").pixels, clear[..., :3])
    clear[0, 0, 3] = 0
    Image.fromarray(clear).save(tmp_path / "hole.png")
    found = read_raster(tmp_path / "hole.png").pixels
    assert found[0, 0].tolist() == [255, 255, 255]
    np.testing.assert_array_equal(found[1:], clear[1:, :, :3])


def test_deep_and_signed_pixels_keep_their_values(tmp_path):
    deep = (np.arange(48, dtype=np.uint16) * 1000).reshape(6, 8)
    Image.fromarray(deep).save(tmp_path / "d.png")
    np.testing.assert_array_equal(read_raster(tmp_path / "d.png").pixels[..., 0], deep)
    signed = np.arange(-24, 24, dtype=np.int16).reshape(6, 8)
    tifffile.imwrite(tmp_path / "s.tif", signed)
    found = read_raster(tmp_path / "s.tif")
    np.testing.assert_array_equal(found.pixels[..., 0], signed)
    assert shown(found).dtype == np.uint16 and shown(found)[0, 0, 0] == 0
    colour = np.dstack([deep, deep // 2, deep // 3])  # a mode that Pillow lacks
    tifffile.imwrite(tmp_path / "c.tif", colour, photometric="rgb")
    np.testing.assert_array_equal(read_raster(tmp_path / "c.tif").pixels, colour)


def test_pages_of_one_size_are_a_volume(tmp_path):
    pages = np.stack([gradient(5, 4, 1, seed) for seed in range(3)])
    tifffile.imwrite(tmp_path / "v.tif", pages[..., 0], photometric="minisblack")
    assert raster_pages(tmp_path / "v.tif") == 3
    np.testing.assert_array_equal(read_raster(tmp_path / "v.tif").pixels, pages)
    one = Picture("v.tif#slice/1", tmp_path).read()
    np.testing.assert_array_equal(one.pixels, pages[1])
    near = Picture("v.tif#neighbours/0", tmp_path).read()
    np.testing.assert_array_equal(near.pixels, pages[[0, 0, 1], ..., 0].transpose(1, 2, 0))
    with pytest.raises(BadText, match="no slice 3 among 3"):
        Picture("v.tif#slice/3", tmp_path).read()
    with tifffile.TiffWriter(tmp_path / "odd.tif") as file:
        file.write(pages[0, ..., 0])
        file.write(pages[0, :3, :, 0])
    with pytest.raises(BadText, match="2 pages are of 2 sizes"):
        read_raster(tmp_path / "odd.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_zero_is_white_where_the_file_says_so(tmp_path, dtype):
    grey = gradient(5, 4, 1)[..., 0].astype(dtype) * (1 if dtype == np.uint8 else 200)
    tifffile.imwrite(tmp_path / "w.tif", grey, photometric="miniswhite")
    tifffile.imwrite(tmp_path / "b.tif", grey, photometric="minisblack")
    white, black = (shown(read_raster(tmp_path / name)) for name in ("w.tif", "b.tif"))
    np.testing.assert_array_equal(white, np.iinfo(white.dtype).max - black)


def test_the_cameras_orientation_is_applied(tmp_path):
    picture, exif = Image.fromarray(gradient(4, 6)), Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    picture.save(tmp_path / "e.png", exif=exif)
    assert read_raster(tmp_path / "e.png").pixels.shape == (6, 4, 3)


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.tif"])
def test_damaged_files_are_named(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = save(tmp_path / name, noise)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadText, match="cut short or damaged"):
        read_raster(path)
    path.write_bytes(b"not a picture at all")
    with pytest.raises(BadText, match=r"holds no picture|cut short or damaged"):
        read_raster(path)
    path.write_bytes(b"")
    with pytest.raises(BadText, match="the file is empty"):
        read_raster(path)
