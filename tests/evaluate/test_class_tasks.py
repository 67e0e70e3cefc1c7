"""A label of classes from the task to the report."""

import dataclasses

import numpy as np
import pytest
from pictures import is_cut
from sklearn.metrics import accuracy_score

from biofm_jax import compare
from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.knn import knn_adapter
from biofm_jax.adapt.labelled import Labelled
from biofm_jax.adapt.probe import probe_adapter
from biofm_jax.compare import Adapters, Tuning
from biofm_jax.data.protein import ProteinData
from biofm_jax.errors import UserError
from biofm_jax.evaluate import figures
from biofm_jax.evaluate.baselines import BASELINES
from biofm_jax.evaluate.report import write_report
from biofm_jax.evaluate.results import read_results
from biofm_jax.evaluate.run import Contender, rows_beside_baselines
from biofm_jax.evaluate.splits import Fold
from biofm_jax.evaluate.task import Dataset, Task
from biofm_jax.models.transformer import TransformerSpec

NAMES = ("alanine", "cysteine", "neither")
METHODS = ("probe", "knn", "prototypes")


def dataset(n=240, seed=0):
    """Proteins rich in one residue, or in none."""
    rng = np.random.default_rng(seed)
    label = rng.integers(3, size=n)
    texts = tuple(
        "".join(rng.choice(list("ACDEFGHIK"), 12)) + ("A" * 8, "C" * 8, "DEFG")[one]
        for one in label
    )
    items = Labelled(tuple(map(str, range(n))), texts, label[:, None].astype(float))
    fold = Fold.from_labels(np.array(["train", "train", "valid", "test"])[np.arange(n) % 4])
    return Dataset(items, (fold,), ("rich in",), classes=NAMES)


def task(metric="accuracy"):
    return Task(
        name="toy/classes",
        modality="protein",
        data=lambda root: dataset(),
        split="by hand",
        metric=metric,
        unit="",
        baselines=("majority",),
    )


def counts(texts):
    return np.array([[text.count("A"), text.count("C"), len(text)] for text in texts], float)


def noise(seed):
    return lambda texts: np.random.default_rng(seed).normal(size=(len(texts), 3))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    contender = Contender(
        "toy", "probe", probe_adapter(lambda seed: counts, "class"), probe_adapter(noise, "class")
    )
    rows = rows_beside_baselines(task(), contender, seeds=(0, 1), out=out)
    fewer = [compare.limited([name], shots=(8,))[0] for name in ("knn",)]
    for name in fewer:
        adapter = compare.limited_adapter(knn_adapter(lambda seed: counts, "class"), name, "class")
        rows_beside_baselines(task(), Contender("toy", name, adapter, None), seeds=(0,), out=out)
    return out, rows


def test_a_result_has_the_score_of_class_numbers_and_their_names(results):
    out, rows = results
    found, problems = read_results([out])
    assert not problems
    (first,) = [r for r in found if (r.model, r.method, r.seed) == ("toy", "probe", 0)]
    assert first.classes == NAMES and set(first.predictions.predicted[:, 0]) <= {0, 1, 2}
    assert first.score.value == accuracy_score(first.predictions.truth, first.predictions.predicted)
    assert first.score.value > 0.9 > 0.6 > first.control.value
    majority = np.bincount(first.predictions.truth[:, 0].astype(int)).max() / first.n_test
    assert first.baselines["majority"].value <= majority
    # There are no probabilities of classes to calibrate.
    assert first.calibration is None and first.recalibration is None
    (few,) = [r for r in found if r.method == "knn@8shot"]
    assert few.n_train == 24  # 8 of each class
    assert {r.method for r in found if r.model == "majority"} == {"baseline", "baseline@8shot"}
    assert rows[0].value.score.value == pytest.approx(first.score.value)


def test_the_report_shows_confusions(results, tmp_path):
    out, _ = results
    page = write_report([out], tmp_path / "report.html")
    assert not page.problems
    text = page.html.read_text()
    assert "accuracy" in text and "toy/classes" in text
    found, _ = read_results([out])
    for result in found:
        assert not is_cut(figures.predictions(result))
        # Results of old versions have no names; other tasks have long ones.
        for names in ((), ("yes", "no", "maybe"), tuple(f"a long name, {n}" for n in NAMES)):
            assert not is_cut(figures.predictions(dataclasses.replace(result, classes=names)))


