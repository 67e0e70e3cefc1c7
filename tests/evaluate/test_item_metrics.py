"""Metrics of survival, ranking, likelihood, forecasts and effects, against brute force."""

import itertools

import numpy as np
import pytest

from biofm_jax.errors import UserError
from biofm_jax.evaluate import metrics_survival
from biofm_jax.evaluate.bootstrap import resampled_items
from biofm_jax.evaluate.item_metrics import ITEM_METRICS, item_resampled, item_score, item_value
from biofm_jax.evaluate.metrics_effect import ate_error, pehe
from biofm_jax.evaluate.metrics_forecast import central_interval, covered, weighted_interval_score
from biofm_jax.evaluate.metrics_likelihood import bits_per_base, perplexity
from biofm_jax.evaluate.metrics_retrieval import contact_precision, recall_at_k
from biofm_jax.evaluate.metrics_survival import concordance

LEVELS = np.array([0.025, 0.25, 0.5, 0.75, 0.975])


def survival(n, seed=0):
    """Times and risks with ties, half of the items censored."""
    rng = np.random.default_rng(seed)
    truth = np.stack([rng.integers(1, 9, n), rng.integers(0, 2, n)], axis=1).astype(float)
    return truth, np.round(-truth[:, 0] / 4 + rng.normal(size=n), 0)


def brute_force_concordance(truth, risk):
    """Every pair once, by the words of Harrell et al. 1982."""
    won = pairs = 0.0
    for (one, r), (two, s) in itertools.combinations(list(zip(truth.tolist(), risk)), 2):
        if one[0] > two[0] or (one[0] == two[0] and two[1] > one[1]):
            one, two, r, s = two, one, s, r  # `one` is the earlier, or the event of a tie
        if not one[1] or (one[0] == two[0] and two[1]):
            continue
        pairs += 1
        won += 1 if r > s else 0.5 if r == s else 0
    return won / pairs if pairs else np.nan


def forecast(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=n), np.sort(rng.normal(size=(n, 5)), axis=1)


def brute_force_wis(y, row):
    """Bracher et al. 2021, equations 1 and 3, of one forecast."""
    total = 0.5 * abs(y - row[2])
    for alpha, low, high in ((0.05, row[0], row[4]), (0.5, row[1], row[3])):
        score = high - low + 2 / alpha * (max(low - y, 0) + max(y - high, 0))
        total += alpha / 2 * score
    return total / 2.5


