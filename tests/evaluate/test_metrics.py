import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from biofm_jax.errors import UserError
from biofm_jax.evaluate.metrics import METRICS, interval, metric_value, resampled, score
from biofm_jax.evaluate.metrics_class import decided
from biofm_jax.evaluate.metrics_probability import bin_of, ece, top_label
from biofm_jax.evaluate.metrics_survival import concordance_block


def brute_force_ece(truth, probability):
    """Guo et al. 2017, equation 3, bin by bin."""
    edges, total = np.linspace(0, 1, 16), 0.0
    for low, high in itertools.pairwise(edges):
        inside = [i for i, p in enumerate(probability) if low < p <= high or p == low == 0]
        if inside:
            gap = np.mean([truth[i] for i in inside]) - np.mean([probability[i] for i in inside])
            total += len(inside) * abs(gap)
    return total / len(truth)


REFERENCE = {
    "spearman": lambda y, p: stats.spearmanr(y, p).statistic,
    "pearson": lambda y, p: np.corrcoef(y, p)[0, 1],
    "auroc": sk.roc_auc_score,
    "rmse": lambda y, p: np.sqrt(np.mean((y - p) ** 2)),
    "mse": sk.mean_squared_error,
    "cindex": lambda y, p: concordance_block(
        np.column_stack([y - y.min(), np.ones(len(y)), -p]), np.ones((1, len(y)))
    )[0],
    "mae": sk.mean_absolute_error,
    "r2": sk.r2_score,
    "accuracy": sk.accuracy_score,
    "auprc": sk.average_precision_score,
    "mcc": sk.matthews_corrcoef,
    "f1": lambda y, p: sk.f1_score(y, p, average="macro", zero_division=0),
    "brier": sk.brier_score_loss,
    "ece": brute_force_ece,
    "residue_accuracy": sk.accuracy_score,  # rows of labels are in test_residue_tasks
}


def example(name, n=60, seed=0):
    """Truth and prediction with ties, (n,) each."""
    rng = np.random.default_rng(seed)
    if METRICS[name].classes:
        return rng.integers(0, 3, n).astype(float), rng.integers(0, 3, n).astype(float)
    guess = np.round(rng.normal(size=n), 1)
    if name in ("brier", "ece"):
        guess = np.clip(np.round(0.5 + guess / 3, 1), 0, 1)  # with 0, 1 and edges of bins
        guess[::3] = np.clip(guess[::3] + 0.03, 0, 1)  # shares a bin with an edge or not
        return (rng.random(n) < guess**2).astype(float), guess
    if METRICS[name].kind == "binary":
        return (rng.normal(size=n) + guess > 0).astype(float), guess
    return np.round(guess + rng.normal(size=n), 1), guess


@pytest.mark.parametrize("name", METRICS)
def test_equals_the_reference(name):
    truth, guess = example(name)
    got = metric_value(name, truth[:, None], guess[:, None])
    assert got == pytest.approx(REFERENCE[name](truth, guess), abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_block_form_equals_the_reference_on_every_resample(name):
    truth, guess = example(name, n=40)
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, 40, (25, 40))
    counts = np.stack([np.bincount(row, minlength=40) for row in drawn]).astype(float)
    got = METRICS[name].block(truth, guess, counts)
    want = [REFERENCE[name](truth[row], guess[row]) for row in drawn]
    np.testing.assert_allclose(got, want, atol=1e-12)


@pytest.mark.parametrize("n", [3, 12, 40])
@pytest.mark.parametrize("name", METRICS)
def test_block_form_equals_the_point_form_and_is_undefined_where_that_is(name, n):
    truth, guess = example(name, n=n, seed=2)
    truth = truth + 0.1 if METRICS[name].kind == "number" else truth  # sums that round
    drawn = np.random.default_rng(3).integers(0, n, (60, n))
    drawn[0], drawn[1] = np.arange(n), 0
    counts = np.stack([np.bincount(row, minlength=n) for row in drawn]).astype(float)
    want = []
    for row in drawn:
        try:
            want.append(METRICS[name].point(truth[row], guess[row]))
        except UserError:
            want.append(np.nan)
    got = METRICS[name].block(truth, guess, counts)
    np.testing.assert_allclose(got, want, atol=1e-9)
    assert not np.isnan(want[0])


@pytest.mark.parametrize("name", [n for n in METRICS if METRICS[n].kind != "residue"])
def test_missing_labels_are_masked_per_column(name):
    truth, guess = example(name)
    other, other_guess = example(name, seed=5)
    both = np.stack([truth, other], 1)
    both[::4, 1] = np.nan
    keep = ~np.isnan(both[:, 1])
    want = (REFERENCE[name](truth, guess) + REFERENCE[name](other[keep], other_guess[keep])) / 2
    predicted = np.stack([guess, other_guess], 1)
    assert metric_value(name, both, predicted) == pytest.approx(want, abs=1e-12)
    draws = resampled(name, both, predicted, resamples=400)
    low, high = interval(draws)
    assert low < want < high
    # The bootstrap deviation of a mean of 60 items shrinks like that of a fresh sample.
    assert 0.01 < draws.std() / max(1, abs(want)) < 0.5


