import dataclasses

import numpy as np
import pytest
from scipy.stats import false_discovery_control
from toy_contestants import rivals
from toy_results import result

from biofm_jax.errors import UserError
from biofm_jax.evaluate.multiple import (
    HEADER,
    against_baselines,
    against_controls,
    benjamini_hochberg,
    between_models,
    compare_all,
    comparisons_to_table,
    every_pair,
    holm,
    p_text,
)
from biofm_jax.evaluate.table import aggregate


def rejected_by_holm(p, level):
    """Holm's procedure as written: step down until the first that fails."""
    rejected = np.zeros(len(p), bool)
    for step, place in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[place] > level / (len(p) - step):
            break
        rejected[place] = True
    return rejected


@pytest.mark.parametrize("count", [1, 2, 7, 30])
def test_corrections_equal_their_references(count):
    rng = np.random.default_rng(count)
    for _ in range(20):
        p = np.round(rng.random(count) ** 3, 2)  # with ties and zeros
        np.testing.assert_allclose(benjamini_hochberg(p), false_discovery_control(p), rtol=1e-12)
        adjusted = holm(p)
        for level in (0.001, 0.0123, 0.0501, 0.1003, 0.507):
            np.testing.assert_array_equal(adjusted <= level, rejected_by_holm(p, level))
        between = benjamini_hochberg(p)
        assert (p <= between + 1e-12).all() and (between <= adjusted + 1e-12).all()
        assert adjusted.max() <= 1


def test_holm_by_hand():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])
    assert len(holm(np.zeros(0))) == len(benjamini_hochberg(np.zeros(0))) == 0


@pytest.mark.parametrize("bad", [-0.1, 1.2, np.nan])
@pytest.mark.parametrize("correction", [holm, benjamini_hochberg])
def test_what_is_no_p_value(correction, bad):
    with pytest.raises(UserError, match="in 0 to 1"):
        correction(np.array([0.1, bad]))


def test_holm_holds_the_family_wise_level_and_finds_the_planted_pair():
    """Of ten comparisons one is real: it is found, and rarely is another."""
    hits = errors = 0
    for family in range(40):
        pairs = [rivals("rmse", 60, seed=100 * family + i) for i in range(9)]
        pairs.append(rivals("rmse", 60, noise=(0.3, 2.0), seed=100 * family + 9))
        found = compare_all(pairs, draws=10)
        hits += found[-1].holm <= 0.05
        errors += any(c.holm <= 0.05 for c in found[:-1])
        for c in found:
            assert c.comparison.p - 1e-12 <= c.benjamini_hochberg <= c.holm + 1e-12
    assert hits > 35
    assert errors <= 7  # 2 on average


def test_pairs_of_rows():
    rows = aggregate(
        [
            *(result(seed=seed) for seed in range(2)),
            result(method="finetune"),
            result(method="knn", control=None),
            result(task="another"),
            result(data="f" * 16),
        ]
    )
    pairs = every_pair(rows)
    assert [(a.name, b.name) for a, b in pairs] == [
        ("runs/toy, finetune", "runs/toy, knn"),
        ("runs/toy, finetune", "runs/toy, probe"),
        ("runs/toy, knn", "runs/toy, probe"),
    ]
    controlled = against_controls(rows)
    assert len(controlled) == 4
    assert all(b.name.startswith("random-initialised control") for _, b in controlled)
    assert controlled[-1][1].predicted.shape == (1, 30, 1)


def floor(method="baseline", model="ridge", **changes):
    return result(model=model, method=method, control=None, baselines={}, **changes)


def test_models_meet_the_baselines_with_as_many_labels():
    rows = aggregate(
        [
            *(result(seed=seed) for seed in range(2)),
            result(method="probe@3%"),
            result(method="probe+shuffled"),
            result(task="without"),
            floor(),
            floor(model="forest"),
            *(floor("baseline@3%", seed=seed) for seed in range(2)),
            floor(data="f" * 16),
            floor("baseline@4shot"),
        ]
    )
    pairs = against_baselines(rows)
    assert sorted((a.name, b.name) for a, b in pairs) == [
        ("runs/toy, probe", "forest, baseline"),
        ("runs/toy, probe", "ridge, baseline"),
        ("runs/toy, probe@3%", "ridge, baseline@3%"),
    ]
    found = compare_all(pairs)  # seeds of a deterministic baseline are repeated
    assert sorted(c.comparison.seeds for c in found) == [(1, 2), (2, 1), (2, 1)]
    assert not any("baseline" in a.name + b.name for a, b in every_pair(rows))
    assert len(every_pair(rows)) == 3  # probe, probe@3%, probe+shuffled


def test_models_of_one_method_meet_by_the_seeds_that_both_have():
    rows = aggregate(
        [
            *(result(model="a", seed=seed) for seed in (0, 1, 2)),
            *(result(model="b", seed=seed) for seed in (1, 2, 5)),
            result(model="c", seed=7),
            result(model="a", method="knn"),
            floor(),
        ]
    )
    ((one, other),) = between_models(rows)
    assert (one.name, other.name) == ("a, probe", "b, probe")
    for made, model in ((one, "a"), (other, "b")):
        want = [result(model=model, seed=seed).predictions.predicted for seed in (1, 2)]
        np.testing.assert_array_equal(made.predicted, want)


def test_table():
    good, bad = result(), result(method="worse")
    worse = dataclasses.replace(bad.predictions, predicted=good.predictions.predicted * -3)
    rows = aggregate([good, dataclasses.replace(bad, predictions=worse)])
    found = compare_all([*every_pair(rows), *[(p, p) for p, _ in every_pair(rows)]])
    header, (first, same) = comparisons_to_table(found)
    assert header == HEADER and len(first) == len(HEADER)
    shown = dict(zip(header, first))
    assert shown["better"] == "one" and shown["one"] == "runs/toy, probe"
    assert shown["metric"] == "RMSE"
    assert shown["one - other [95 %]"].startswith("-") and shown["p"] == "<0.001"
    assert dict(zip(header, same))["better"] == "equal"
    assert same[4] == "0.000 [0.000, 0.000]" and same[6] == "1.000"
    assert p_text(0.0499) == "0.050" and p_text(0.0009) == "<0.001"


def test_nothing_to_compare():
    assert compare_all([]) == []
    assert comparisons_to_table([]) == (HEADER, [])
