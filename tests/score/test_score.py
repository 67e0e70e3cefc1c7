import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from scored_examples import LETTERS, MASKED, encoder_of, log_probabilities, mutant, protein
from toy_batches import compiled_once

from biofm_jax import cli
from biofm_jax.adapt.marginals import Marginals
from biofm_jax.score import command

WILD = protein(30, seed=1)
MODEL = "toy"


@pytest.fixture(scope="module", autouse=True)
def compile_cache(tmp_path_factory):
    with compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def encoder():
    return encoder_of(MASKED)


@pytest.fixture(autouse=True)
def model(monkeypatch, encoder):
    monkeypatch.setattr(command, "load_encoder", lambda name: encoder)


@pytest.fixture
def score(tmp_path, capsys):
    """Run the verb on a file's content; returns the exit code, the summary or error, the rows."""

    def run(content, *options, name="variants.csv", out="out.csv"):
        path = tmp_path / name
        path.write_text(content)
        out = tmp_path / out
        out.unlink(missing_ok=True)
        code = cli.main(["score", MODEL, str(path), str(out), *options, "--json", "True"])
        said, err = capsys.readouterr()
        if code:
            assert not out.exists()
            return code, " ".join(err.split()), []
        rows = []
        if out.exists() and out.suffix in (".csv", ".tsv"):
            delimiter = {".csv": ",", ".tsv": "\t"}[out.suffix]
            rows = list(csv.DictReader(out.read_text().splitlines(), delimiter=delimiter))
        return code, json.loads(said)[0], rows

    return run


def singles(count, first=1):
    """Mutations as text, and the sequences they make."""
    rng = np.random.default_rng(0)
    texts, sequences = [], []
    for place in rng.integers(0, len(WILD), count):
        changed = mutant(WILD, [place], seed=int(rng.integers(99)))
        texts.append(f"{WILD[place]}{place + first}{changed[place]}")
        sequences.append(changed)
    return texts, sequences


def column(rows, name="score"):
    return np.array([float(row[name]) for row in rows])


def test_a_list_gets_the_numbers_of_the_marginals(score, encoder):
    texts, sequences = singles(12, first=24)
    listed = "# a comment\n\n" + "\n".join(texts) + "\n"
    code, row, rows = score(listed, "--wild-type", WILD, "--first", "24", name="some.txt")
    assert code == 0 and row["variants"] == row["scored"] == 12 and row["wild type"] == 30
    assert [each["id"] for each in rows] == [each["variant"] for each in rows] == texts
    np.testing.assert_array_equal(column(rows), Marginals(encoder, WILD)(sequences))


def test_every_way_to_write_a_variant_is_the_same_variant(score):
    from biofm_jax.data.variants_text import THREE_LETTERS

    three = {letter: name for name, letter in THREE_LETTERS.items()}
    a, b = WILD[2], WILD[9]
    first, second = ("W" if letter != "W" else "Y" for letter in (a, b))
    ways = [
        f"{a}3{first}:{b}10{second}",
        f'"{a}3{first},{b}10{second}"',
        f"p.[{three[a]}3{three[first]};{three[b]}10{three[second]}]",
        f"NP_1.2:p.[{a}3{first};{b}10{second}]",
        "WT",
    ]
    whole = WILD[:2] + first + WILD[3:9] + second + WILD[10:]
    _, _, rows = score("hgvs_p,n\n" + "".join(f"{w},{i}\n" for i, w in enumerate(ways)),
                       "--wild-type", WILD)  # fmt: skip
    _, _, again = score(f"mutated_sequence\n{whole}\n{WILD}\n", "--wild-type", WILD)
    got = column(rows)
    assert got[4] == 0 and abs(got[0]) > 1e-3
    np.testing.assert_array_equal(got[:4], got[0])
    np.testing.assert_allclose(column(again), got[[0, 4]])
    assert [row["n"] for row in rows] == list("01234")


def test_the_marginal_by_hand(score, encoder):
    texts, sequences = singles(1)
    _, _, rows = score(texts[0] + "\n", "--wild-type", WILD, name="one.txt")
    wild, tokens = encoder.tokenize([WILD, sequences[0]])
    (place,) = np.flatnonzero(wild != tokens)
    shown = wild.copy()
    shown[place] = 32
    said = log_probabilities(encoder, shown)[place]
    np.testing.assert_allclose(column(rows), said[tokens[place]] - said[wild[place]], atol=2e-5)


