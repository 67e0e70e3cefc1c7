"""A label of every residue from the task to the report."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from biofm_jax import compare
from biofm_jax.adapt.labelled import Labelled
from biofm_jax.errors import UserError
from biofm_jax.evaluate.baselines import BASELINES
from biofm_jax.evaluate.baselines_residue import END, LETTERS, OTHER, windows
from biofm_jax.evaluate.contestants import contestant
from biofm_jax.evaluate.metrics import metric_value, resampled, score
from biofm_jax.evaluate.paired import compare as paired
from biofm_jax.evaluate.report import write_report
from biofm_jax.evaluate.results import read_results
from biofm_jax.evaluate.run import Contender, rows_beside_baselines
from biofm_jax.evaluate.splits import Fold
from biofm_jax.evaluate.task import Dataset, Task, get_task

# Computed from these files (README of the data): a window of 17 on 6 % of the residues; the share
# of the commonest class, which is helix among the test residues (.3858) and coil, by a hair, among
# the training ones (.3840 of the test residues): a baseline may look at the training part alone.
REPORTED = {"window_logistic": (0.626, 0.002), "residue_majority": (0.386, 0.0021)}


def truth(n=80, k=12, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=(n, k)).astype(float)
    labels[np.arange(k) >= rng.integers(2, k + 1, n)[:, None]] = np.nan
    return labels


def guesses(labels, right, seed):
    rng = np.random.default_rng(seed)
    other = rng.integers(3, size=labels.shape)
    return np.where((rng.random(labels.shape) < right) & ~np.isnan(labels), labels, other) * 1.0


def test_the_metric_is_the_accuracy_over_all_labelled_residues():
    labels = truth()
    predicted = guesses(labels, 0.5, 1)
    have = ~np.isnan(labels)
    want = accuracy_score(labels[have], predicted[have])
    assert metric_value("residue_accuracy", labels, predicted) == pytest.approx(want, abs=1e-12)
    with pytest.raises(UserError, match="there is no label"):
        metric_value("residue_accuracy", np.full((3, 2), np.nan), np.zeros((3, 2)))


def test_the_interval_draws_sequences_not_residues():
    """Residues that are all right or all wrong together: the interval knows that they are few."""
    n, k = 60, 100
    labels = np.zeros((n, k))
    predicted = np.repeat(np.arange(n) % 2, k).reshape(n, k) * 1.0
    got = score("residue_accuracy", labels, predicted)
    half = 1.96 * np.sqrt(0.25 / n)
    assert (got.high - got.low) / 2 == pytest.approx(half, rel=0.15)
    rows = np.random.default_rng(0).integers(0, n, (1, n))
    drawn = resampled("residue_accuracy", labels, predicted, resamples=1, seed=0)[0]
    want = metric_value("residue_accuracy", labels[rows[0]], predicted[rows[0]])
    assert drawn == pytest.approx(want, abs=1e-12)


def dataset(n=200):
    """Helical residues follow an A, in chains of two groups."""
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("ACDE"), rng.integers(20, 40))) for _ in range(n)]
    targets = np.full((n, 40), np.nan)
    for row, text in zip(targets, texts):
        row[: len(text)] = [at > 0 and text[at - 1] == "A" for at in range(len(text))]
    fold = Fold.from_labels(np.array(["train", "train", "valid", "test"])[np.arange(n) % 4])
    return Dataset(
        Labelled(tuple(map(str, range(n))), tuple(texts), targets),
        (fold,),
        tuple(map(str, range(40))),
        groups={"half": ["one" if i < n / 2 else "other" for i in range(n)]},
        classes=("coil", "helix"),
    )


@pytest.fixture
def task():
    return Task(
        name="toy/residues",
        modality="protein",
        data=lambda root: dataset(),
        split="by hand",
        metric="residue_accuracy",
        unit="",
        baselines=("window_logistic", "residue_majority"),
    )


def test_from_the_task_to_the_report(task, tmp_path):
    def perfect(train, valid, test, seed):
        assert np.isnan(test.targets).all()
        rows = dict(zip(data.items.texts, np.nan_to_num(data.items.targets)))
        return np.array([rows[text] for text in test.texts])

    data = dataset()
    contender = Contender("oracle", "probe", perfect, BASELINES["residue_majority"])
    rows_beside_baselines(task, contender, seeds=(0,), out=tmp_path, dataset=data)
    found, problems = read_results([tmp_path])
    assert not problems and len(found) == 3
    (best,) = [result for result in found if result.model == "oracle"]
    assert best.score.value == 1 and best.baselines["window_logistic"].value > 0.99
    assert best.control.value == pytest.approx(0.75, abs=0.05)
    assert best.calibration is None and best.recalibration is None
    assert [group.score.value for group in best.subgroups[0].groups] == [1, 1]
    (floor,) = [result for result in found if result.model == "residue_majority"]
    test = paired(contestant(best), contestant(floor))
    assert test.difference == pytest.approx(1 - floor.score.value) and test.p < 0.01
    page = tmp_path / "report.html"
    write_report([tmp_path], page)
    assert "residue accuracy" in page.read_text() and "data:image/png" in page.read_text()


def test_methods_that_read_whole_sequences_are_refused():
    for method in ("finetune", "knn", "lora", "probe(pooling=cls)", "masked_marginal"):
        with pytest.raises(UserError, match="for every residue"):
            compare.plan(["flip_ss3"], [method], 1)
    methods = ["probe(layer=2)@3%", "probe+shuffled", "baseline"]
    assert [method for _, method in compare.plan(["flip_ss3"], methods, 1)] == methods


def test_windows_of_letters():
    found = windows("AXC")
    assert found.shape == (3, 17)
    a, c = LETTERS.index("A"), LETTERS.index("C")
    assert found[0].tolist() == [END] * 8 + [a, OTHER, c] + [END] * 6
    assert found[2].tolist() == [END] * 6 + [a, OTHER, c] + [END] * 8


def test_flip_ss3_is_the_official_split(biofm_data):
    data = get_task("flip_ss3").data(biofm_data)
    fold = data.folds[0]
    assert (len(fold.train), len(fold.valid), len(fold.test)) == (9712, 1080, 364)
    known = ~np.isnan(data.items.targets)
    assert known[fold.test].sum() == 75_402 and known.sum() == 2_658_218
    lengths = [len(text) for text in data.items.texts]
    assert not known[np.arange(known.shape[1]) >= np.array(lengths)[:, None]].any()
    assert {data.items.texts[i] for i in fold.train}.isdisjoint(data.tested.texts)
    place = data.items.ids.index("1es5-A")
    assert "".join("HEC"[int(c)] for c in data.items.targets[place, 2:20]) == "CCCCCCCEEEEEECCCCC"
    assert np.isnan(data.items.targets[place, :2]).all()  # not resolved


@pytest.mark.timeout(600)  # ten seconds of a quiet machine
def test_reported_figures_of_flip_ss3(biofm_data):
    task = get_task("flip_ss3")
    data = task.data(biofm_data)
    for name, (value, tolerance) in REPORTED.items():
        predicted = data.predict_tested(BASELINES[name], seed=0)
        got = metric_value(task.metric, data.tested.targets, predicted)
        assert got == pytest.approx(value, abs=tolerance)
