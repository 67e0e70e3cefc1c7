import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
from published_files import write

from biofm_jax.data.cell_ranks import CONVERT, read_rank_encoding
from biofm_jax.errors import UserError

RNG = np.random.default_rng(0)
GENES = [f"ENSG{i:011d}" for i in range(300)]
SPECIALS = {1: ["<pad>", "<mask>"], 2: ["<pad>", "<mask>", "<cls>", "<eos>"]}


def folder_of(path, version, genes=GENES):
    tokens = {token: i for i, token in enumerate([*SPECIALS[version], *genes])}
    # Half of the medians are one of three, so that many genes of a cell are equal.
    medians = {gene: float(RNG.choice([0.5, 1, 2, *RNG.lognormal(size=3)])) for gene in genes}
    files = {"token_dictionary_gc__json": tokens, "gene_median_dictionary_gc__json": medians}
    return write(path, **files), tokens, medians


def slow(row, genes, tokens, medians, total, limit, version):
    """The published procedure for one cell, gene by gene."""
    sums = {}
    for gene, count in zip(genes, row):
        if gene in tokens:
            sums[gene] = sums.get(gene, 0.0) + float(count)
    scaled = {g: c / total * 10_000 / medians[g] for g, c in sums.items() if c > 0}
    ranked = sorted(scaled, key=scaled.get, reverse=True)  # stable
    ids = [tokens[gene] for gene in ranked]
    if version == 1:
        return ids[:limit]
    return [tokens["<cls>"], *ids[: limit - 2], tokens["<eos>"]]


def cells(genes, count=60, share=0.3):
    counts = RNG.poisson(3, (count, len(genes))) * (RNG.random((count, len(genes))) < share)
    counts[5] = 0
    return counts


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("limit", [0, 40])
@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_matrix, scipy.sparse.csc_array])
def test_equals_the_procedure_gene_by_gene(tmp_path, version, limit, form):
    folder, tokens, medians = folder_of(tmp_path / "m", version)
    ours = read_rank_encoding(folder, limit)
    genes = [*RNG.permutation(GENES)[:200].tolist(), "ENSG_other", "MT-ND1"]
    counts = cells(genes, 600)
    flat, offsets = ours.encode_cells(form(counts), genes)
    limit = limit or {1: 2048, 2: 4096}[version]
    for row, begin, end in zip(counts, offsets, offsets[1:]):
        expected = slow(row, genes, tokens, medians, row.sum(), limit, version)
        assert flat[begin:end].tolist() == expected
    assert len(offsets) == 601 and ours.vocabulary.size == len(tokens)


def test_totals_of_all_genes_and_genes_named_twice(tmp_path):
    folder, tokens, medians = folder_of(tmp_path / "m", 2)
    genes = GENES[:50] + GENES[20:30]
    counts = cells(genes)
    totals = counts.sum(1) + 1000
    flat, offsets = read_rank_encoding(folder).encode_cells(counts, genes, totals)
    for row, total, begin, end in zip(counts, totals, offsets, offsets[1:]):
        expected = slow(row, genes, tokens, medians, total, 4096, 2)
        assert flat[begin:end].tolist() == expected


def test_equal_values_keep_the_order_of_the_columns(tmp_path):
    tokens = {"<pad>": 0, "<mask>": 1, "g1": 2, "g2": 3, "g3": 4}
    medians = {"g1": 1.0, "g2": 2.0, "g3": 0.5}
    files = {"token_dictionary__json": tokens, "gene_median_dictionary__json": medians}
    ours = read_rank_encoding(write(tmp_path / "m", **files))
    flat, _ = ours.encode_cells(np.array([[2, 4, 1]]), ["g1", "g2", "g3"])
    assert flat.tolist() == [2, 3, 4]
    flat, _ = ours.encode_cells(np.array([[1, 4, 2]]), ["g3", "g2", "g1"])
    assert flat.tolist() == [4, 3, 2]
    assert ours.decode(flat) == ["g3", "g2", "g1"]
    other = read_rank_encoding(tmp_path / "m", 100)
    assert other.fingerprint() != ours.fingerprint()


def test_bad_counts(tmp_path):
    ours = read_rank_encoding(folder_of(tmp_path / "m", 1)[0])
    with pytest.raises(UserError, match=r"cell 1 has a count of -2"):
        ours.encode_cells(np.array([[0, 1], [1, -2]]), GENES[:2])
    with pytest.raises(UserError, match="cell 0 has a count of nan"):
        ours.encode_cells(np.array([[np.nan, 1]]), GENES[:2])
    with pytest.raises(UserError, match="3 columns for 2 genes"):
        ours.encode_cells(np.ones((1, 3)), GENES[:2])
    with pytest.raises(UserError, match="Ensembl id without version"):
        ours.encode_cells(np.ones((1, 2)), ["TP53", "BRCA1"])
    with pytest.raises(UserError, match="totals of shape"):
        ours.encode_cells(np.ones((1, 2)), GENES[:2], np.ones(3))


def test_bad_dictionaries(tmp_path):
    folder, tokens, medians = folder_of(tmp_path / "m", 1)
    (folder / "token_dictionary_other.json").write_text("{}")
    with pytest.raises(UserError, match="2 files fit"):
        read_rank_encoding(folder)
    (folder / "token_dictionary_other.json").unlink()
    del medians[GENES[3]]
    (folder / "gene_median_dictionary_gc.json").write_text(json.dumps(medians))
    with pytest.raises(UserError, match=f"no positive median of {GENES[3]}"):
        read_rank_encoding(folder)
    tokens[GENES[0]] = 7
    (folder / "token_dictionary_gc.json").write_text(json.dumps(tokens))
    with pytest.raises(UserError, match="ids are not 0 to 301"):
        read_rank_encoding(folder)
    (folder / "gene_median_dictionary_gc.json").unlink()
    (folder / "token_dictionary_gc.json").write_text("{}")
    with pytest.raises(UserError, match=r"missing; keep one. To make it, convert the published"):
        read_rank_encoding(folder)


@pytest.mark.parametrize("harmless", [True, False])
def test_the_command_that_converts_a_pickle_runs_no_code_in_it(tmp_path, harmless):
    value = np.float64(1.5) if harmless else subprocess.Popen
    (tmp_path / "NAME.pkl").write_bytes(pickle.dumps({"ENSG1": 7, "ENSG2": value}))
    command = CONVERT[CONVERT.index("python -c ") :].replace("python", sys.executable, 1)
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True)
    if harmless:
        assert json.loads((tmp_path / "NAME.json").read_text()) == {"ENSG1": 7, "ENSG2": 1.5}
    else:
        assert "refused: subprocess.Popen" in done.stderr and done.returncode == 1
        assert not (tmp_path / "NAME.json").exists()
