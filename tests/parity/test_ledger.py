"""Every family against its reference; the committed table says what this finds."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from biofm_jax.cli import main
from biofm_jax.errors import UserError
from biofm_jax.parity.ledger import BARS, Measured, chosen, measure, read_ledger, write_ledger
from biofm_jax.parity.measures import gradient_error, worst
from biofm_jax.parity.models import references
from biofm_jax.parity.vision_models import vision_comparisons
from biofm_jax.zoo.registry import FAMILIES

EVERY = references()
LEDGER = Path(__file__).parents[2] / "PARITY.md"


@pytest.mark.slow
@pytest.mark.parametrize("reference", EVERY, ids=lambda r: f"{r.name}: {r.variant}")
def test_a_family_meets_its_bars(reference):
    for package in getattr(reference, "needs", ()):
        pytest.importorskip(package)
    found = measure(reference)
    assert not found.misses, found.figures
    layers = {"rgcn": {"logits", "gradients"}, "gin": {"logits", "hidden", "gradients", "packed"}}
    wanted = set(BARS) - {"cached"} - ({"padding", "packed"} if reads_images(reference) else set())
    assert set(found.figures) >= layers.get(reference.name, wanted)


def reads_images(reference) -> bool:
    """Whether rows hold one image each, which is neither padded nor packed."""
    return reference.name in {r.name for r in vision_comparisons()}


def test_every_family_has_two_references_and_a_row_in_the_ledger():
    names = [reference.name for reference in EVERY]
    assert set(names) == {*FAMILIES, "gin", "rgcn"}
    assert all(names.count(name) >= 2 for name in names)
    assert read_ledger(LEDGER) == dict.fromkeys(dict.fromkeys(names), "yes")


def small(name: str):
    return next(reference for reference in EVERY if reference.name == name)


@pytest.mark.slow
def test_a_wrong_table_is_seen():
    right = small("esm")

    def exchanged(spec):
        """The two norms of a block, which have the same shape."""
        other = {"attention_norm": "feedforward_norm", "feedforward_norm": "attention_norm"}
        return [
            dataclasses.replace(t, path="/".join(other.get(p, p) for p in t.path.split("/")))
            for t in right.family.tensors(spec)
        ]

    family = dataclasses.replace(right.family, tensors=exchanged)
    found = measure(dataclasses.replace(right, family=family))
    assert {"logits", "hidden", "gradients"} <= set(found.misses)
    assert "round trip" not in found.misses


@pytest.mark.slow
def test_a_lax_family_is_seen():
    right = small("bert")
    family = dataclasses.replace(right.family, left_out=(".*",))
    assert "strict" in measure(dataclasses.replace(right, family=family)).misses


def test_the_table_names_what_missed(tmp_path):
    good = dict.fromkeys(BARS, 0.0) | {"bf16": 0.01}
    rows = [Measured("esm", "small", "its reference", good, 10),
            Measured("gpt2", "small", "its reference", good | {"cached": 1e-3}, 10),
            Measured("gpt2", "wide", "its reference", good, 10)]  # fmt: skip
    write_ledger(rows, tmp_path / "PARITY.md")
    assert read_ledger(tmp_path / "PARITY.md") == {"esm": "yes", "gpt2": "no: cached"}
    assert "1.0e-03" in (tmp_path / "PARITY.md").read_text()
    assert read_ledger(tmp_path / "none.md") == {}


def test_a_nan_among_figures_is_a_miss():
    assert math.isnan(worst([0.0, math.nan, 1.0]))
    assert gradient_error(np.full(3, np.nan), np.zeros(3)) == 1.0
    assert gradient_error(np.zeros(3), np.zeros(3)) == 0.0
    assert Measured("esm", "", "", {"gradients": math.nan}, 1).misses == ["gradients"]


def test_a_dry_run_lists_what_would_be_measured(capsys, tmp_path):
    out = tmp_path / "PARITY.md"
    arguments = ["parity", "progen", "--dry-run", "True", "--json", "True", "--out", str(out)]
    assert main(arguments) == 0 and not out.exists()
    rows = json.loads(capsys.readouterr().out)
    assert [row["variant"] for row in rows] == ["8 heads of 8", "8 heads of 12"]
    assert {row["reference"] for row in rows} == {FAMILIES["progen"].reference}


def test_unknown_families_are_named():
    with pytest.raises(UserError, match="esn"):
        chosen(["esn"], references)
    assert {r.name for r in chosen(["esm"], references)} == {"esm"}
