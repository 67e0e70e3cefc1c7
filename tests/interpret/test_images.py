"""Maps of images against what they should be by definition, and reconstructions."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from PIL import Image
from toy_images import write_dicom
from toy_pictures import planted

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.data.batch import Batch
from biofm_jax.data.imaging import ImageData
from biofm_jax.data.pictures import Picture
from biofm_jax.errors import UserError
from biofm_jax.interpret.gradients import points_inside
from biofm_jax.interpret.images import (
    attention_maps,
    gradient_maps,
    image_batch,
    over_patches,
    over_pixels,
    pooled_vector,
    read_image,
    read_mask,
)
from biofm_jax.interpret.reconstruction import GREY, reconstruct
from biofm_jax.models.masked_autoencoder import MaskedAutoencoderSpec, PixelDecoder
from biofm_jax.models.vision import VisionSpec
from biofm_jax.objectives.reconstruction import MaskedAutoencoder

SPEC = VisionSpec(layers=1, width=8, heads=2, image=(8, 8), patch=(4, 4), channels=1,
                  registers=1, mean=(0.5,), deviation=(0.25,), init_std=0.4)  # fmt: skip
IMAGE = np.random.default_rng(0).random((8, 8, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def encoder():
    params = jax.jit(SPEC.build().init)(jax.random.key(0), None)
    return Encoder("toy", SPEC, ImageData(image=(8, 8), channels=1), params)


def test_of_one_block_the_last_layer_is_its_attention_and_rollout_adds_the_residual(encoder):
    model = SPEC.build()
    run = jax.jit(lambda p: model.apply(p, image_batch(IMAGE), collect=("attentions",)).attentions)
    weights = run(encoder.params)
    wanted = np.asarray(weights)[0, 0].mean(0)[0, 2:]  # from the class token to the four patches
    found = attention_maps(encoder, IMAGE).values
    patches = found["last layer"][::4, ::4].reshape(-1)
    np.testing.assert_allclose(patches, wanted / wanted.sum(), rtol=1e-5)
    # The residual stream gives to the class token itself, not to patches.
    np.testing.assert_allclose(found["rollout"], found["last layer"], rtol=1e-5)
    mean = dataclasses.replace(encoder, spec=dataclasses.replace(SPEC, pooling="mean"))
    rows = np.asarray(weights)[0, 0].mean(0)[2:, 2:].mean(0)
    found = attention_maps(mean, IMAGE).values["last layer"][::4, ::4].reshape(-1)
    np.testing.assert_allclose(found, rows / rows.sum(), rtol=1e-5)


def test_integrated_gradients_add_up_and_the_gradient_is_a_difference_quotient(encoder):
    weights = np.random.default_rng(1).normal(size=8)
    maps = gradient_maps(encoder, IMAGE, weights, steps=48)
    plain = np.full_like(IMAGE, 0.5)
    change = (pooled_vector(encoder, IMAGE) - pooled_vector(encoder, plain)) @ weights
    total = maps.values["integrated gradients"].sum()
    assert total == pytest.approx(change, rel=0.02)
    assert maps.gap == pytest.approx(total - change, abs=1e-5)
    moved = IMAGE.copy()
    moved[3, 5] += 1e-2
    back = IMAGE.copy()
    back[3, 5] -= 1e-2
    slope = (pooled_vector(encoder, moved) - pooled_vector(encoder, back)) @ weights / 2e-2
    assert maps.values["gradient"][3, 5] == pytest.approx(abs(slope), rel=0.02)
    signed = slope * (IMAGE[3, 5, 0] - 0.5)
    assert maps.values["gradient x input"][3, 5] == pytest.approx(signed, rel=0.02)
    assert "integrated gradients" not in gradient_maps(encoder, IMAGE, weights, steps=0).values


def test_places_of_patches():
    values = over_pixels(np.arange(4.0), SPEC)
    assert values[0, 3] == 0 and values[0, 4] == 1 and values[4, 0] == 2 and values[7, 7] == 3
    pixels = np.zeros((8, 8))
    pixels[5, 1], pixels[6, 2], pixels[0, 0] = -2, 1, 2.5
    sums = over_patches(pixels, (4, 4))
    assert sums[4, 3] == 3 and sums[3, 3] == 2.5 and sums[7, 7] == 0
    mask = np.zeros((8, 8), bool)
    mask[4:6, :4] = True
    assert points_inside(sums, mask) == 0.5  # half of the highest patch


def test_a_mask_is_resampled_in_mm_as_its_image_is(tmp_path):
    pixels = np.zeros((8, 16), np.int16)
    pixels[2:4, 8:12] = 100
    write_dicom(tmp_path / "a.dcm", pixels, spacing=(1.0, 0.5))
    (tmp_path / "masks").mkdir()
    Image.fromarray(pixels > 0).save(tmp_path / "masks" / "a.png")
    data = ImageData("unused", image=(12, 12), channels=1, spacing=(1.0, 1.0))
    picture = Picture("a.dcm", tmp_path)
    image = data.to_example()(data.clean(picture)).pixels[..., 0]
    np.testing.assert_array_equal(read_mask(data, picture, tmp_path / "masks"), image > 127)
    assert (image > 127).sum() == 4


def test_masks_are_read_as_images_are(encoder, tmp_path):
    mask = np.zeros((16, 16), bool)
    mask[:8, 8:] = True
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks" / "a.png")
    Image.fromarray(np.zeros_like(mask)).save(tmp_path / "masks" / "b.png")
    found = read_mask(encoder.data, Picture("images/a.jpg", tmp_path), tmp_path / "masks")
    np.testing.assert_array_equal(found, mask[::2, ::2])
    vessel = np.zeros((64, 64), bool)
    vessel[:, 10] = True  # an eighth of a pixel of the model
    Image.fromarray(vessel).save(tmp_path / "masks" / "v.png")
    found = read_mask(encoder.data, Picture("v.jpg", tmp_path), tmp_path / "masks")
    assert found[:, 1].all() and found.sum() == 8
    for name in ("b.jpg", "c.jpg"):  # empty; absent
        assert read_mask(encoder.data, Picture(name, tmp_path), tmp_path / "masks") is None
    Image.fromarray(mask).save(tmp_path / "d.png")
    assert read_image(encoder, Picture("d.png", tmp_path)).max() == 1
    (tmp_path / "masks" / "e.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"e\.png"):
        read_mask(encoder.data, Picture("e.jpg", tmp_path), tmp_path / "masks")
    (tmp_path / "e.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"e\.png"):
        read_image(encoder, Picture("e.png", tmp_path))


def test_a_model_without_attention_is_refused(encoder):
    from biofm_jax.models.convolutional import ConvolutionalSpec

    other = dataclasses.replace(encoder, spec=ConvolutionalSpec((8, 8), 1, (4,)))
    with pytest.raises(UserError, match="no vision transformer"):
        attention_maps(other, IMAGE)


def test_a_decoder_that_says_nothing_draws_the_mean_it_is_told():
    encoder = dataclasses.replace(SPEC, grid_positions="sincos", image=(16, 16), pooling="mean")
    spec = MaskedAutoencoderSpec(encoder, PixelDecoder(layers=1, width=8, heads=2))
    params = jax.jit(spec.build().init)(jax.random.key(0), None)
    params["decoder"]["head"] = jax.tree.map(np.zeros_like, params["decoder"]["head"])
    images = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 1)).astype(np.uint8)
    drawn = reconstruct(spec, params, MaskedAutoencoder(0.75), images)
    hidden = np.isclose(drawn.shown, GREY).reshape(2, 4, 4, 4, 4, 1).all((2, 4, 5))
    assert hidden.sum() == 24
    over = np.repeat(np.repeat(hidden, 4, axis=1), 4, axis=2)
    np.testing.assert_allclose(drawn.images, images / 255, atol=1e-6)
    np.testing.assert_allclose(drawn.drawn[~over], drawn.images[~over], atol=1e-6)
    found, true = (x.reshape(2, 4, 4, 4, 4).transpose(0, 1, 3, 2, 4).reshape(2, 4, 4, 16)[hidden]
                   for x in (drawn.drawn, drawn.images))  # fmt: skip
    wanted = true.mean(-1, keepdims=True)
    np.testing.assert_allclose(found, np.broadcast_to(wanted, found.shape), atol=1e-5)
    assert drawn.error == pytest.approx(drawn.blank)


def test_a_model_that_learned_planted_lesions_points_at_them():
    spec = dataclasses.replace(SPEC, image=(16, 16), width=16, pooling="mean", registers=0)
    rng = np.random.default_rng(0)
    pictures = [planted(i % 2 == 1, rng) for i in range(96)]
    images = np.stack([pixels[..., None] for pixels, _ in pictures]).astype(np.float32) / 255
    ids = np.zeros((64, 1), np.int32)
    batch = Batch(ids, ids + 1, ids, ids, images=images[:64])
    labels, model, optimizer = np.arange(64) % 2, spec.build(), optax.adam(1e-2)

    def loss(weights):
        params, readout = weights
        score = model.apply(params, batch).pooled[:, 0] @ readout
        return optax.sigmoid_binary_cross_entropy(score, labels).mean()

    def step(_, carry):
        weights, state = carry
        updates, state = optimizer.update(jax.grad(loss)(weights), state)
        return optax.apply_updates(weights, updates), state

    @jax.jit
    def trained(key):
        weights = model.init(key, None), jax.numpy.ones(16) / 4
        return jax.lax.fori_loop(0, 150, step, (weights, optimizer.init(weights)))[0]

    params, readout = trained(jax.random.key(0))
    encoder = Encoder("toy", spec, ImageData(image=(16, 16), channels=1), params)
    hits = []
    for image, (_, mask) in zip(images[65::2], pictures[65::2]):
        added = gradient_maps(encoder, image, readout, steps=0).values["gradient x input"]
        hits.append(points_inside(over_patches(added, (4, 4)), mask))
    assert np.mean(hits) > 0.8  # by chance one in sixteen
