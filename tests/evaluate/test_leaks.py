import json

import numpy as np
import pytest
from toy_sequences import BASES, brute_force, draw, mutate

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.errors import UserError
from biofm_jax.evaluate.canonical import reverse_complement
from biofm_jax.evaluate.leak_text import leak_lines
from biofm_jax.evaluate.leaks import leak_report
from biofm_jax.evaluate.splits import Fold, random_folds
from biofm_jax.evaluate.task import Dataset
from biofm_jax.specs import decode, encode

TRAIN, VALID, TEST = np.arange(40), np.arange(40, 50), np.arange(50, 80)
FOLD = Fold(TRAIN, VALID, TEST)


def proteins(seed=0, length=120):
    rng = np.random.default_rng(seed)
    return [draw(rng, length) for _ in range(80)], rng


def dataset(texts, targets=None, folds=(FOLD,), **more):
    rng = np.random.default_rng(9)
    targets = rng.normal(size=len(texts)) if targets is None else np.asarray(targets, float)
    ids = tuple(f"p{i}" for i in range(len(texts)))
    return Dataset(Labelled(ids, tuple(texts), targets[:, None]), folds, ("y",), **more)


def test_nothing_is_found_in_a_clean_set():
    texts, rng = proteins()
    report = leak_report(
        dataset(texts),
        "protein",
        groups={"patient": [f"patient {i}" for i in range(80)]},
        columns={"noise": rng.normal(size=80).tolist(), "site": ["a", "b"] * 40},
    )
    assert report.findings == ()
    assert (report.items, report.tested) == (80, 30)
    assert report.exact.count == report.near.count == report.near.median == 0
    assert report.repeats.items == report.repeats.conflicts == 0
    lines = leak_lines(report)
    assert lines[0] == "leaks: nothing found (30 of 80 items tested)"
    assert len(lines) == 6 and all("none" in line or "no item" in line for line in lines[1:])


def test_planted_duplicates_are_found():
    texts, _ = proteins()
    texts[60] = texts[7].lower()
    texts[61] = texts[45] + "\n"
    texts[3] = texts[9]  # both train: no leak, but it is said
    targets = np.zeros(80)
    targets[[7, 60, 9]] = 1, 2, 5
    report = leak_report(dataset(texts, targets), "protein")
    assert (report.exact.count, report.exact.share) == (2, 2 / 30)
    found = [(m.test, m.seen, m.part, m.similarity) for m in report.exact.examples]
    assert found == [("p60", "p7", "train", 1.0), ("p61", "p45", "valid", 1.0)]
    assert (report.repeats.items, report.repeats.groups, report.repeats.conflicts) == (6, 3, 2)
    worst, other = report.repeats.examples
    assert (worst.ids, worst.column, worst.low, worst.high) == (("p3", "p9"), "y", 0.0, 5.0)
    assert (other.ids, other.low, other.high) == (("p7", "p60"), 1.0, 2.0)
    assert report.near.count == 0  # exact ones are not counted twice
    assert report.findings == (
        "exact duplicates", "conflicting labels", "conflicting labels across the split"
    )  # fmt: skip
    assert report.repeats.across == 1 and decode(encode(report)) == report
    assert "of 1 between a test item and one learned from" in leak_lines(report)[2]
    assert "p60 = p7 (train), p61 = p45 (valid)" in leak_lines(report)[1]


def test_equal_molecules_with_opposite_labels_on_both_sides_are_told_apart_from_others():
    pytest.importorskip("rdkit")
    texts = ["C" * n + "O" for n in range(2, 82)]
    texts[60], texts[61], texts[3] = "OCC(C)N", "NC(C)CO", "CC(N)CO"
    targets = np.zeros(80)
    targets[[60, 61]] = 1
    # Of p3, p60 and p61 the train one says 0 and the tested ones 1.
    report = leak_report(dataset(texts, targets), "molecule")
    assert (report.repeats.conflicts, report.repeats.across) == (1, 1)
    targets[3] = 1
    assert leak_report(dataset(texts, targets), "molecule").repeats.across == 0
    targets[61] = 0  # both are tested, and what is learned agrees with one of them only
    assert leak_report(dataset(texts, targets), "molecule").repeats.across == 1
    targets[3] = np.nan  # nothing about it is learned
    report = leak_report(dataset(texts, targets), "molecule")
    assert (report.repeats.conflicts, report.repeats.across) == (1, 0)


def test_planted_near_duplicates_are_found():
    texts, rng = proteins()
    for test, seen, share in ((60, 7, 0.02), (61, 45, 0.05), (62, 8, 0.4)):
        texts[test] = mutate(rng, texts[seen], share)
    texts[63] = texts[9][20:100]
    report = leak_report(dataset(texts), "protein")
    assert report.near.count == 3 and report.findings == ("near duplicates",)
    assert {(m.test, m.seen, m.part) for m in report.near.examples} == {
        ("p60", "p7", "train"),
        ("p61", "p45", "valid"),
        ("p63", "p9", "train"),
    }
    for m in report.near.examples:
        one, other = texts[int(m.test[1:])], texts[int(m.seen[1:])]
        assert m.similarity == pytest.approx(brute_force(one, other, 5), rel=1e-5)
    assert leak_report(dataset(texts), "protein", near=0.4).near.count == 4
    assert "p61 ~ p45 (valid, 0." in " ".join(leak_lines(report))


def test_small_differences_of_a_number_are_no_conflict_but_any_of_a_class_is():
    texts, rng = proteins()
    texts[60] = texts[7]
    targets = rng.integers(0, 40, 80).astype(float)
    targets[60], targets[7] = 3, 4
    assert leak_report(dataset(texts, targets), "protein").repeats.conflicts == 0
    assert leak_report(dataset(texts, targets), "protein", classes=True).repeats.conflicts == 1
    targets[60] = np.nan
    assert leak_report(dataset(texts, targets), "protein", classes=True).repeats.conflicts == 0


