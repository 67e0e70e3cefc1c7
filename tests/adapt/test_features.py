import numpy as np

from biofm_jax.adapt.features import Remembered
from biofm_jax.adapt.knn import knn_adapter
from biofm_jax.adapt.labelled import Labelled
from biofm_jax.adapt.probe import probe_adapter
from biofm_jax.adapt.prototypes import prototypes_adapter


class Counting:
    """Features of texts, and which texts were asked for."""

    def __init__(self, factor=1.0):
        self.asked, self.factor = [], factor

    def __call__(self, texts):
        self.asked += texts
        return self.factor * np.array([[len(t), t.count("A")] for t in texts], np.float32)


def labelled(texts):
    targets = np.array([[t.count("A") % 2] for t in texts], float)
    return Labelled(tuple(map(str, range(len(texts)))), tuple(texts), targets)


PARTS = (
    labelled(["A" * i + "C" * j for i in range(6) for j in range(1, 6)]),
    labelled(["AC", "CC"]),
    labelled(["AAAACCCC", "AC"]).without_targets(),
)


def test_one_memory_serves_several_adapters():
    features = Counting()
    remembered = Remembered(lambda seed: features)
    for adapter, kind in (
        (probe_adapter, "number"),
        (knn_adapter, "binary"),
        (prototypes_adapter, "binary"),
    ):
        predicted = adapter(remembered, kind)(*PARTS, seed=0)
        alone = adapter(lambda seed: Counting(), kind)(*PARTS, seed=0)
        np.testing.assert_array_equal(predicted, alone)
    assert len(features.asked) == len(set(features.asked)) == 30


def test_a_control_is_remembered_for_each_of_its_seeds():
    by_seed = {seed: Counting(1.0 + seed) for seed in range(2)}
    remembered = Remembered(by_seed.get)
    for _ in range(2):
        np.testing.assert_array_equal(remembered(0, ["AC", "A", "AC"]), [[2, 1], [1, 1], [2, 1]])
        np.testing.assert_array_equal(remembered(1, ["A"]), [[2, 2]])
    assert by_seed[0].asked == ["AC", "A"] and by_seed[1].asked == ["A"]
    assert remembered(0, ["A"]).dtype == np.float64