def test_pseudo_perplexity_scores_whole_sequences_with_and_without_a_wild_type(score, encoder):
    texts = [WILD[:5] + WILD[8:], WILD]

    def slow(text):
        (tokens,) = encoder.tokenize([text])
        said = []
        for place in range(1, len(tokens) - 1):
            shown = tokens.copy()
            shown[place] = 32
            said.append(log_probabilities(encoder, shown)[place, tokens[place]])
        return np.mean(said)

    table = "name,mutated_sequence\n" + "".join(f"s{i},{t}\n" for i, t in enumerate(texts))
    method = ("--method", "pseudo_perplexity")
    _, _, alone = score(table, *method)
    np.testing.assert_allclose(column(alone), [slow(text) for text in texts], atol=2e-5)
    _, _, against = score(table, *method, "--wild-type", WILD)
    np.testing.assert_allclose(column(against), column(alone) - slow(WILD), atol=2e-5)
    assert column(against)[-1] == 0


def test_columns_order_and_labels_are_kept_in_every_format(score, tmp_path):
    texts, _ = singles(9)
    labels = [*map(str, range(8)), ""]
    head = "id\tmutant\ty\tnote\n"
    table = head + "".join(
        f'{i:03d}\t{t}\t{y}\t"a ""quoted"", one"\n'
        for i, (t, y) in enumerate(zip(texts, labels, strict=True))
    )
    options = ("--wild-type", WILD, "--label", "y", "--name", "esm")
    _, row, rows = score(table, *options, name="v.tsv", out="o.tsv")
    assert list(rows[0]) == ["id", "esm", "mutant", "y", "note"]
    assert rows[3]["id"] == "003" and rows[3]["note"] == 'a "quoted", one'
    assert [each["mutant"] for each in rows] == texts
    from scipy import stats

    want = stats.spearmanr(np.arange(8), column(rows, "esm")[:8])[0]
    assert row["labelled"] == 8 and row["spearman"] == pytest.approx(want)
    assert score(table, *options, name="v.tsv", out="o.parquet")[0] == 0
    stored = pq.read_table(tmp_path / "o.parquet")
    np.testing.assert_array_equal(stored["esm"].to_numpy(), column(rows, "esm"))
    assert stored["id"].to_pylist()[3] == "003" and stored["y"].to_pylist()[-1] == ""


def test_what_has_no_score_is_refused_or_reported(score):
    good = singles(1)[0][0]
    table = f"mutant\n{good}\n{WILD[3]}4*\np.{'Met1?'}\n{good}\n"
    code, err, _ = score(table, "--wild-type", WILD)
    assert code == 2 and "2 of 4 variants have no score" in err and "--unscored report" in err
    assert f"line 3: {WILD[3]}4*: a stop gained" in err
    code, err, _ = score("hgvs_p\np.Val7dup\n", "--wild-type", WILD)
    assert code == 2 and "p.Val7dup: a duplication; as a whole sequence" in err
    code, row, rows = score(table, "--wild-type", WILD, "--unscored", "report")
    assert code == 0 and (row["variants"], row["scored"]) == (4, 2)
    assert [bool(each["score"]) for each in rows] == [True, False, False, True]
    assert [bool(each["reason"]) for each in rows] == [False, True, True, False]
    shorter = f"mutated_sequence\n{WILD[1:]}\n{WILD}\n"
    code, err, _ = score(shorter, "--wild-type", WILD)
    assert code == 2 and "line 2" in err and "pseudo_perplexity scores insertions" in err


def test_a_shift_of_all_numbers_is_told(score):
    texts, _ = singles(20, first=24)
    code, err, _ = score("\n".join(texts), "--wild-type", WILD, name="s.txt")
    assert code == 2 and "all rows fit with --first 24" in err
    assert "s.txt: 19 of 20 variants are wrong: line 1: " in err  # one fits by chance


def test_one_wrong_reference_names_its_row(score):
    texts, _ = singles(20)
    other = next(letter for letter in LETTERS if letter not in (WILD[4], "K"))
    texts[13] = f"{other}5K"
    code, err, _ = score("mutant\n" + "\n".join(texts) + "\n", "--wild-type", WILD)
    assert code == 2 and f"line 15: {other}5K: residue 5 is {WILD[4]}, not {other}" in err
    assert "1 of 20 variants are wrong" in err and "no --first fits all rows" in err


