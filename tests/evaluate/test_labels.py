import numpy as np
import pytest

from biofm_jax.errors import UserError
from biofm_jax.evaluate.labels import numbers, read_columns


def test_columns_come_in_the_order_asked_for():
    assert read_columns(["a,b,c", "1,2,3", '4,"5,5",6'], "f.csv", ("c", "b")) == [
        ["3", "6"],
        ["2", "5,5"],
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "f.csv is empty"),
        (["a,b"], "no column 'c' among a, b"),
        (["a,c", "1,2", "3"], "f.csv, line 3: 1 fields"),
    ],
)
def test_bad_files_are_named(lines, message):
    with pytest.raises(UserError, match=message):
        read_columns(lines, "f.csv", ("a", "c"))


def test_blank_labels_are_missing_and_words_are_refused():
    np.testing.assert_array_equal(numbers(["1.5", " ", ""], "f.csv", "y"), [1.5, np.nan, np.nan])
    for bad in ("high", "inf", "nan"):
        with pytest.raises(UserError, match=f"f.csv, record 2: y is '{bad}'"):
            numbers(["1", bad], "f.csv", "y")
