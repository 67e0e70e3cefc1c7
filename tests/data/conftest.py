from pathlib import Path

import numpy as np
import pytest
from published_files import byte_level_bpe


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


@pytest.fixture(scope="session")
def byte_level(tmp_path_factory) -> tuple[dict, bytes]:
    """See `published_files.byte_level_bpe`."""
    return byte_level_bpe(tmp_path_factory.mktemp("bpe"))
