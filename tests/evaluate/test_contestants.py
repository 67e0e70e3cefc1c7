import dataclasses

import numpy as np
import pytest
from toy_results import result

from biofm_jax.errors import UserError
from biofm_jax.evaluate.contestants import check_same_items, contestant
from biofm_jax.evaluate.table import aggregate


def changed(given, **changes):
    return dataclasses.replace(given, predictions=dataclasses.replace(given.predictions, **changes))


def test_a_row_and_its_results_are_the_same_contestant():
    results = [result(seed=seed) for seed in range(3)]
    (row,) = aggregate(results)
    for given in (row, results):
        found = contestant(given)
        assert (found.name, found.task, found.metric) == ("runs/toy, probe", "toy", "rmse")
        np.testing.assert_array_equal(
            found.predicted, np.stack([r.predictions.predicted for r in results])
        )
    single = contestant(results[1])
    np.testing.assert_array_equal(single.predicted[0], results[1].predictions.predicted)
    control = contestant(row, control=True)
    assert control.name == "random-initialised control, probe"
    np.testing.assert_array_equal(control.predicted[2], results[2].predictions.control)


def test_what_is_no_contestant():
    with pytest.raises(UserError, match="at least one result"):
        contestant([])
    with pytest.raises(UserError, match="without a control"):
        contestant(changed(result(), control=None), control=True)
    with pytest.raises(UserError, match=r"two methods, runs/toy, probe and runs/toy, finetune"):
        contestant([result(), result(method="finetune", seed=1)])
    with pytest.raises(UserError, match="30 and 12 test items"):
        contestant([result(), result(seed=1, n=12)])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (result(task="another"), "the tasks are toy and another"),
        (result(n=29), "30 and 29 test items"),
        (result(data="f" * 16), "fingerprints 0123456789abcdef and ffffffffffffffff"),
        (
            changed(result(), ids=("item-0", "stranger", *(f"item-{i}" for i in range(2, 30)))),
            "test item 1 of toy is item-1 and stranger",
        ),
        (changed(result(), truth=result().predictions.truth + 1), "the labels of toy differ"),
    ],
)
def test_other_items_are_refused_and_both_are_named(other, message):
    one, two = contestant(result()), contestant(dataclasses.replace(other, model="runs/b"))
    check_same_items(one, one)
    with pytest.raises(UserError, match=message) as caught:
        check_same_items(one, two)
    assert "runs/toy, probe and runs/b, probe" in str(caught.value)


def test_missing_labels_are_the_same_labels():
    truth = result().predictions.truth.copy()
    truth[3] = np.nan
    one, two = (contestant(changed(result(), truth=truth.copy())) for _ in range(2))
    check_same_items(one, two)
