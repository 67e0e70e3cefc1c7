from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """A cache of its own for each test."""
    monkeypatch.setenv("BIOFM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def fasta(tmp_path) -> Path:
    """300 random proteins of 5 to 120 residues, every tenth a copy of the one before."""
    rng = np.random.default_rng(0)
    lines, text = [], ""
    for number in range(300):
        if number % 10:
            text = "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), rng.integers(5, 121)))
        elif not number:
            text = "MKTAYIAK"
        lines += [f">p{number} a protein", text]
    path = tmp_path / "proteins.fasta"
    path.write_text("\n".join(lines) + "\n")
    return path
