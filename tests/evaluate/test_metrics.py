import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from biofm_jax.errors import UserError
from biofm_jax.evaluate.metrics import METRICS, interval, metric_value, resampled, score

REFERENCE = {
    "spearman": lambda y, p: stats.spearmanr(y, p).statistic,
    "pearson": lambda y, p: np.corrcoef(y, p)[0, 1],
    "auroc": sk.roc_auc_score,
    "rmse": lambda y, p: np.sqrt(np.mean((y - p) ** 2)),
    "mae": sk.mean_absolute_error,
    "r2": sk.r2_score,
    "accuracy": sk.accuracy_score,
}


def example(name, n=60, seed=0):
    """Truth and prediction with ties, (n,) each."""
    rng = np.random.default_rng(seed)
    if METRICS[name].kind == "class":
        return rng.integers(0, 3, n).astype(float), rng.integers(0, 3, n).astype(float)
    guess = np.round(rng.normal(size=n), 1)
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


@pytest.mark.parametrize("name", METRICS)
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
    monkeypatch.setattr("biofm_jax.evaluate.metrics._CELLS", 7 * 60)
    np.testing.assert_allclose(whole, resampled("rmse", truth, guess, resamples=50), atol=1e-12)
    # Same draws: adding a constant to all errors of a perfect model is seen in every resample.
    np.testing.assert_allclose(resampled("mae", truth, truth + 2.0), 2.0)


def test_interval_covers_the_population_value():
    """95 % intervals of 200 samples cover the true mean error in about 95 %."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        errors = rng.exponential(size=(150, 1))  # its mean is 1
        low, high = interval(resampled("mae", np.zeros((150, 1)), errors, resamples=400))
        hits += low <= 1.0 <= high
    assert 0.90 <= hits / 200 <= 0.98


def test_single_class_is_refused_with_its_column():
    truth = np.array([[0.0, 1], [1, 1], [0, 1]])
    with pytest.raises(UserError, match=r"column 1.*both classes.*all 3 labels are 1"):
        metric_value("auroc", truth, np.zeros((3, 2)))


def test_resamples_of_a_single_class_are_left_out():
    truth = np.array([[0.0], [1], [0], [0]])
    draws = resampled("auroc", truth, np.array([[0.1], [0.9], [0.2], [0.3]]))
    assert np.isnan(draws).any()
    assert interval(draws) == (1.0, 1.0)


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