GOOD = f"{WILD[0]}1A" if WILD[0] != "A" else "A1C"


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (f"mutant\n{GOOD}\n", [], "give --wild-type FASTA"),
        (f"mutant\n{GOOD}\n", ["--method", "pseudo_perplexity"], "that is not named"),
        (f"mutant\n{GOOD}\n", ["--method", "next_token"], "is not causal"),
        (f"what\n{GOOD}\n", ["--wild-type", WILD], "it has what. Name the right one with --column"),
        (f"mutant\n{GOOD}\nfoo1\n", ["--wild-type", WILD], "line 3: 'foo1' is no substitution"),
        (f"mutant,a\n{GOOD}\n", ["--wild-type", WILD], "line 2: 1 columns where the header has 2"),
        (f"mutant,a\n,1\n{GOOD},2\n", ["--wild-type", WILD], "line 2: 'mutant' is blank"),
        (f"mutant,a,a\n{GOOD},,\n", ["--wild-type", WILD], "column 'a' stands twice"),
        ("mutant\n", ["--wild-type", WILD], "holds no variant"),
        (f"mutant,score\n{GOOD},1\n", ["--wild-type", WILD], "that of the scores with --name"),
        (f"mutant\n{GOOD}\n", ["--wild-type", WILD, "--label", "y"], "has no column 'y'"),
        (f"mutant,y\n{GOOD},b\n", ["--wild-type", WILD, "--label", "y"], "y is 'b'"),
        (f"mutant\n{GOOD}\n", ["--wild-type", "MK1"], "--wild-type: '1' at residue 3"),
        (f"mutant\n{GOOD}\n", ["--wild-type", "MK-T"], "gaps"),
        (f"mutant\n{GOOD}\n", ["--wild-type", "none/wt.fasta"], "none/wt.fasta"),
        (f"mutant\n{GOOD}\n", ["--reference", "genome.fa"], "--reference is for a VCF"),
        ("mutated_sequence\nMKT?\n", ["--wild-type", WILD], "line 2: MKT?: '?' at residue 4"),
    ],
)
def test_misuse_says_what_to_do(score, content, options, words):
    code, err, _ = score(content, *options)
    assert code == 2 and words in err


def test_a_vcf_is_not_for_a_model_of_proteins(score):
    code, err, _ = score("##x\nchr1\t1\t.\tA\tC\n", name="v.vcf")
    assert code == 2 and "translate them to A123T" in err


def test_the_ending_of_the_result(score):
    code, err, _ = score(f"mutant\n{GOOD}\n", "--wild-type", WILD, out="out.xlsx")
    assert code == 2 and "name it .csv, .tsv, .parquet" in err


def test_the_variants_are_not_overwritten(score, tmp_path):
    path = tmp_path / "v.csv"
    path.write_text(f"mutant\n{GOOD}\n")
    assert cli.main(["score", MODEL, str(path), str(path), "--wild-type", WILD]) == 2
    assert path.read_text() == f"mutant\n{GOOD}\n"


def test_a_fasta_of_one_sequence_is_the_wild_type(score, tmp_path):
    (tmp_path / "wt.fasta").write_text(f">one\n{WILD[:9]}\n{WILD[9:]}*\n")
    options = ("--wild-type", str(tmp_path / "wt.fasta"))
    assert score(f"{GOOD}\n", *options, name="v.txt")[1]["wild type"] == 30
    (tmp_path / "wt.fasta").write_text(f">one\n{WILD}\n>two\n{WILD}\n")
    code, err, _ = score(f"{GOOD}\n", *options, name="v.txt")
    assert code == 2 and "holds 2 sequences (one, two)" in err
    (tmp_path / "wt.fasta").write_text(f">one\n{WILD}\n>two\n")
    code, err, _ = score(f"{GOOD}\n", *options, name="v.txt")
    assert code == 2 and "wt.fasta, line 3: header 'two' without a sequence" in err


def test_a_dry_run_checks_and_writes_nothing(score, tmp_path):
    code, row, _ = score(f"{GOOD}\n", "--wild-type", WILD, "--dry-run", "True", name="v.txt")
    assert code == 0 and row["scored"] == 1 and not (tmp_path / "out.csv").exists()
    assert score("W99A\n", "--wild-type", WILD, "--dry-run", "True", name="v.txt")[0] == 2
