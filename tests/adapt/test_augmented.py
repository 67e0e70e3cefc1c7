"""Views of images while tuning: drawn by record and step, and never where a model is judged."""

import itertools

import jax
import numpy as np
import pytest

from biofm_jax.adapt.augmented import augmented, flipped_and_cropped
from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.finetune import FinetuneSpec
from biofm_jax.adapt.tuning import tuned_adapter
from biofm_jax.data.batch import Batch
from biofm_jax.data.protein import ProteinData
from biofm_jax.errors import UserError
from biofm_jax.models.api import Model
from biofm_jax.models.transformer import TransformerSpec

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 12, 1), np.uint8)


def batch(records) -> Batch:
    zeros = np.zeros((len(records), 1), np.int32)
    examples = np.asarray(records, np.int32)[:, None]
    return Batch(zeros, zeros + 1, zeros, examples, images=IMAGES[records])


def seen(how):
    """What the model reads: (records, step, train) -> images in [0, 1]."""
    identity = Model(None, lambda params, batch, *, rngs, train: batch.images, None, None)
    apply = jax.jit(augmented(identity, how).apply, static_argnames="train")

    def run(records, step, train=True):
        key = jax.random.fold_in(jax.random.key(0), step)
        images = np.asarray(apply({}, batch(records), rngs=key, train=train))
        return images if train else images / 255

    return run


def test_flips_keep_every_pixel_and_are_drawn_by_record_and_step():
    run = seen(flipped_and_cropped((0.5, 0.5), 1.0, (8, 12)))
    whole = IMAGES / 255
    forms = [whole, whole[:, :, ::-1], whole[:, ::-1], whole[:, ::-1, ::-1]]
    drawn = []
    for step in range(8):
        found = run(range(6), step)
        gaps = [np.abs(found - form).max(axis=(1, 2, 3)) for form in forms]
        assert np.min(gaps, axis=0).max() < 1e-6
        drawn.append(np.argmin(gaps, axis=0))
    assert {*np.concatenate(drawn)} == {0, 1, 2, 3}
    assert any((a != b).any() for a, b in itertools.pairwise(drawn))  # other ones each step
    assert any(len(set(row)) > 1 for row in drawn)  # and of each record
    # In another order and place, as on other devices or in a microbatch: the same views.
    np.testing.assert_array_equal(run([4, 1, 5, 0, 2, 3], 3)[[3, 1, 4]], run(range(6), 3)[:3])
    np.testing.assert_array_equal(run(range(6), 0, train=False), whole)


def test_crops_keep_their_share():
    """A ramp from left to right ends where the crop does."""
    run = seen(flipped_and_cropped((), 0.5, (8, 12)))
    ramp = np.broadcast_to(np.arange(12, dtype=np.uint8)[:, None] * 20, (6, 8, 12, 1))
    IMAGES[:] = ramp
    wide = np.ptp(run(range(6), 1), axis=(1, 2, 3)) * 255 / 20 + 1
    assert wide.max() <= 12.01 and wide.min() >= 12 * np.sqrt(0.5 * 3 / 4) - 2
    assert len(np.unique(wide.round(3))) > 1


def test_models_of_texts_refuse_them():
    encoder = Encoder("toy", TransformerSpec(), ProteinData())
    with pytest.raises(UserError, match="change images, and toy reads protein data"):
        tuned_adapter(encoder, FinetuneSpec(flips=(0.5,)), "number", show=False)
