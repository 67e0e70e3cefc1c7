"""Leaks that are known to be in real data sets are found there."""

import csv
import gzip

import numpy as np
import pytest

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.evaluate.leaks import leak_report
from biofm_jax.evaluate.revealing import revealing_columns
from biofm_jax.evaluate.splits import Fold
from biofm_jax.evaluate.task import Dataset, get_task

# Task: items with an equal, sets of equal items with conflicting labels, near test items.
# No test item equals one learned from: equal molecules have equal scaffolds.
MOLECULES = {
    "bbbp": (124, 10, 0),
    "bace": (0, 0, 3),
    "esol": (22, 2, 2),
    "freesolv": (0, 0, 3),
    "lipophilicity": (0, 0, 27),
}


@pytest.mark.parametrize("name", MOLECULES)
def test_moleculenet(biofm_data, name):
    report = leak_report(get_task(name).data(biofm_data), "molecule")
    repeats = report.repeats
    assert (repeats.items, repeats.conflicts, report.near.count) == MOLECULES[name]
    assert report.exact.count == 0


def test_the_protein_tasks_are_variants_by_design(biofm_data):
    for name, single in (("flip_gb1/two_vs_rest", 0.271), ("dms_blat", 1.0)):
        report = leak_report(get_task(name).data(biofm_data), "protein")
        assert report.variants and report.findings == () and report.near.share == 1.0
        assert dict(report.mutations)[1] == pytest.approx(single, abs=0.001)


def test_the_nrc_test_set_repeats_347_training_sequences(biofm_data):
    ids, texts, labels, parts = [], [], [], []
    for part, file in (("train", "dataset_Rfam_6320"), ("test", "dataset_Rfam_validated_2600")):
        path = biofm_data / "compbio/ncrna_nrc" / f"{file}_13classes.fasta.gz"
        for record in gzip.decompress(path.read_bytes()).decode().split(">")[1:]:
            head, *lines = record.splitlines()
            ids.append(f"{part}-{len(ids)}")
            labels.append(head.split()[-1])
            texts.append("".join(lines))
            parts.append(part)
    classes = np.unique(labels, return_inverse=True)[1].astype(float)
    items = Labelled(tuple(ids), tuple(texts), classes[:, None])
    data = Dataset(items, (Fold.from_labels(parts),), ("class",))
    report = leak_report(data, "rna", classes=True)
    assert report.tested == 2600 and report.exact.count == 347
    assert report.repeats.conflicts == 0 and report.near.count > 100


def test_why_a_trial_stopped_tells_that_it_failed(biofm_data):
    rows = []
    for part in ("train", "valid", "test"):
        path = biofm_data / f"drug/trial_outcome_phase1/phase_I_{part}.csv.gz"
        with gzip.open(path, "rt", newline="") as lines:
            rows += csv.DictReader(lines)
    names = ("nctid", "status", "why_stop", "phase", "diseases", "icdcodes", "drugs", "criteria")
    columns = {name: [row[name] for row in rows] for name in names}
    targets = np.array([[float(row["label"])] for row in rows])
    found = revealing_columns(columns, targets, ("label",))
    assert {row.column: row.rule for row in found} == {
        "status": "being terminated",
        "why_stop": "not being blank",
    }
    assert all(0.95 < row.score < 0.97 and 0.25 < row.rows < 0.3 for row in found)