def test_dna_on_the_other_strand_and_rna_with_t_are_duplicates():
    rng = np.random.default_rng(1)
    texts = [draw(rng, 90, BASES) for _ in range(80)]
    texts[60] = reverse_complement(texts[7])
    assert leak_report(dataset(texts), "genome").exact.count == 1
    texts[60] = texts[7].replace("T", "U")
    assert leak_report(dataset(texts), "rna").exact.count == 1


def test_molecules_are_compared_by_canonical_smiles_and_fingerprints():
    train = ["c1ccccc1O", "CCO", "CC(=O)Oc1ccccc1C(=O)O", "N[C@@H](C)C(=O)O", "CCCCCCCCCCCC"]
    test = ["Oc1ccccc1", "N[C@H](C)C(=O)O", "CCCCCCCCCCCCC", "FC(F)(F)c1ncc[nH]1", "O=S(=O)(N)N"]
    fold = Fold(np.arange(4), np.array([4]), np.arange(5, 10))
    report = leak_report(dataset(train + test, folds=(fold,)), "molecule")
    assert [(m.test, m.seen) for m in report.exact.examples] == [("p5", "p0")]
    assert [(m.test, m.seen, m.part) for m in report.near.examples] == [
        ("p6", "p3", "train"),  # a stereoisomer
        ("p7", "p4", "valid"),
    ]
    assert "ECFP4 Tanimoto of 0.9 or more" in " ".join(leak_lines(report))


def test_a_canonical_form_can_be_given():
    texts, _ = proteins()
    texts[60] = "signal" + texts[7]
    given = leak_report(dataset(texts), "protein", canonical=lambda t: t.removeprefix("signal"))
    assert given.exact.count == 1
    assert leak_report(dataset(texts), "protein").exact.count == 0


def test_shared_groups_are_found():
    texts, _ = proteins()
    patients = [f"patient {i}" for i in range(80)]
    patients[50] = patients[51] = patients[3]
    patients[52] = patients[44]
    patients[53] = patients[54] = "a test patient twice"
    patients[55] = patients[4] = ""
    (shared,) = leak_report(dataset(texts), "protein", groups={"patient": patients}).groups
    assert (shared.shared, shared.count, shared.share) == (2, 3, 0.1)
    assert shared.tested == len({p for p in patients[50:] if p})
    assert shared.examples == ("patient 3", "patient 44")


def test_revealing_columns_are_found():
    texts, rng = proteins()
    labels = np.array([0.0, 1.0] * 40)
    columns = {
        "status": ["completed" if y else "terminated" for y in labels],
        "noise": rng.normal(size=80).tolist(),
    }
    report = leak_report(dataset(texts, labels), "protein", columns=columns)
    assert [row.column for row in report.revealing] == ["status"]
    assert report.checked == ("status", "noise")
    assert "status tells y by " in leak_lines(report)[-1] and "1.000)" in leak_lines(report)[-1]


def test_variants_of_a_wild_type_are_near_by_design():
    rng = np.random.default_rng(2)
    wild = draw(rng, 100)
    texts = [wild[:i] + ("A" if wild[i] != "A" else "G") + wild[i + 1 :] for i in range(80)]
    texts[70] = texts[7][:90] + ("W" if wild[90] != "W" else "Y") + texts[7][91:]
    report = leak_report(dataset(texts, wild_type=wild), "protein")
    assert report.near.share > 0.9 and "near duplicates" not in report.findings
    text = " ".join(leak_lines(report))
    assert "by design" in text and "substitutions to the nearest variant learned from: " in text
    # Single mutants are two substitutions from each other; p70 is p7 with one more.
    assert report.mutations == ((1, pytest.approx(1 / 30)), (2, pytest.approx(29 / 30)))
    texts[60] = texts[7]  # but an exact duplicate is one among variants too
    assert "exact duplicates" in leak_report(dataset(texts, wild_type=wild), "protein").findings


def test_all_folds_of_a_cross_validation_count():
    texts, rng = proteins()
    texts[60], texts[30] = texts[7], mutate(rng, texts[8], 0.02)
    folds = random_folds(80, 5, seed=0)
    of = {int(i): number for number, fold in enumerate(folds) for i in fold.test}
    assert of[60] != of[7] and of[30] != of[8]  # else this seed tests nothing
    report = leak_report(dataset(texts, folds=folds), "protein")
    assert (report.tested, report.exact.count, report.near.count) == (80, 2, 2)


def test_data_without_a_measure_says_so():
    texts, _ = proteins()
    report = leak_report(dataset(texts), "imaging")
    assert report.near is None and report.exact.count == 0
    assert "near duplicates: no measure of similarity is known for imaging data" in leak_lines(
        report
    )


@pytest.mark.parametrize("modality", ["protein", "imaging", "notes"])
def test_a_report_is_json_and_comes_back(modality):
    texts, rng = proteins()
    texts[60], texts[61] = texts[7], mutate(rng, texts[8], 0.01)
    labels = np.array([0.0, 1.0] * 40)
    report = leak_report(
        dataset(texts, labels, wild_type=texts[0]),
        modality,
        groups={"site": list(range(40)) * 2},
        columns={"copy": labels.tolist()},
    )
    assert report.groups[0].shared and report.revealing
    text = json.dumps(encode(report), allow_nan=False)
    assert decode(json.loads(text)) == report


def test_a_column_of_another_length_is_named():
    texts, _ = proteins()
    with pytest.raises(UserError, match="column patient has 3 cells for 80 items"):
        leak_report(dataset(texts), "protein", groups={"patient": ["a", "b", "c"]})
