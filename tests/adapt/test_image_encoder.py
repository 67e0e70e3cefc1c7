"""A vision transformer as an encoder: pooling, layers, and every adaptation of images."""

import jax
import numpy as np
import pytest
from toy_pictures import toy_pneumonia

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.fractions import limited_adapter
from biofm_jax.adapt.knn import knn_adapter
from biofm_jax.adapt.layer_states import layer_states
from biofm_jax.adapt.lora_tuning import LoraSpec
from biofm_jax.adapt.probe import probe_adapter
from biofm_jax.adapt.tuning import tuned_adapter
from biofm_jax.data.batch import Batch
from biofm_jax.data.imaging import ImageData
from biofm_jax.data.in_memory import pack_examples
from biofm_jax.data.pictures import Picture
from biofm_jax.errors import UserError
from biofm_jax.evaluate.metrics import metric_value
from biofm_jax.evaluate.tasks.imaging import load_pneumonia
from biofm_jax.models.vision import VisionSpec

SPEC = VisionSpec(layers=2, width=16, heads=2, image=(16, 16), patch=(4, 4), channels=1,
                  registers=1, mean=(0.5,), deviation=(0.25,), init_std=0.1)  # fmt: skip


@pytest.fixture(scope="module")
def encoder():
    params = jax.jit(SPEC.build().init)(jax.random.key(0), None)
    return Encoder("toy", SPEC, ImageData(image=(16, 16), channels=1), params)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return load_pneumonia(toy_pneumonia(tmp_path_factory.mktemp("root"), train=48))


@pytest.fixture(scope="module")
def states(encoder, data):
    """Pixels of six pictures and all their hidden states, computed directly."""
    pictures = data.items.texts[:6]
    packed = encoder.tokenize(pictures)
    images = np.stack([example.pixels for example in packed])
    ids = np.zeros((6, 1), np.int32)
    batch = Batch(ids, ids + 1, ids, np.arange(6)[:, None].astype(np.int32), images=images)
    model = SPEC.build()
    outputs = jax.jit(lambda p, b: model.apply(p, b, collect=("layers",)))(encoder.params, batch)
    return pictures, np.asarray(outputs.hidden), np.asarray(outputs.layers)


def test_pooling_is_of_the_class_token_or_of_the_patches(encoder, states):
    pictures, hidden, _ = states
    np.testing.assert_allclose(encoder.features(0)(pictures), hidden[:, 0], atol=1e-5)
    mean = encoder.features(0, "mean")(pictures)
    np.testing.assert_allclose(mean, hidden[:, 2:].mean(1), atol=1e-5)


@pytest.mark.parametrize("layer", [0, 1])
def test_a_layer_is_that_of_the_whole_model(encoder, states, layer):
    pictures, _, layers = states
    found = encoder.features(0, "mean", layer)(pictures)
    np.testing.assert_allclose(found, layers[layer][:, 2:].mean(1), atol=1e-5)


def test_all_layers_at_once_are_those_one_by_one(encoder, states):
    pictures, _, layers = states
    run, parts = layer_states(SPEC, encoder.params, (0, 2), "cls")
    examples = encoder.tokenize(pictures)
    (batch,) = pack_examples(examples, None, max_tokens=1, segments=1, batch_size=6).batches
    for state, layer in zip(run(parts, batch), (0, 2)):
        np.testing.assert_allclose(state[:, 0], layers[layer][:, 0], atol=1e-5)


def test_images_are_read_in_parts(encoder, states, monkeypatch):
    pictures, hidden, _ = states
    monkeypatch.setattr("biofm_jax.adapt.encoder.IMAGES", 4)
    np.testing.assert_allclose(encoder.features(0)(pictures), hidden[:, 0], atol=1e-5)


def test_an_absent_or_damaged_image_is_named(encoder, tmp_path):
    with pytest.raises(UserError, match=r"text 1, 'scans/a\.png'.*there is no such file"):
        encoder.tokenize([Picture("scans/a.png", tmp_path)])
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 40)
    with pytest.raises(UserError, match=r"b\.png: the picture is cut short|holds no picture"):
        encoder.tokenize([Picture("b.png", tmp_path)])


@pytest.fixture(scope="module")
def adapters(encoder):
    lora = LoraSpec(epochs=12, rows=16, learning_rate=1e-2, flips=(0.5, 0.5), crop=0.8)
    return {
        "probe": probe_adapter(encoder.features_for_seeds("mean"), "binary"),
        "knn": knn_adapter(encoder.features_for_seeds("mean"), "binary"),
        "lora": tuned_adapter(encoder, lora, "binary", show=False),
    }


# A random encoder's neighbours say little; what is trained finds the lesions.
@pytest.mark.parametrize(("method", "least"), [("probe", 0.8), ("knn", 0.55), ("lora", 0.85)])
def test_every_method_finds_planted_lesions(adapters, data, method, least):
    found = data.predict_tested(adapters[method], 0)
    assert found.shape == (24, 1)
    assert metric_value("auroc", data.tested.targets, found) > least


@pytest.mark.parametrize("limit", ["probe@25%", "probe@4shot"])
def test_few_labels_are_drawn_of_images_too(adapters, data, limit):
    adapter = limited_adapter(adapters["probe"], limit, "binary")
    assert np.isfinite(data.predict_tested(adapter, 0)).all()
