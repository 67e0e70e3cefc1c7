"""Images with their classes: targets are the labels of the source, by name."""

import dataclasses

import numpy as np
import pytest
from toy_pictures import toy_ebhi

from biofm_jax.data.labelled_images import LabelledImageData
from biofm_jax.errors import UserError


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("BIOFM_CACHE", str(tmp_path / "cache"))
    path = toy_ebhi(tmp_path) / "imaging/ebhi_colorectal/labels.csv"
    return LabelledImageData(
        path=str(path), image=(8, 8), channels=1, holdout=0.0, classes=("Polyp", "Normal")
    )


def test_targets_are_the_labels(data):
    store = data.open()
    batch = next(data.batches(store, batch_size=32, seed=0, epochs=1, holdout=False))
    wanted = [float(store.records[i]["label"] == "Normal") for i in batch.examples[:20, 0]]
    np.testing.assert_array_equal(batch.targets[:20, 0, 0], wanted)
    np.testing.assert_array_equal(batch.weights[:, 0, 0], [1] * 20 + [0] * 12)
    shapes = data.shapes(32)
    assert (batch.targets.shape, batch.targets.dtype) == (shapes.targets.shape, "float32")


def test_an_unknown_label_and_classes_that_are_none_are_refused(data):
    other = dataclasses.replace(data, classes=("Polyp", "Wart"))
    with pytest.raises(UserError, match=r"images/Normal_0\.jpg has the label 'Normal', which is"):
        next(other.batches(other.open(), batch_size=4, seed=0))
    with pytest.raises(UserError, match="name two labels"):
        dataclasses.replace(data, classes=("Polyp",))
