import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from biofm_jax.errors import UserError
from biofm_jax.evaluate.bootstrap import interval
from biofm_jax.evaluate.item_metrics import ITEM_METRICS, item_value
from biofm_jax.evaluate.metrics import metric_value
from biofm_jax.evaluate.subgroups import NO_VALUE, subgroup_items, subgroup_scores


def sites(n=400, seed=0):
    """Three sites; the model errs four times as much at the last."""
    rng = np.random.default_rng(seed)
    site = rng.choice(["a", "b", "c"], n)
    truth = rng.normal(size=(n, 1))
    scale = np.where(site == "c", 2.0, 0.5)[:, None]
    return truth, truth + scale * rng.normal(size=(n, 1)), site


def test_values_and_intervals_of_each_group():
    truth, predicted, site = sites()
    found = subgroup_scores("rmse", truth, predicted, "site", site)
    assert (found.column, found.metric, found.left_out) == ("site", "rmse", ())
    assert sum(group.n for group in found.groups) == 400
    assert [g.score.value for g in found.groups] == sorted(g.score.value for g in found.groups)
    counts = np.random.default_rng(0).integers(0, 400, (1000, 400))
    for group in found.groups:
        rows = site == group.name
        want = metric_value("rmse", truth[rows], predicted[rows])
        assert group.score.value == pytest.approx(want, abs=1e-12)
        errors = np.where(rows, (truth - predicted)[:, 0] ** 2, np.nan)
        again = interval(np.sqrt(np.nanmean(errors[counts], axis=1)))
        assert (group.score.low, group.score.high) == pytest.approx(again, abs=1e-9)


def test_a_planted_gap_is_found_and_its_interval_holds_it():
    truth, predicted, site = sites(1200)
    gap = subgroup_scores("mae", truth, predicted, "site", site).gap
    assert gap.worst == "c" and gap.best in "ab"
    assert 0 < gap.score.low < 1.5 * np.sqrt(2 / np.pi) < gap.score.high
    # Where higher is better, the worst is the lowest.
    better = subgroup_scores("pearson", truth, predicted, "site", site)
    assert better.gap.worst == "c" == better.groups[-1].name


def test_groups_of_one_size_do_not_share_their_draws():
    """The same draws for both would hide half of the variance of their distance."""
    rng = np.random.default_rng(0)
    errors = np.tile(rng.exponential(size=(200, 1)), (2, 1))  # two groups with the same items
    site = np.repeat(["a", "b"], 200)
    gap = subgroup_scores("mae", np.zeros((400, 1)), errors, "site", site).gap.score
    deviation = np.sqrt(2) * errors.std() / np.sqrt(200)
    assert gap.value == 0.0
    assert gap.high == pytest.approx(stats.norm.ppf(0.975) * deviation, rel=0.15)


def test_what_is_left_out_is_named_with_the_reason():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 2, (100, 1)).astype(float), rng.random((100, 1))
    values = np.array([30.0] * 40 + [40.0] * 30 + [50.0] * 5 + [np.nan] * 25)
    truth[40:70] = 1.0
    found = subgroup_scores("auroc", truth, predicted, "age", values)
    assert [(g.name, g.n) for g in found.groups] == [("30.0", 40)]
    assert found.gap is None
    reasons = {group.name: (group.n, group.reason) for group in found.left_out}
    assert reasons["50.0"] == (5, "fewer than 20 items")
    assert reasons[NO_VALUE] == (25, "age is missing")
    assert reasons["40.0"][0] == 30 and "both classes" in reasons["40.0"][1]
    json.dumps(dataclasses.asdict(found), allow_nan=False)


def test_many_small_groups_are_counted():
    n = 130
    truth = np.zeros((n, 1))
    values = ["large"] * 30 + [f"scaffold {i // 4}" for i in range(100)]
    found = subgroup_scores("mae", truth, truth + 1, "scaffold", values)
    assert [group.name for group in found.groups] == ["large"]
    (small,) = found.left_out
    assert (small.name, small.n, small.reason) == ("25 groups", 100, "fewer than 20 items each")
    ten = subgroup_scores("mae", truth, truth + 1, "scaffold", ["large"] * 90 + values[90:])
    assert len(ten.left_out) == 10 and ten.left_out[0].reason == "fewer than 20 items"


def test_a_column_without_any_value_leaves_no_group():
    found = subgroup_scores("mae", np.zeros((3, 1)), np.ones((3, 1)), "sex", [None, "", None])
    assert found.groups == () and found.gap is None
    assert [(group.name, group.n) for group in found.left_out] == [(NO_VALUE, 3)]


def test_what_is_wrong_everywhere_is_an_error():
    truth, predicted, site = sites(60)
    with pytest.raises(UserError, match="site has 59 values, but there are 60"):
        subgroup_scores("mae", truth, predicted, "site", site[1:])
    predicted[7] = np.nan
    with pytest.raises(UserError, match="test item 7 is not finite"):
        subgroup_scores("mae", truth, predicted, "site", site)


def test_metrics_of_items_by_group():
    rng = np.random.default_rng(0)
    n = 150
    truth = np.stack([rng.exponential(size=n), rng.integers(0, 2, n)], axis=1)
    sex = np.where(np.arange(n) % 2, "f", "m")
    risk = np.where(sex == "f", -truth[:, 0], rng.normal(size=n))
    items = ITEM_METRICS["c_index"].items(truth, risk)
    found = subgroup_items("c_index", items, "sex", sex)
    assert (found.gap.best, found.gap.worst) == ("f", "m")
    assert found.groups[0].score.value == 1.0
    want = item_value("c_index", items[sex == "m"])
    assert found.groups[1].score.value == pytest.approx(want, abs=1e-12)
    assert found.gap.score.low > 0.2
    with pytest.raises(UserError, match="no best group"):
        subgroup_items("coverage", np.ones(n), "sex", sex)