@pytest.mark.parametrize("metric", ["f1", "mcc"])
def test_other_metrics_of_classes(metric, tmp_path):
    contender = Contender("toy", "probe", probe_adapter(lambda seed: counts, "class"), None)
    row = rows_beside_baselines(task(metric), contender, seeds=(0,), out=tmp_path)[0]
    assert row.value.score.value > 0.85
    floor = {"f1": 0.2, "mcc": 0.0}[metric]
    assert row.baselines["majority"].value == pytest.approx(floor, abs=0.05)


def test_frozen_methods_of_a_model_take_classes():
    encoder = Encoder("toy", TransformerSpec(layers=1, width=16, heads=2), ProteinData())
    adapters, data = Adapters(Tuning()), dataset(120)
    fold = data.folds[0]
    train, valid, test = (data.part(part) for part in (fold.train, fold.valid, fold.test))
    for name in (*METHODS, "probe@4shot", "knn@20%", "prototypes+shuffled"):
        adapter = adapters.of(encoder, name, "class", None)
        got = adapter(train, valid, test.without_targets(), 0)
        assert got.shape == (len(test), 1) and set(got[:, 0]) <= {0.0, 1.0, 2.0}
        if "shuffled" not in name and "@" not in name:
            assert np.mean(got == test.targets) > 0.5


def test_methods_that_fit_classes_are_planned():
    methods = [*METHODS, "finetune", "lora", "probe@3%", "knn@4shot", "prototypes+shuffled"]
    assert len(compare.plan(["pubmedqa"], methods, seeds=1)) == len(methods)
    with pytest.raises(UserError, match="judged by accuracy"):
        compare.plan(["pubmedqa"], ["pseudo_perplexity"], seeds=1)


def test_baselines_alone_need_no_model(biofm_data, monkeypatch, tmp_path):
    monkeypatch.setenv("BIOFM_DATA", str(biofm_data))
    pairs = compare.plan(["pubmedqa"], ["baseline"], seeds=1)
    rows = compare.run(compare.BASELINES, pairs, 1, Tuning(), tmp_path, progress=print)
    value = {row.model: round(row.value.score.value, 3) for row in rows}
    assert value == {"tfidf_phrases_logistic": 0.570, "majority": 0.552}
    assert set(value) <= set(BASELINES)


def test_variants_that_do_not_fit_a_row_are_refused_where_they_would_be_cut():
    encoder = Encoder(
        "toy", TransformerSpec(layers=1, width=16, heads=2), ProteinData(max_tokens=32)
    )
    adapters, wild = Adapters(Tuning()), "ACDEFGHIKL" * 4
    for method in (*METHODS, "finetune", "probe@4shot"):
        with pytest.raises(UserError, match=r"42 tokens, and \w+ reads the first 32"):
            adapters.of(encoder, method, "number", wild)
    assert callable(adapters.of(encoder, "masked_marginal", "number", wild))
    assert callable(adapters.of(encoder, "probe", "number", wild[:30]))


def test_scores_without_labels_are_shared_by_tasks_of_one_wild_type():
    encoder = Encoder("toy", TransformerSpec(layers=1, width=16, heads=2), ProteinData())
    adapters, wild = Adapters(Tuning()), "ACDEFGHIKL"
    score = adapters.of(encoder, "masked_marginal", "number", wild)
    assert adapters.of(encoder, "masked_marginal", "binary", wild) is score
    assert adapters.of(encoder, "masked_marginal", "number", wild + "A") is not score
    probe = adapters.of(encoder, "probe", "number", wild)
    assert adapters.of(encoder, "probe", "binary", wild) is not probe


def test_labels_that_are_no_classes_are_refused():
    data = dataset()
    with pytest.raises(UserError, match="labels of alanine, cysteine are numbers from 0"):
        dataclasses.replace(data, classes=NAMES[:2])
    halves = dataclasses.replace(data.items, targets=data.items.targets / 2)
    with pytest.raises(UserError, match="numbers from 0"):
        dataclasses.replace(data, items=halves)
