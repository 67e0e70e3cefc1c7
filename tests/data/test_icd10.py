import numpy as np
import pytest

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.icd10 import DEPTH, Hierarchy, ancestors, clean_code


def test_the_hierarchy_is_read_from_the_code():
    assert ancestors("S33.110S") == (
        "S33.110S",
        "S33.110",
        "S33.11",
        "S33.1",
        "S33",
        "S3-",
        "chapter XIX",
    )
    assert len(ancestors("S33.110S")) == DEPTH
    assert ancestors("C34") == ("C34", "C3-", "chapter II")


@pytest.mark.parametrize(
    "code, chapter",
    [("B99", "I"), ("D49", "II"), ("D50", "III"), ("H59", "VII"), ("H60", "VIII"), ("O9A", "XV"),
     ("T88", "XIX"), ("W19", "XX"), ("Z99", "XXI"), ("U07", "XXII")],
)  # fmt: skip
def test_chapters(code, chapter):
    assert ancestors(code)[-1] == f"chapter {chapter}"


def test_codes_are_written_one_way():
    assert clean_code(" c342 ") == clean_code("C34.2") == "C34.2"
    assert clean_code("m1a.00x0") == "M1A.00X0"
    for wrong in ("", "34.2", "C3", "C34.", "C34.12345", "nan"):
        with pytest.raises(BadText, match="is no ICD-10 code"):
            clean_code(wrong)


def test_an_unknown_code_stands_for_its_nearest_known_ancestor():
    tree = Hierarchy.of(["C34.2", "C50"])
    assert tree.nodes == ("C3-", "C34", "C34.2", "C5-", "C50", "chapter II")
    np.testing.assert_array_equal(tree.path("C34.2"), [2, 1, 0, 5, -1, -1, -1])
    np.testing.assert_array_equal(tree.path("C34.91"), [1, 0, 5, -1, -1, -1, -1])
    np.testing.assert_array_equal(tree.path("C99"), [5, -1, -1, -1, -1, -1, -1])
    np.testing.assert_array_equal(tree.path("M10.9"), [-1] * DEPTH)
