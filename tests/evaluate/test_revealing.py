import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from biofm_jax.evaluate.revealing import revealing_columns

RNG = np.random.default_rng(0)
N = 600
BINARY = (RNG.random(N) < 0.4).astype(float)
NUMBER = RNG.normal(size=N)
CLASS = RNG.integers(0, 4, N).astype(float)


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def found(cells, target, classes=False, **more):
    return revealing_columns({"column": cells}, target[:, None], ("y",), classes, **more)


def test_innocent_columns_are_not_named(rng):
    columns = {
        "noise": rng.normal(size=N),
        "site": rng.choice(list("abcd"), N).tolist(),
        "id": [f"item {i}" for i in rng.permutation(N)],
        "age": [None if r < 0.1 else int(90 * r) for r in rng.random(N)],
        "constant": ["x"] * N,
        "blank": [None] * N,
        "useful": BINARY + rng.normal(size=N),
        "also useful": NUMBER + 0.5 * rng.normal(size=N),
    }
    for target, classes in ((BINARY, False), (NUMBER, False), (CLASS, True)):
        assert revealing_columns(columns, target[:, None], ("y",), classes) == ()


def test_a_copy_of_the_label_is_found():
    (row,) = found(BINARY.tolist(), BINARY)
    assert (row.column, row.label, row.measure) == ("column", "y", "AUROC") and row.rows == 1.0
    assert row.score == pytest.approx(1.0)
    (row,) = found(["died" if y else "alive" for y in BINARY], BINARY)
    assert row.score == pytest.approx(1.0)
    (row,) = found((-3 * NUMBER).tolist(), NUMBER)
    assert (row.rule, row.measure) == ("its order", "Spearman")
    assert row.score == pytest.approx(1.0)
    (row,) = found([f"class {int(7 * y % 4)}" for y in CLASS], CLASS, classes=True)
    assert (row.rule, row.measure) == ("its categories", "AUROC")


def test_scores_are_those_of_the_libraries(rng):
    noisy = BINARY + 0.2 * rng.normal(size=N)
    (row,) = found(noisy, BINARY, limit=0.5)
    assert row.score == pytest.approx(roc_auc_score(BINARY, noisy))
    noisy = NUMBER + 0.05 * rng.normal(size=N)
    (row,) = found(noisy, NUMBER)
    assert row.score == pytest.approx(stats.spearmanr(noisy, NUMBER).statistic)


def test_other_ways_to_tell(rng):
    (row,) = found([None if y else "2015" for y in BINARY], BINARY)
    assert row.score == pytest.approx(1.0)  # only whether it is there
    (row,) = found(
        np.where(BINARY == 1, rng.uniform(-1, 1, N), rng.choice([-9.0, 9], N) + NUMBER), BINARY
    )
    assert row.rule == "its ranges"  # the middle against both ends
    (row,) = found([f"{'case' if y else 'control'}_{i}" for i, y in enumerate(BINARY)], BINARY)
    assert row.rule == "its order"  # the prefix of a name


def test_what_tells_of_a_part_is_found(rng):
    """Why a trial stopped is known of half the failures, and only of them."""
    why = ["slow accrual" if not y and r < 0.5 else "" for y, r in zip(BINARY, rng.random(N))]
    (row,) = found(why, BINARY)
    assert row.measure == "share of one label" and row.score == 1.0
    assert row.rows == pytest.approx(np.mean([bool(w) for w in why]))
    mixed = [w and str(rng.integers(1000)) for w in why]
    (row,) = found(mixed, BINARY)
    assert row.rule == "not being blank"
    few = [w if i < 40 else "" for i, w in enumerate(why)]
    assert found(few, BINARY) == ()


def test_missing_labels_are_left_out_and_few_labels_prove_nothing():
    target = BINARY.copy()
    target[:300] = np.nan
    (row,) = found([9.0] * 300 + BINARY[300:].tolist(), target)
    assert row.score == pytest.approx(1.0)
    target[12:] = np.nan
    assert found(BINARY.tolist(), target) == ()
    assert found(BINARY.tolist(), np.full(N, np.nan), classes=True) == ()


def test_every_label_column_is_looked_at():
    targets = np.stack([NUMBER, BINARY], axis=1)
    rows = revealing_columns({"a": BINARY, "b": NUMBER}, targets, ("number", "binary"))
    assert [(row.column, row.label) for row in rows] == [("a", "binary"), ("b", "number")]
