"""The small network of images: sizes, independence of the batch, and that it learns a lesion."""

import dataclasses

import jax
import numpy as np
import pytest
from toy_pictures import toy_pneumonia

from biofm_jax.adapt.finetune import FinetuneSpec
from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.evaluate.baselines import BASELINES
from biofm_jax.evaluate.metrics import metric_value
from biofm_jax.evaluate.tasks.imaging import load_pneumonia
from biofm_jax.models.convolutional import ConvolutionalSpec


def batch(images: np.ndarray) -> Batch:
    ids = np.zeros((len(images), 1), np.int32)
    examples = np.arange(len(images), dtype=np.int32)[:, None]
    return Batch(ids, ids + 1, ids, examples, images=images)


def test_an_image_is_read_alone_and_colour_counts():
    spec = ConvolutionalSpec(image=(8, 8), channels=3, stages=(4, 8))
    model = spec.build()
    params = model.init(jax.random.key(0), None)
    names = jax.tree.map(
        lambda names: len(names), model.axes(params), is_leaf=lambda x: type(x) is tuple
    )
    assert names == jax.tree.map(lambda leaf: leaf.ndim, params)
    images = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3)).astype(np.uint8)
    run = jax.jit(model.apply)
    whole = run(params, batch(images)).logits
    changed = images.copy()
    changed[1:] = changed[1:, :, :, ::-1]
    other = run(params, batch(changed)).logits
    np.testing.assert_allclose(whole[0], other[0], rtol=1e-6)
    assert not np.allclose(whole[1:], other[1:])
    assert whole.shape == (3, 1, 1)


def test_sides_that_cannot_be_halved_are_refused():
    with pytest.raises(UserError, match="each side must be divisible by 4"):
        ConvolutionalSpec(image=(10, 12)).build()


def test_the_baseline_finds_planted_lesions(tmp_path):
    data = load_pneumonia(toy_pneumonia(tmp_path, train=48))
    tuning = FinetuneSpec(epochs=10, rows=16, learning_rate=5e-3)
    network = dataclasses.replace(BASELINES["small_cnn"], tuning=tuning)
    found = data.predict_tested(network, 0)
    assert metric_value("auroc", data.tested.targets, found) > 0.95
