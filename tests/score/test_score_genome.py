import csv
import dataclasses
import json

import numpy as np
import pytest
from toy_batches import TINY, compiled_once, parameters

from biofm_jax import cli
from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.marginals import Marginals
from biofm_jax.data.genome import GenomeData
from biofm_jax.data.tokenizers import KmerTokenizer
from biofm_jax.score import command

SPEC = dataclasses.replace(TINY, vocabulary=KmerTokenizer().vocabulary.size, init_std=0.3)
RNG = np.random.default_rng(0)
CONTIG = "".join(RNG.choice(list("ACGT"), 1500))
N_RUN = CONTIG[:700] + "N" * 25 + CONTIG[725:]
ROOM = 62 * 6  # bases of a row of 64 tokens less cls and eos


@pytest.fixture(scope="module", autouse=True)
def compile_cache(tmp_path_factory):
    with compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def encoder():
    return Encoder("toy", SPEC, GenomeData(max_tokens=64, segments=3), parameters(SPEC))


@pytest.fixture
def score(tmp_path, capsys, monkeypatch, encoder):
    monkeypatch.setattr(command, "load_encoder", lambda name: encoder)
    genome = tmp_path / "genome.fa"
    genome.write_text(f">chr1\n{CONTIG}\n>chr2\n{N_RUN.lower()}\n>chr3\nACGTACGTACGT\n")

    def run(rows, *options):
        path, out = tmp_path / "some.vcf", tmp_path / "out.csv"
        lines = ["\t".join(map(str, row)) for row in rows]
        path.write_text("##fileformat=VCFv4.3\n#CHROM\n" + "\n".join(lines) + "\n")
        out.unlink(missing_ok=True)
        given = ("--reference", str(genome), *options, "--json", "True")
        code = cli.main(["score", "toy", str(path), str(out), *given])
        said, err = capsys.readouterr()
        if code:
            return code, " ".join(err.split()), []
        return code, json.loads(said)[0], list(csv.DictReader(out.read_text().splitlines()))

    return run


def snv(position, contig=CONTIG, chrom="chr1"):
    ref = contig[position - 1]
    alts = [base for base in "ACGT" if base != ref]
    return (chrom, position, f"rs{position}", ref, ",".join(alts), 30, "PASS", "AC=1")


def by_hand(encoder, position, alt, contig=CONTIG, size=ROOM):
    """The marginal of a window that was cut here, with the base at its middle."""
    begin = max(0, min(position - 1 - size // 2, len(contig) - size))
    window = contig[begin : begin + size]
    at = position - 1 - begin
    return Marginals(encoder, window)([window[:at] + alt + window[at + 1 :]])[0]


def test_a_variant_is_scored_in_the_window_around_it(score, encoder):
    places = (2, 400, 401, 1499)
    code, row, rows = score([snv(place) for place in places])
    assert code == 0 and row["variants"] == row["scored"] == 12 and row["window"] == ROOM
    want = [by_hand(encoder, int(r["POS"]), r["ALT"]) for r in rows]
    np.testing.assert_allclose([float(r["score"]) for r in rows], want, atol=2e-5)
    assert np.std(want) > 0.1
    first = rows[0]
    assert first["id"] == f"chr1-2-{CONTIG[1]}-{first['ALT']}"
    assert (first["ID"], first["QUAL"], first["INFO"]) == ("rs2", "30", "AC=1")


def test_a_window_with_n_is_shorter_and_changes_no_other(score, encoder):
    _, alone, rows = score([snv(400)])
    _, row, both = score([snv(760, N_RUN, "chr2"), snv(400)])
    np.testing.assert_allclose(
        [float(r["score"]) for r in both[3:]], [float(r["score"]) for r in rows], atol=2e-5
    )
    fewest, most = row["window"].split(" to ")
    assert int(most) == ROOM == alone["window"] and 200 < int(fewest) < ROOM
    want = by_hand(encoder, 760, both[0]["ALT"], N_RUN, int(fewest))
    np.testing.assert_allclose(float(both[0]["score"]), want, atol=2e-5)


def test_a_contig_shorter_than_a_row_is_read_whole(score, encoder):
    _, row, rows = score([("chr3", 5, ".", "A", "C")])
    assert row["window"] == 12
    want = Marginals(encoder, "ACGTACGTACGT")(["ACGTCCGTACGT"])[0]
    np.testing.assert_allclose(float(rows[0]["score"]), want, atol=2e-5)


def test_indels_and_alleles_without_bases(score):
    ref = CONTIG[99:102]
    rows = [
        ("chr1", 100, ".", ref, ref[0]),
        ("chr1", 100, ".", ref[0], "<DUP>,."),
        snv(100),
        ("chr1", 1, ".", CONTIG[:200], "G"),
    ]
    code, err, _ = score(rows)
    assert code == 2 and "4 of 7 variants have no score" in err
    assert "some.vcf, line 3" in err and "use pseudo_perplexity" in err
    code, row, found = score(
        rows, "--unscored", "report", "--method", "pseudo_perplexity", "--window", "60"
    )
    assert code == 0 and row["window"] == 60
    assert [bool(r["score"]) for r in found] == [True, False, False, True, True, True, False]
    assert "too long for the window" in found[-1]["reason"]


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([snv(5), ("chr1", 7, ".", "T" if CONTIG[6] != "T" else "A", "G")], [], "line 4: REF is"),
        ([("1", 7, ".", "A", "G")], [], "it has 'chr1'"),
        ([snv(5)], ["--window", "900"], "has 152 tokens, and the rows of toy hold 64"),
        ([snv(5)], ["--method", "next_token"], "is not causal"),
    ],
)
def test_what_is_wrong_names_its_line(score, rows, options, words):
    code, err, _ = score(rows, *options)
    assert code == 2 and words in err
