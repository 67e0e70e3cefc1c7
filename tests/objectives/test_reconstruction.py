"""The masked autoencoder: what its encoder sees, and its loss against a plain form."""

import dataclasses

import jax
import numpy as np
import pytest
from toy_batches import FAST_COMPILE
from toy_vision import ENCODER, image_batch, jitted_apply, parameters, two_steps

from biofm_jax.data.imaging import ImageData
from biofm_jax.errors import UserError
from biofm_jax.models.image_embedding import MASK, PATCH, images_of, patches_of
from biofm_jax.models.masked_autoencoder import (
    MaskedAutoencoderSpec,
    PixelDecoder,
    split_patches,
)
from biofm_jax.objectives.reconstruction import MaskedAutoencoder, patch_errors

MODEL = MaskedAutoencoderSpec(ENCODER, PixelDecoder(layers=1, width=24, heads=2))
VOLUMES = MaskedAutoencoderSpec(
    dataclasses.replace(
        ENCODER,
        image=(4, 4, 4),
        patch=(2, 2, 2),
        width=24,
        channels=1,
        mean=(0.5,),
        deviation=(0.5,),
        registers=1,
    ),
    PixelDecoder(layers=1, width=12, heads=2),
)


def split_batch(model=MODEL, hidden=12, rows=3):
    encoder = model.encoder
    batch = image_batch(rows, size=encoder.image, channels=encoder.channels)
    noise = np.random.default_rng(1).random((rows, int(np.prod(encoder.image_grid))))
    split = jax.jit(
        lambda batch: split_patches(encoder, batch, noise, hidden), compiler_options=FAST_COMPILE
    )
    return batch, noise, jax.device_get(split(batch))


def run(batch, model=MODEL):
    return jax.device_get(jitted_apply(model)(parameters(model), batch))


@pytest.fixture(scope="module")
def split():
    return split_batch()[2]


@pytest.fixture(scope="module")
def outputs(split):
    return run(split)


def test_the_patches_with_the_highest_noise_are_hidden():
    _, noise, split = split_batch()
    for row in range(3):
        away = set(np.argsort(noise[row])[4:])
        assert set(split.predict[row] - 1) == away
        assert set(np.flatnonzero(split.tokens[row] == MASK) - 1) == away
        assert set(split.source.positions[row, 1:]) == set(range(16)) - away
    assert split.source.tokens.shape == (3, 5) and (split.source.tokens[:, 1:] == PATCH).all()


def test_hidden_patches_do_not_reach_the_model(split, outputs):
    """Whatever stands there: neither the encoder nor the decoder sees it."""
    patches = np.array(patches_of(split.images, ENCODER.patch))
    for row in range(3):
        patches[row, split.predict[row] - 1] = 255 - patches[row, split.predict[row] - 1]
    images = np.asarray(images_of(patches, ENCODER.image_grid, ENCODER.patch))
    changed = run(split.replace(images=images, source=split.source.replace(images=images)))
    np.testing.assert_array_equal(changed.source.hidden, outputs.source.hidden)
    np.testing.assert_array_equal(changed.logits, outputs.logits)
    patches[0, split.source.positions[0, 1]] ^= 128  # one that is shown
    images = np.asarray(images_of(patches, ENCODER.image_grid, ENCODER.patch))
    changed = run(split.replace(images=images, source=split.source.replace(images=images)))
    assert np.abs(changed.logits - outputs.logits)[0].min(axis=-1).max() > 1e-4
    np.testing.assert_array_equal(changed.logits[1:], outputs.logits[1:])


def test_the_order_of_what_is_shown_does_not_matter(split, outputs):
    turned = split.source.replace(
        positions=np.concatenate(
            [split.source.positions[:, :1], split.source.positions[:, :0:-1]], axis=1
        )
    )
    np.testing.assert_allclose(run(split.replace(source=turned)).logits, outputs.logits, atol=1e-5)


@pytest.mark.parametrize("normalise", [True, False])
def test_the_loss_is_that_of_a_plain_form(split, outputs, normalise):
    images = split.images / 255
    errors = np.zeros((3, 12))
    for row in range(3):
        for k, place in enumerate(split.predict[row] - 1):
            y, x = divmod(int(place), 4)
            cut = images[row, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
            target = ((cut - ENCODER.mean) / ENCODER.deviation).reshape(-1)
            if normalise:
                target = (target - target.mean()) / np.sqrt(target.var(ddof=1) + 1e-6)
            errors[row, k] = ((outputs.logits[row, k] - target) ** 2).mean()
    found = patch_errors(MaskedAutoencoder(0.75, normalise), ENCODER, outputs.logits, split)
    np.testing.assert_allclose(found, errors, rtol=1e-4)


def test_all_places_are_drawn_where_none_are_named(split, outputs):
    whole = run(split.replace(predict=None)).logits
    picked = np.take_along_axis(whole, split.predict[:, :, None], axis=1)
    np.testing.assert_allclose(picked, outputs.logits, atol=1e-6)


def test_volumes_have_patches_too():
    _, _, split = split_batch(VOLUMES, hidden=6)
    out = run(split, VOLUMES)
    assert out.logits.shape == (3, 6, 8) and out.source.hidden.shape == (3, 4, 24)
    assert np.isfinite(out.logits).all()


@pytest.fixture(scope="module")
def trained():
    return two_steps(MaskedAutoencoder(), MODEL)[0]


def test_scan_and_loop_and_microbatches_give_the_same_steps(trained):
    loop = dataclasses.replace(MODEL, encoder=dataclasses.replace(ENCODER, scan=False))
    np.testing.assert_allclose(two_steps(MaskedAutoencoder(), loop)[0], trained, rtol=1e-5)
    parts = two_steps(MaskedAutoencoder(), MODEL, accumulate=2)[0]
    np.testing.assert_allclose(parts, trained, rtol=1e-5)


@pytest.mark.parametrize(
    ("objective", "model", "words"),
    [
        (MaskedAutoencoder(), ENCODER, "set model=MaskedAutoencoderSpec"),
        (MaskedAutoencoder(rate=0.0), MODEL, "some must be hidden and some shown"),
        (MaskedAutoencoder(rate=1.0), MODEL, "hides 16 of 16 patches"),
    ],
)
def test_what_cannot_be_trained_is_refused(objective, model, words):
    with pytest.raises(UserError, match=words):
        objective.check(model, ImageData(image=(8, 8)))


def test_what_cannot_be_built_is_refused():
    with pytest.raises(UserError, match="divisible by 6"):
        dataclasses.replace(VOLUMES, decoder=PixelDecoder(width=16, heads=2)).build()
    with pytest.raises(UserError, match=r"--model\.encoder\.image 16 16"):
        MODEL.check(ImageData(image=(16, 16)), (1, 1, 1, 1))
    with pytest.raises(UserError, match=r"mesh\.context"):
        MODEL.check(ImageData(image=(8, 8)), (1, 1, 1, 2))
