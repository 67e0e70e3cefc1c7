"""Views drawn on the device, beside slow forms that make one image at a time."""

import colorsys
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from toy_images import gradient

from biofm_jax.errors import UserError
from biofm_jax.objectives.image_views import (
    Drawn,
    ImageViews,
    applied,
    draw,
    multiplied,
    taken,
    views,
)

NOTHING = ImageViews(area=(1.0, 1.0), flips=(), jitter=0.0, grey=0.0, blur=0.0)
STRONG = ImageViews(size=(12, 10), flips=(0.5, 0.5), jitter=1.0, solarise=0.5)


def images(count=5, h=20, w=16, c=3):
    noise = np.random.default_rng(0).integers(0, 60, (count, h, w, c))
    return np.stack([gradient(h, w, c, i) // 2 for i in range(count)]) + noise.astype(np.uint8)


def keys(count, seed=0):
    records = jnp.arange(count)
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(records)


jitted = jax.jit(views, static_argnums=0)
boxes = jax.jit(jax.vmap(draw, (None, 0, None)), static_argnums=(0, 2))


@pytest.fixture(scope="module")
def strong():
    return lambda pixels, keys: jitted(STRONG, pixels, keys)


def slow_view(spec: ImageViews, image: np.ndarray, drawn: Drawn) -> np.ndarray:
    """(h, w, 3) uint8 to a view, by Pillow and loops."""
    top, left = (int(i) for i in drawn.start)
    h, w = (int(i) for i in drawn.extent)
    channels = []
    for channel in np.moveaxis(image / np.float32(255), -1, 0):
        cut = Image.fromarray(channel[top : top + h, left : left + w])
        channels.append(np.asarray(cut.resize(spec.size[::-1], Image.Resampling.BILINEAR)))
    made = np.stack(channels, -1).astype(np.float64)
    for axis, flip in enumerate(drawn.flip):
        made = np.flip(made, axis) if flip else made
    luma = np.array([0.2989, 0.587, 0.114])
    if drawn.jitter:
        brightness, contrast, saturation, hue = (float(f) for f in drawn.factors)
        made = np.clip(brightness * made, 0, 1)
        made = np.clip(contrast * made + (1 - contrast) * (made @ luma).mean(), 0, 1)
        grey = (made @ luma)[..., None]
        made = np.clip(saturation * made + (1 - saturation) * grey, 0, 1)
        for place in np.ndindex(made.shape[:2]):
            h, s, v = colorsys.rgb_to_hsv(*made[place])
            made[place] = colorsys.hsv_to_rgb((h + hue) % 1, s, v)
    if drawn.grey:
        made = np.repeat((made @ luma)[..., None], 3, -1)
    if drawn.sigma > 0:
        offsets = np.arange(-6, 7)
        kernel = np.exp(-0.5 * (offsets / float(drawn.sigma)) ** 2)
        kernel /= kernel.sum()
        for axis in range(2):
            margin = [(6, 6) if i == axis else (0, 0) for i in range(3)]
            padded = np.pad(made, margin, mode="reflect")
            made = np.apply_along_axis(np.convolve, axis, padded, kernel, "valid")
    if drawn.solarise:
        made = np.where(made >= spec.threshold, 1 - made, made)
    return made


def test_views_are_those_of_the_slow_form(strong):
    pixels = images(12)
    found = np.concatenate([strong(pixels[:6], keys(12)[:6]), strong(pixels[6:], keys(12)[6:])])
    assert found.shape == (12, 12, 10, 3) and found.dtype == np.float32
    kinds = set()
    every = boxes(STRONG, keys(12), (20, 16))
    for number, (image, made) in enumerate(zip(pixels, found, strict=True)):
        drawn = jax.tree.map(lambda leaf, i=number: leaf[i], every)
        expected = slow_view(STRONG, image, drawn)
        close = np.isclose(made, expected, atol=2e-4).all(-1)
        if drawn.solarise:  # a pixel beside the threshold may fall on either side
            close |= (np.abs(expected - 0.5) < 1e-3).any(-1)
        assert close.all()
        kinds |= {("grey", bool(drawn.grey)), ("blur", bool(drawn.sigma > 0))}
        kinds |= {("flip", bool(drawn.flip[1])), ("solarise", bool(drawn.solarise))}
    assert len(kinds) == 8  # each of the four happened, and did not


def test_a_crop_is_torchvisions():
    """torchvision cuts out, then calls this function (v2.functional.resized_crop)."""
    torch = pytest.importorskip("torch")
    image = images(1)[0]
    spec = dataclasses.replace(NOTHING, size=(9, 11))
    drawn = jax.tree.map(lambda leaf: leaf[0], boxes(spec, keys(1), (20, 16)))
    cropped = jax.jit(applied, static_argnums=0)
    for start, extent in (((2, 3), (15, 8)), ((0, 0), (20, 16)), ((5, 1), (4, 13))):
        box = dataclasses.replace(drawn, start=jnp.array(start), extent=jnp.array(extent))
        cut = image[start[0] :, start[1] :][: extent[0], : extent[1]]
        expected = torch.nn.functional.interpolate(
            torch.tensor(cut).permute(2, 0, 1)[None] / 255,
            size=spec.size,
            mode="bilinear",
            antialias=True,
        )[0].permute(1, 2, 0)
        found = cropped(spec, jnp.asarray(image / np.float32(255)), box)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("there", "wanted"), [(20, 20), (30, 4)])
def test_both_ways_to_crop_give_the_same(there, wanted):
    """What a CPU does and what an accelerator does."""
    line = jax.random.uniform(jax.random.key(0), (there, 3))
    for start, extent, flip in ((0, there, False), (3, there - 5, True), (there - 1, 1, False)):
        box = (jnp.array(start), jnp.array(extent), jnp.array(flip))
        few = taken(0, wanted, line, *box)
        np.testing.assert_allclose(few, multiplied(0, wanted, line, *box), atol=1e-5)


def test_a_view_depends_on_its_key_and_image_alone(strong):
    pixels = images(6)
    whole = strong(pixels, keys(6))
    other = np.concatenate([pixels[3:4], images(5)[::-1]])
    mixed = strong(other, jnp.concatenate([keys(6)[3:4], keys(6, 7)[:5]]))
    np.testing.assert_array_equal(mixed[0], whole[3])
    assert not np.allclose(whole, strong(pixels, keys(6, 1)))
    parts = [strong(pixels[i : i + 3], keys(6)[i : i + 3]) for i in (0, 3)]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)


