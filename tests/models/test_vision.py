"""A vision transformer: patches and positions against their plain forms, images by themselves."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from toy_batches import FAST_COMPILE

from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.image_embedding import (
    MASK,
    image_tokens,
    images_of,
    patches_of,
    resampled,
    sine_cosine,
)
from biofm_jax.models.vision import VisionSpec

SPEC = VisionSpec(
    layers=2, width=16, heads=2, image=(8, 12), patch=(4, 4), registers=2, mask_vector=True
)
VOLUMES = dataclasses.replace(
    SPEC, image=(4, 4, 8), patch=(2, 4, 4), channels=1, mean=(0.5,), deviation=(0.5,)
)


def batch_of(images) -> Batch:
    ids = np.zeros((len(images), 1), np.int32)
    examples = np.arange(len(images), dtype=np.int32)[:, None]
    return Batch(ids, ids + 1, ids, examples, images=images)


def random_images(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


@functools.cache
def parameters(spec=SPEC):
    params = jax.jit(spec.build().init, compiler_options=FAST_COMPILE)(jax.random.key(0), None)
    return jax.device_get(params)


@functools.cache
def compiled(spec=SPEC):
    return jax.jit(spec.build().apply, compiler_options=FAST_COMPILE)


def run(batch, spec=SPEC):
    return jax.device_get(compiled(spec)(parameters(spec), batch))


@pytest.fixture(scope="module")
def images():
    return random_images(3, 8, 12, 3)


@pytest.fixture(scope="module")
def whole(images):
    return run(batch_of(images))


def test_patches_are_the_pixels_under_them(images):
    found = np.asarray(patches_of(images, (4, 4)))
    assert found.shape == (3, 6, 48)
    np.testing.assert_array_equal(found[1, 4], images[1, 4:8, 4:8].reshape(-1))
    np.testing.assert_array_equal(images_of(found, (2, 3), (4, 4)), images)


def test_patches_of_volumes():
    volumes = random_images(2, 4, 4, 8, 1)
    found = np.asarray(patches_of(volumes, (2, 4, 4)))
    np.testing.assert_array_equal(found[0, 3], volumes[0, 2:4, 0:4, 4:8].reshape(-1))
    np.testing.assert_array_equal(images_of(found, (2, 1, 2), (2, 4, 4)), volumes)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("new", [(9, 10), (16, 15)])
def test_positions_are_resampled_as_torch_does(antialias, new):
    torch = pytest.importorskip("torch")
    table = np.random.default_rng(0).normal(size=(14 * 14, 5)).astype(np.float32)
    found = np.asarray(resampled(table, (14, 14), new, antialias)).reshape(*new, 5)
    grid = torch.tensor(table).reshape(1, 14, 14, 5).permute(0, 3, 1, 2)
    options = dict(size=new, mode="bicubic", align_corners=False, antialias=antialias)
    wanted = torch.nn.functional.interpolate(grid, **options)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, wanted, atol=3e-6)


def test_sines_and_cosines_by_hand():
    table = sine_cosine((2, 3), 8)
    x, y, rate = 2, 1, 10_000 ** -(1 / 2)
    wanted = [f(a * r) for a in (x, y) for f in (np.sin, np.cos) for r in (1, rate)]
    np.testing.assert_allclose(table[5], wanted, rtol=1e-6)


def test_an_image_does_not_know_its_neighbours(images, whole):
    alone = run(batch_of(images[[1, 1, 1]]))
    np.testing.assert_allclose(alone.hidden[0], whole.hidden[1], atol=1e-6)
    assert whole.hidden.shape == (3, SPEC.tokens, 16) and whole.pooled.shape == (3, 1, 16)


def test_the_class_token_or_the_mean_of_the_patches(images, whole):
    np.testing.assert_allclose(whole.pooled[:, 0], whole.hidden[:, 0], atol=1e-6)
    mean = run(batch_of(images), dataclasses.replace(SPEC, pooling="mean"))
    np.testing.assert_allclose(mean.pooled[:, 0], mean.hidden[:, 3:].mean(1), atol=1e-6)


def test_an_empty_row_is_finite_and_pools_to_zero(images):
    batch = batch_of(images)
    batch = batch.replace(segment_ids=np.array([[1], [0], [1]], np.int32))
    out = run(batch)
    assert np.isfinite(out.hidden).all() and not out.pooled[1].any() and out.pooled[2].any()


def test_pixels_of_any_depth_are_the_same_image(images, whole):
    deep = run(batch_of(images.astype(np.uint16) * 257))
    unit = run(batch_of(images.astype(np.float32) / 255))
    np.testing.assert_allclose(deep.hidden, whole.hidden, atol=1e-6)
    np.testing.assert_allclose(unit.hidden, whole.hidden, atol=1e-6)


def test_patches_left_out_are_not_seen(images):
    rows = jax.tree.map(np.asarray, image_tokens(SPEC, batch_of(images)))
    kept = [0, 1, 2, 3 + 4, 3 + 1]  # class, registers, patches 4 and 1
    names = ("tokens", "positions", "segment_ids")
    shown = rows.replace(**{name: getattr(rows, name)[:, kept] for name in names})
    changed = images.copy()
    changed[:, :4, :4] = 0  # patch 0
    out, same = run(shown), run(shown.replace(images=changed))
    np.testing.assert_array_equal(out.hidden, same.hidden)
    order = shown.replace(positions=shown.positions[:, [0, 1, 2, 4, 3]])
    np.testing.assert_allclose(run(order).pooled, out.pooled, atol=1e-6)


def test_a_masked_patch_is_hidden_but_has_its_place(images):
    rows = jax.tree.map(np.asarray, image_tokens(SPEC, batch_of(images)))
    tokens = rows.tokens.copy()
    tokens[:, 3] = MASK
    changed = images.copy()
    changed[:, :4, :4] = 0
    out = run(rows.replace(tokens=tokens))
    same = run(rows.replace(tokens=tokens, images=changed))
    np.testing.assert_array_equal(out.hidden, same.hidden)
    tokens[:, 4] = MASK
    both = run(rows.replace(tokens=tokens))
    assert np.abs(both.hidden[:, 3] - both.hidden[:, 4]).max() > 1e-3


def test_volumes_and_scan_off():
    batch = batch_of(random_images(2, 4, 4, 8, 1))
    out = run(batch, VOLUMES)
    assert out.hidden.shape == (2, VOLUMES.tokens, 16)
    loop = jax.jit(dataclasses.replace(VOLUMES, scan=False).build().apply)
    found = loop(parameters(VOLUMES), batch)
    np.testing.assert_allclose(found.hidden, out.hidden, atol=1e-6)


def test_fixed_positions_are_never_trained():
    spec = dataclasses.replace(SPEC, grid_positions="sincos")
    names = spec.build().axes(parameters(spec))["embed"]["positions"]
    assert names[0] == "buffer"
    np.testing.assert_allclose(
        parameters(spec)["embed"]["positions"][1:], sine_cosine((2, 3), 16), atol=1e-7
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(image=(8, 10)), r"image is \(8, 10\).*divisible by patch"),
        (dict(patch=(4,)), "patch is .*2 positive numbers"),
        (dict(channels=1), "mean is .*channels=1"),
        (dict(class_token=False), "class_position"),
        (dict(width=18, grid_positions="sincos"), "width is 18.*divisible by 4"),
        (dict(head=LanguageHead()), "head is .*patches are no vocabulary"),
        (dict(grid=(2,)), "grid is"),
    ],
)
def test_fields_that_do_not_go_together(fields, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(SPEC, **fields).build()


def test_images_of_another_kind_are_named(images):
    apply = SPEC.build().apply
    with pytest.raises(UserError, match=r"do not divide images of \(7, 12\); .*\(8, 12\)"):
        apply(parameters(), batch_of(images[:, :7]))
    with pytest.raises(UserError, match=r"pictures .*of 3 channels.*data.channels"):
        apply(parameters(), batch_of(images[..., :1]))
    with pytest.raises(UserError, match="set data=ImageData"):
        apply(parameters(), batch_of(images).replace(images=None))