# Inputs of every metric of plain arrays, and a reference of them.
EXAMPLES = {
    "c_index": (survival(50), brute_force_concordance),
    "perplexity": (
        (-np.random.default_rng(0).exponential(50, 40), np.arange(1, 41)),
        lambda ll, n: np.exp(-ll.sum() / n.sum()),
    ),
    "bits_per_base": (
        (-np.random.default_rng(0).exponential(50, 40), np.arange(1, 41)),
        lambda ll, n: -ll.sum() / n.sum() / np.log(2),
    ),
    "coverage": (
        (forecast(60)[0], forecast(60)[1][:, 0], forecast(60)[1][:, 4]),
        lambda y, low, high: np.mean([a <= x <= b for x, a, b in zip(y, low, high)]),
    ),
    "pehe": (
        (forecast(60)[0], forecast(60)[1][:, 1]),
        lambda true, guess: np.sqrt(np.mean((true - guess) ** 2)),
    ),
    "ate_error": (
        (forecast(60)[0], forecast(60)[1][:, 1]),
        lambda true, guess: abs(true.mean() - guess.mean()),
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_value_and_every_resample_equal_the_reference(name):
    inputs, reference = EXAMPLES[name]
    items = ITEM_METRICS[name].items(*inputs)
    assert item_value(name, items) == pytest.approx(reference(*inputs), abs=1e-12)
    got = item_resampled(name, items, resamples=30, seed=4)
    want = resampled_items(reference, inputs, resamples=30, seed=4)
    np.testing.assert_allclose(got, want, atol=1e-9)


@pytest.mark.parametrize("name", EXAMPLES)
def test_block_form_equals_the_value_of_repeated_items(name):
    items = ITEM_METRICS[name].items(*EXAMPLES[name][0])
    counts = np.random.default_rng(0).integers(0, 3, (20, len(items))).astype(float)
    got = ITEM_METRICS[name].block(items, counts)
    want = [item_value(name, np.repeat(items, row.astype(int), axis=0)) for row in counts]
    np.testing.assert_allclose(got, want, atol=1e-12)


@pytest.mark.parametrize("name", EXAMPLES)
def test_score_brackets_the_value(name):
    found = item_score(name, *EXAMPLES[name][0])
    assert found.low < found.value < found.high


def test_the_plain_functions_give_the_same():
    for name, function in (
        ("c_index", concordance),
        ("perplexity", perplexity),
        ("bits_per_base", bits_per_base),
        ("pehe", pehe),
        ("ate_error", ate_error),
    ):
        inputs, reference = EXAMPLES[name]
        assert function(*inputs) == pytest.approx(reference(*inputs), abs=1e-12)


def test_concordance_by_hand_and_in_slices(monkeypatch):
    truth = np.array([[1.0, 1], [2, 0], [3, 1], [3, 0]])
    # Comparable: the first with all three, the third with the fourth.
    assert concordance(truth, np.array([4.0, 3, 2, 1])) == 1.0
    assert concordance(truth, np.array([1.0, 3, 2, 1])) == pytest.approx(1.5 / 4)
    assert concordance(truth, np.zeros(4)) == 0.5
    whole = concordance(*survival(50))
    monkeypatch.setattr(metrics_survival, "_CELLS", 170)
    assert concordance(*survival(50)) == pytest.approx(whole, abs=1e-12)


def test_concordance_needs_events_and_sane_times():
    with pytest.raises(UserError, match="too few events"):
        concordance(np.array([[1.0, 0], [2, 0]]), np.zeros(2))
    with pytest.raises(UserError, match="must not be negative"):
        concordance(np.array([[-1.0, 1], [2, 0]]), np.zeros(2))
    with pytest.raises(UserError, match=r"\(n, 2\) time and event"):
        concordance(np.zeros((3, 1)), np.zeros(3))
    with pytest.raises(UserError, match="not finite"):
        concordance(np.array([[1.0, 1], [2, 0]]), np.array([0.0, np.nan]))


def test_bits_of_guessing_bases_are_two_and_perplexity_four():
    lengths = np.array([10, 300, 7])
    assert bits_per_base(lengths * np.log(0.25), lengths) == pytest.approx(2.0)
    assert perplexity(lengths * np.log(0.25), lengths) == pytest.approx(4.0)
    with pytest.raises(UserError, match="test item 1 is not finite"):
        perplexity(np.array([-1.0, -np.inf]), np.ones(2))
    with pytest.raises(UserError, match="counts"):
        perplexity(np.array([-1.0]), np.zeros(1))


def expected_recall(relevant, scores, k):
    """The mean over every order of the candidates that the scores allow."""
    values = []
    for order in itertools.permutations(range(len(scores))):
        ranked = [scores[i] for i in order]
        if ranked == sorted(ranked, reverse=True):
            values.append(sum(relevant[i] for i in order[:k]) / sum(relevant))
    return np.mean(values)


@pytest.mark.parametrize("k", [1, 2, 4, 6, 9])
def test_recall_is_the_mean_over_all_ways_to_break_ties(k):
    rng = np.random.default_rng(k)
    scores, relevant = rng.integers(0, 3, (8, 6)).astype(float), rng.random((8, 6)) < 0.4
    relevant[:, 0] |= ~relevant.any(1)
    want = [expected_recall(list(r), list(s), k) for r, s in zip(relevant, scores)]
    np.testing.assert_allclose(recall_at_k(relevant, scores, k), want, atol=1e-12)
    found = item_score("recall_at_k", relevant, scores, k=k)
    assert found.value == pytest.approx(np.mean(want))


def test_recall_of_pairs_and_of_a_constant_score():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(20, 8))
    assert recall_at_k(np.eye(20, dtype=bool), one @ one.T + 100 * np.eye(20), 1).mean() == 1.0
    assert recall_at_k(np.eye(20, dtype=bool), np.zeros((20, 20)), 5).mean() == pytest.approx(0.25)


def test_recall_refuses_what_has_no_answer():
    scores = np.zeros((2, 3))
    with pytest.raises(UserError, match="query 1 has no relevant"):
        recall_at_k(np.array([[1, 0, 0], [0, 0, 0]]), scores, 1)
    with pytest.raises(UserError, match="k must be at least 1"):
        recall_at_k(np.ones((2, 3)), scores, 0)
    with pytest.raises(UserError, match="row 0 hold a nan"):
        recall_at_k(np.ones((2, 3)), np.full((2, 3), np.nan), 1)


def brute_force_contact_precision(contact, score, share, separation):
    length = len(contact)
    pairs = [
        ((score[i, j] + score[j, i]) / 2, contact[i, j])
        for i in range(length)
        for j in range(i + separation, length)
        if not np.isnan(contact[i, j])
    ]
    pairs.sort(key=lambda pair: -pair[0])
    best = pairs[: max(1, round(share * length))]
    return sum(hit for _, hit in best) / len(best)


@pytest.mark.parametrize(("share", "separation"), [(1.0, 24), (0.2, 24), (1.0, 6), (0.5, 39)])
def test_contact_precision_equals_a_sorted_list(share, separation):
    rng = np.random.default_rng(0)
    contacts, scores = [], []
    for length in (40, 55):
        contact = (rng.random((length, length)) < 0.3).astype(float)
        contact[rng.random((length, length)) < 0.1] = np.nan
        contact[0, length - 1] = 1.0
        contacts.append(contact)
        scores.append(rng.normal(size=(length, length)))
    got = contact_precision(contacts, scores, per_length=share, separation=separation)
    want = [
        brute_force_contact_precision(c, s, share, separation) for c, s in zip(contacts, scores)
    ]
    np.testing.assert_allclose(got, want, atol=1e-12)
    found = item_score("precision_at_l", contacts, scores, per_length=share, separation=separation)
    assert found.value == pytest.approx(np.mean(want))


def test_contact_precision_names_a_protein_that_is_too_short():
    with pytest.raises(UserError, match="protein 1: none of its 10 residues"):
        contact_precision(*[[np.ones((30, 30)), np.ones((10, 10))]] * 2)
    with pytest.raises(UserError, match=r"protein 0: contacts \(30, 30\) and scores \(29, 29\)"):
        contact_precision([np.ones((30, 30))], [np.zeros((29, 29))])


def test_wis_equals_its_definition_by_intervals():
    truth, quantiles = forecast(50)
    want = [brute_force_wis(y, row) for y, row in zip(truth, quantiles)]
    got = weighted_interval_score(truth, quantiles, LEVELS)
    np.testing.assert_allclose(got, want, atol=1e-12)
    # The median alone is the absolute error.
    alone = weighted_interval_score(truth, quantiles[:, [2]], np.array([0.5]))
    np.testing.assert_allclose(alone, np.abs(truth - quantiles[:, 2]), atol=1e-12)
    assert item_score("wis", truth, quantiles, LEVELS).value == pytest.approx(np.mean(want))


def test_forecasts_that_are_none_are_named():
    truth, quantiles = forecast(5)
    with pytest.raises(UserError, match="symmetric"):
        weighted_interval_score(truth, quantiles, np.array([0.1, 0.25, 0.5, 0.75, 0.975]))
    with pytest.raises(UserError, match="item 3 cross"):
        weighted_interval_score(truth, quantiles * [[1], [1], [1], [-1], [1]], LEVELS)
    with pytest.raises(UserError, match=r"80% interval needs the quantile 0\.1"):
        central_interval(quantiles, LEVELS, 0.8)
    with pytest.raises(UserError, match="item 0 ends before"):
        covered(truth, np.ones(5), np.zeros(5))


def test_coverage_of_the_central_interval():
    rng = np.random.default_rng(0)
    truth, levels = rng.random(4000), np.array([0.1, 0.5, 0.9])
    low, high = central_interval(np.tile(levels, (4000, 1)), levels, 0.8)
    found = item_score("coverage", truth, low, high)
    assert found.low < 0.8 < found.high
    assert ITEM_METRICS["coverage"].direction == "nominal"


def test_an_average_effect_hides_what_pehe_shows():
    true, guess = np.array([1.0, -1.0]), np.array([-1.0, 1.0])
    assert ate_error(true, guess) == 0.0
    assert pehe(true, guess) == 2.0
    with pytest.raises(UserError, match="not finite"):
        pehe(true, np.array([np.nan, 1]))


def test_no_items_have_no_score():
    with pytest.raises(UserError, match="no test items"):
        item_value("wis", np.zeros(0))
