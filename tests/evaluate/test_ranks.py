import base64
import dataclasses

import numpy as np
import pytest
from scipy import stats
from toy_results import result

from biofm_jax.errors import UserError
from biofm_jax.evaluate.metrics import Score
from biofm_jax.evaluate.ranks import (
    BASELINE,
    critical_difference,
    rank_figure,
    rank_rows,
    rank_table,
)
from biofm_jax.evaluate.table import aggregate

# Demsar, JMLR 7:1 (2006), table 5 (a): q at .05 for 2 to 10 methods.
DEMSAR = (1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164)

SCORES = {
    "good": {"a": 0.9, "b": 0.8, "c": 1.0, "only here": 0.5},
    "same": {"a": 0.9, "b": 0.7, "c": 3.0},
    "poor": {"a": 0.1, "b": 0.2, "c": 2.0},
}
DIRECTIONS = {"a": "higher", "b": "higher", "c": "lower", "only here": "higher"}


def test_ranks_follow_the_direction_and_average_ties():
    found = rank_table(SCORES, DIRECTIONS)
    assert found.methods == ("good", "same", "poor")
    assert found.tasks == ("a", "b", "c") and found.left_out == ("only here",)
    np.testing.assert_array_equal(found.ranks, [[1.5, 1.5, 3], [1, 2, 3], [1, 3, 2]])
    np.testing.assert_allclose(found.mean, [3.5 / 3, 6.5 / 3, 8 / 3])


def test_friedman_is_of_the_values():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(12, 4)) + [0, 0, 0.5, 1]
    scores = {f"m{j}": {f"t{i}": values[i, j] for i in range(12)} for j in range(4)}
    found = rank_table(scores, {f"t{i}": "lower" for i in range(12)})
    assert found.friedman_p == pytest.approx(stats.friedmanchisquare(*values.T).pvalue)
    assert found.ranks.sum() == 12 * 10
    turned = rank_table(scores, {f"t{i}": "higher" for i in range(12)})
    np.testing.assert_allclose(turned.mean, 5 - found.mean[::-1])
    assert turned.friedman_p == pytest.approx(found.friedman_p)


def test_critical_difference_is_the_published_one():
    for methods, q in enumerate(DEMSAR, 2):
        want = q * np.sqrt(methods * (methods + 1) / (6 * 14))
        assert critical_difference(methods, 14) == pytest.approx(want, rel=4e-4)
    # His example: 4 classifiers on 14 data sets.
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


def test_nemenyi_holds_its_level_under_the_null():
    """The largest difference of mean ranks of equal methods stays below the critical one."""
    rng = np.random.default_rng(0)
    ranks = rng.normal(size=(2000, 20, 5)).argsort(2).argsort(2)
    spread = np.ptp(ranks.mean(1), axis=1)
    assert 0.02 < np.mean(spread > critical_difference(5, 20)) < 0.065


def test_too_little_to_rank():
    two = rank_table({k: SCORES[k] for k in ("good", "poor")}, DIRECTIONS)
    assert two.friedman_p is None and two.critical_difference is None
    assert rank_table({k: {"a": 1.0} for k in "xyz"}, DIRECTIONS).friedman_p is None
    alike = rank_table({k: {"a": 1.0, "b": 1.0} for k in "xyz"}, DIRECTIONS)
    assert alike.friedman_p == 1.0 and set(alike.mean) == {2.0}
    with pytest.raises(UserError, match="two methods or more, not 1"):
        rank_table({"good": SCORES["good"]}, DIRECTIONS)
    with pytest.raises(UserError, match="lonely has the fewest, 0 of 4"):
        rank_table(SCORES | {"lonely": {}}, DIRECTIONS)


def rows(tasks=("t1", "t2", "t3"), **changes):
    return aggregate(
        [
            result(task=task, method=method, seed=seed, **changes)
            for task in tasks
            for seed, method in enumerate(("probe", "knn"))
        ]
    )


def floors(tasks=("t1", "t2", "t3")):
    return aggregate(
        [
            result(task=task, model="ridge", method="baseline", control=None, baselines={})
            for task in tasks
        ]
    )


def test_rows_stand_beside_their_floors():
    found = rank_rows(rows())
    assert set(found.methods) == {
        "runs/toy, probe",
        "runs/toy, knn",
        "random-initialised control, probe",
        "random-initialised control, knn",
        BASELINE,
    }
    assert found.tasks == ("t1", "t2", "t3")
    assert found.methods[0].startswith("runs/toy")


def test_the_best_baseline_follows_the_direction():
    baselines = {"bad": Score(5.0, 5, 5), "good": Score(0.001, 0, 1)}
    found = rank_rows(rows(baselines=baselines))
    assert found.methods[0] == BASELINE  # RMSE: 0.001 beats all


def test_baselines_of_their_own_are_not_ranked_as_models():
    assert rank_rows([*floors(), *rows()]).methods == rank_rows(rows()).methods


def test_a_floor_costs_no_task():
    bare = [dataclasses.replace(r, control=None, baselines={}) for r in rows(("t4",))]
    found = rank_rows([*rows(), *bare])
    assert found.methods and not any("control" in m or m == BASELINE for m in found.methods)
    assert found.tasks == ("t1", "t2", "t3", "t4")
    # Nor does a task that not every model has cost a floor.
    found = rank_rows([*rows(), bare[0]])
    assert len(found.methods) == 5 and found.left_out == ("t4",)


def test_two_states_of_the_data_are_not_ranked():
    with pytest.raises(UserError, match="t1 was evaluated on two states"):
        rank_rows([*rows(), *rows(("t1",), data="f" * 16)])


@pytest.mark.parametrize("given", [rows(), rows(("t1",))])
def test_figure_is_a_png(given):
    address = rank_figure(rank_rows(given))
    head, _, body = address.partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(body)[:8] == b"\x89PNG\r\n\x1a\n"
