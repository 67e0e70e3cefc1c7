import numpy as np
import pytest
from PIL import Image as Pillow

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.pixels import Image, fitted, quantised, resize, shown, with_channels


@pytest.mark.parametrize("size", [(7, 5), (31, 44), (20, 8)])
def test_resizing_is_pillows_triangle_filter(size):
    values = np.random.default_rng(0).random((16, 23, 1)).astype(np.float32) * 100
    expected = Pillow.fromarray(values[..., 0]).resize(size[::-1], Pillow.Resampling.BILINEAR)
    np.testing.assert_allclose(resize(values, size)[..., 0], np.asarray(expected), atol=1e-3)
    deep = np.rint(values * 600).astype(np.uint16)
    assert resize(deep, size).dtype == np.uint16


def test_a_volume_is_resized_axis_by_axis():
    """A separable ramp stays a ramp away from its ends, and a mean stays the mean."""
    z, y, x = np.meshgrid(np.arange(8.0), np.arange(6.0), np.arange(10.0), indexing="ij")
    small = resize((z + 10 * y + 100 * x)[..., None], (4, 6, 5))
    assert small.shape == (4, 6, 5, 1)
    np.testing.assert_allclose(np.diff(small[1:3, 0, 0, 0]), 2, atol=1e-4)
    np.testing.assert_allclose(np.diff(small[0, 0, 1:4, 0]), 200, atol=1e-3)


def test_windows_map_their_ends_to_black_and_white():
    ramp = np.arange(-1000, 1000, 10, dtype=np.int16).reshape(10, 20, 1)
    made = shown(Image(ramp, window=(-100.0, 300.0)))
    assert made.dtype == np.uint16
    assert (made[ramp <= -100] == 0).all() and (made[ramp >= 300] == 65535).all()
    assert abs(int(made[ramp == 100][0]) - 32768) <= 1
    asked = shown(Image(ramp, window=(-100.0, 300.0)), window=(0.0, 10.0))
    assert (asked[ramp >= 10] == 65535).all()
    inverted = shown(Image(ramp, window=(-100.0, 300.0), inverted=True))
    np.testing.assert_allclose(inverted.astype(int) + made, 65535, atol=1)


def test_without_a_window_percentiles_are_shown_and_bytes_stay_as_they_are():
    rare = np.full((100, 100, 1), 500, np.uint16)
    rare[:50] = 400
    rare[0, 0] = 60000  # one hot pixel must not darken the rest
    made = shown(Image(rare))
    assert made[0, 1, 0] == 0 and made[99, 0, 0] == 65535
    background = np.zeros((100, 100, 1), np.uint16)
    background[5, 5] = 9  # percentiles agree: the whole range instead
    assert shown(Image(background))[5, 5, 0] == 65535
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    assert shown(Image(grey)) is grey


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.full((4, 4, 1), 17, np.uint8), "every pixel is 17: zero variance"),
        (np.full((4, 4, 1), np.nan, np.float32), "16 pixels are not finite"),
        (np.zeros((0, 4, 1), np.uint8), "no pixels"),
    ],
)
def test_what_cannot_be_shown_is_named(pixels, reason):
    with pytest.raises(BadText, match=reason):
        shown(Image(pixels))


def test_channels():
    colour = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    grey = with_channels(colour, 1)
    expected = np.asarray(Pillow.fromarray(colour).convert("L"), int)
    assert np.abs(grey[..., 0].astype(int) - expected).max() <= 1
    assert (with_channels(grey, 3) == grey).all()
    with pytest.raises(BadText, match="2 channels, not 3"):
        with_channels(colour[..., :2], 3)


def test_depth_goes_there_and_back():
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(quantised(quantised(every, 16), 8), every)
    assert quantised(np.float32([-1, 0.5, 2]), 8).tolist() == [0, 128, 255]


def test_fitting_keeps_proportions_where_asked():
    wide = np.zeros((10, 20, 1), np.uint8)
    wide[:, :10] = 200
    assert fitted(wide, (8, 8)).shape == (8, 8, 1)
    padded = fitted(wide, (8, 8), "pad")
    assert (padded[:2] == 0).all() and (padded[-2:] == 0).all() and (padded[3, :3] == 200).all()
    cropped = fitted(wide, (8, 8), "crop")
    assert (cropped[:, 0] == 200).all() and (cropped[:, -1] == 0).all()
    # 1 mm pixels at 2 mm: 10 x 20 become 5 x 10, in the middle of 8 x 8.
    spaced = fitted(wide, (8, 8), factors=(0.5, 0.5))
    assert (spaced[0] == 0).all() and (spaced[6:] == 0).all() and (spaced[1:6, 0] == 200).all()