def test_resamples_are_shared_by_models_and_do_not_depend_on_the_block_size(monkeypatch):
    truth, guess = (x[:, None] for x in example("rmse"))
    whole = resampled("rmse", truth, guess, resamples=50)
    np.testing.assert_array_equal(whole, resampled("rmse", truth, guess, resamples=50))
    monkeypatch.setattr("biofm_jax.evaluate.bootstrap._CELLS", 7 * 60)
    np.testing.assert_allclose(whole, resampled("rmse", truth, guess, resamples=50), atol=1e-12)
    # Same draws: adding a constant to all errors of a perfect model is seen in every resample.
    np.testing.assert_allclose(resampled("mae", truth, truth + 2.0), 2.0)


def test_single_class_is_refused_with_its_column():
    truth = np.array([[0.0, 1], [1, 1], [0, 1]])
    with pytest.raises(UserError, match=r"column 1.*both classes.*all 3 labels are 1"):
        metric_value("auroc", truth, np.zeros((3, 2)))


def test_resamples_of_a_single_class_are_left_out():
    truth = np.array([[0.0], [1], [0], [0]])
    draws = resampled("auroc", truth, np.array([[0.1], [0.9], [0.2], [0.3]]))
    assert np.isnan(draws).any()
    assert interval(draws) == (1.0, 1.0)


def test_a_metric_of_probabilities_refuses_scores():
    truth = np.array([[0.0], [1]])
    for name in ("ece", "brier"):
        with pytest.raises(UserError, match=r"wants probabilities, not 1\.5.*sigmoid"):
            metric_value(name, truth, np.array([[0.2], [1.5]]))
        with pytest.raises(UserError, match="wants labels 0 and 1"):
            metric_value(name, truth + 1, np.array([[0.2], [0.5]]))


def test_ece_of_many_classes_is_that_of_the_top_label():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), 200)
    truth = rng.integers(0, 4, 200)
    confidence, right = probabilities.max(1), (probabilities.argmax(1) == truth).astype(float)
    got = ece(*top_label(truth, probabilities))
    assert got == pytest.approx(brute_force_ece(right, confidence), abs=1e-12)


def test_classes_are_decided_at_a_half():
    assert decided(np.array([0.49, 0.5, 0.9])).tolist() == [0, 1, 1]


def test_an_area_under_precision_shares_its_floor_with_the_rate_of_ones():
    truth = (np.arange(1000) % 10 == 0).astype(float)
    assert metric_value("auprc", truth[:, None], np.zeros((1000, 1))) == pytest.approx(0.1)


def test_a_small_scale_is_not_a_constant():
    """Predictions a trillion times smaller than labels still order them."""
    truth = np.array([1.0, 2, 4, 3])
    counts = np.ones((1, 4))
    for name in ("pearson", "spearman"):
        want = metric_value(name, truth[:, None], truth[:, None] * 1e-13)
        assert METRICS[name].block(truth, truth * 1e-13, counts)[0] == pytest.approx(want)


@pytest.mark.parametrize("n", [3, 7, 11, 30])
def test_equal_values_are_constant_whatever_their_mean_rounds_to(n):
    truth, guess = np.full(n, 0.1), np.arange(n) * 1.0
    counts = np.ones((1, n))
    for name in ("pearson", "r2"):
        assert np.isnan(METRICS[name].block(truth, guess, counts))
    assert METRICS["pearson"].block(guess, truth, counts) == 0.0


def test_a_probability_on_an_edge_is_in_the_lower_bin():
    edges = np.linspace(0, 1, 16)
    assert bin_of(edges).tolist() == [0, *range(15)]
    assert bin_of(np.nextafter(edges[:-1], 1)).tolist() == list(range(15))


def test_constant_truth_leaves_variance_and_correlation_undefined():
    for name in ("r2", "mcc", "pearson"):
        with pytest.raises(UserError, match=r"every true (value|class) is the same"):
            metric_value(name, np.ones((5, 1)), np.arange(5.0)[:, None])


def test_constant_prediction_orders_nothing():
    truth = np.arange(5.0)[:, None]
    assert score("spearman", truth, np.ones((5, 1))).value == 0.0
    with pytest.raises(UserError, match="every true value is the same"):
        metric_value("spearman", np.ones((5, 1)), truth)


def test_bad_predictions_and_labels_are_named():
    truth = np.arange(3.0)[:, None]
    with pytest.raises(UserError, match="test item 1 is not finite"):
        metric_value("rmse", truth, np.array([[0.0], [np.nan], [1.0]]))
    with pytest.raises(UserError, match="column 0 has no label"):
        metric_value("rmse", np.full((3, 1), np.nan), truth)
