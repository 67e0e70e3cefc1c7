import dataclasses
from typing import Literal

import numpy as np
import pytest
from toy_results import result

from biofm_jax.errors import UserError
from biofm_jax.evaluate.metrics import Score
from biofm_jax.evaluate.result_checks import check_result, check_types


@dataclasses.dataclass(frozen=True)
class Inner:
    n: int
    name: str


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: tuple[Inner, ...]
    pair: tuple[int, float]
    maybe: Inner | None
    named: dict[str, float]
    either: int | str = 0
    kind: Literal["a"] = "a"


GOOD = Outer((Inner(1, "a"), Inner(2, "b")), (1, 2), None, {"x": 1.5})


def test_what_fits():
    check_types(GOOD, Outer, "it")
    check_types(dataclasses.replace(GOOD, maybe=Inner(3, "é"), inner=()), Outer, "it")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inner": (Inner(1, "a"), Inner(True, "b"))}, r"it.inner\[1\].n is True, not int"),
        ({"inner": [Inner(1, "a")]}, "it.inner is"),
        ({"inner": ("a",)}, r"it.inner\[0\] is 'a', not Inner"),
        ({"pair": (1, 2.0, 3.0)}, r"it.pair is \(1, 2.0, 3.0\)"),
        ({"pair": (1, float("nan"))}, r"it.pair\[1\] is nan, not a finite number"),
        ({"maybe": Inner(1, None)}, "it.maybe.name is None, not str"),
        ({"maybe": Inner(1, "\ud800")}, "not Unicode text"),
        ({"named": {"x": "1.5"}}, r"it.named\['x'\] is '1.5', not a finite number"),
        ({"named": {1: 1.5}}, "a key of it.named is 1, not str"),
        ({"named": []}, "it.named is"),
    ],
)
def test_what_does_not(changes, words):
    with pytest.raises(UserError, match=words):
        check_types(dataclasses.replace(GOOD, **changes), Outer, "it")


def other_arrays(**changes):
    given = result()
    return dataclasses.replace(given, predictions=dataclasses.replace(given.predictions, **changes))


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (result(seconds="soon"), "seconds is 'soon'"),
        (result(score=Score(1.0, 0.0, "high")), "result.score.high is 'high'"),
        (result(baselines={"flat": 0.3}), "baselines"),
        (dataclasses.replace(result(), metric="smell"), "'smell' is no metric"),
        (result(direction="higher"), "direction of rmse"),
        (result(n_test=31), "31 test items, but 30 predictions"),
        (other_arrays(predicted=np.zeros((30, 2))), r"predicted is float64 of shape \(30, 2\)"),
        (other_arrays(truth=np.zeros(30)), r"truth is float64 of shape \(30,\)"),
        (other_arrays(truth=np.full((30, 1), np.nan)), "column without labels"),
        (other_arrays(control=np.full((30, 1), np.inf)), "control holds a number that is not"),
        (other_arrays(predicted=np.full((30, 1), "0")), "predicted is <U1"),
        (other_arrays(control=None), "control has a score, but no predictions"),
    ],
)
def test_a_result_that_does_not_fit(broken, words):
    with pytest.raises(UserError, match=words):
        check_result(broken)


def test_results_that_do():
    check_result(result())
    check_result(result(metric="auroc", control=None))
    check_result(dataclasses.replace(other_arrays(control=None), control=None))
