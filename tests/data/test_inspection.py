import numpy as np
import pytest

from biofm_jax.data.inspection import inspect, prepare
from biofm_jax.errors import UserError


def test_inspection_of_a_prepared_folder(tmp_path):
    path = tmp_path / "x.fasta"
    path.write_text(">a\nMKT\n>b\nMKT\n>c\nM1\n>d\n" + "A" * 98 + "\n")
    prepared = prepare("protein", str(path), tmp_path / "out", tolerance=0.3)
    assert (prepared.count, prepared.bad) == (3, 1)
    seen = inspect(tmp_path / "out", max_tokens=50, bins=4, examples=2)
    assert seen.prepared == prepared
    assert (seen.shortest, seen.median, seen.mean, seen.longest) == (5, 5.0, 110 / 3, 100)
    assert (seen.tokens, seen.cropped, seen.max_tokens, seen.duplicates) == (110, 1, 50, 1)
    assert seen.unknown == 0.0
    assert seen.vocabulary[0] == ("A", 98) and dict(seen.vocabulary)["W"] == 0
    assert seen.coverage == 4 / 27
    assert seen.histogram.tolist() == [2, 0, 0, 1] and len(seen.edges) == 5
    assert np.isclose(seen.edges[0], 5) and seen.edges[-1] > 100
    assert [(record.id, record.line, record.text) for record in seen.examples] == [
        ("a", 1, "MKT"),
        ("b", 3, "MKT"),
    ]


def test_unknown_kind_and_folder(tmp_path):
    with pytest.raises(UserError, match="choose one of protein, molecule"):
        prepare("proteins", "x", tmp_path / "out")
    with pytest.raises(UserError, match="not a prepared data set"):
        inspect(tmp_path)