def test_boxes_keep_to_area_and_aspect():
    spec = dataclasses.replace(NOTHING, area=(0.2, 0.5), aspect=(0.5, 2.0))
    drawn = boxes(spec, keys(400), (100, 80))
    share = np.asarray(drawn.extent).prod(1) / 8000
    aspect = np.asarray(drawn.extent[:, 1] / drawn.extent[:, 0])
    assert 0.19 < share.min() < 0.22 and 0.46 < share.max() < 0.51
    assert 0.48 < aspect.min() < 0.55 and 1.7 < aspect.max() < 2.05
    assert (drawn.start >= 0).all() and (drawn.start + drawn.extent <= jnp.array([100, 80])).all()
    np.testing.assert_array_equal(drawn.start.min(0), 0)
    # No box of these shapes fits into a strip: the widest that is allowed, in the middle.
    strip = draw(dataclasses.replace(NOTHING, aspect=(0.5, 1.0)), jax.random.key(0), (10, 40))
    assert strip.extent.tolist() == [10, 10] and strip.start.tolist() == [0, 15]


def test_volumes_and_grey_images():
    volume = images(2 * 6).reshape(2, 6, 20, 16, 3)[..., :1]
    whole = dataclasses.replace(NOTHING, aspect=(1.0, 1.0))
    same = jitted(whole, volume, keys(2))
    np.testing.assert_allclose(same, volume / np.float32(255), atol=1e-6)
    flipped = jitted(dataclasses.replace(whole, flips=(1.0, 0.0, 1.0)), volume, keys(2))
    np.testing.assert_allclose(flipped, same[:, ::-1, :, ::-1], atol=1e-6)
    spec = ImageViews(size=(4, 10, 8), area=(0.3, 0.6), flips=(0.5,) * 3)
    made = jitted(spec, volume, keys(2))
    assert made.shape == (2, 4, 10, 8, 1) and 0 <= made.min() < made.max() <= 1
    drawn = boxes(spec, keys(200), (6, 20, 16))
    share = np.asarray(drawn.extent).prod(1) / (6 * 20 * 16)
    assert share.min() > 0.2 and share.max() < 0.75 and len(set(drawn.extent[:, 0].tolist())) > 2


@pytest.mark.parametrize(
    "change", [{"blur": 1.5}, {"hue": 0.7}, {"area": (0.0, 1.0)}, {"flips": (-1.0,)}]
)
def test_impossible_views_are_refused(change):
    with pytest.raises(UserError, match=f"views.{next(iter(change))}"):
        ImageViews(**change)


def test_views_of_other_axes_are_refused():
    with pytest.raises(UserError, match="images of 2 axes"):
        views(ImageViews(size=(4, 4, 4)), images(1), keys(1))
