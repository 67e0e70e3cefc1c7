import csv
import gzip
import io

import numpy as np
import pytest

from biofm_jax.errors import UserError
from biofm_jax.evaluate.record import leaks_of
from biofm_jax.evaluate.task import get_task

FOLDER = "drug/trial_outcome_phase1"
PARTS = {"train": (1044, 0.567), "valid": (117, 0.573), "test": (627, 0.553)}


def rows_of(root, part):
    with gzip.open(root / FOLDER / f"phase_I_{part}.csv.gz", "rt", newline="") as lines:
        return list(csv.DictReader(lines))


def write(root, part, rows):
    path = root / FOLDER / f"phase_I_{part}.csv.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, rows[0])
    table.writeheader()
    table.writerows(rows)
    path.write_bytes(gzip.compress(text.getvalue().encode()))


def test_the_parts_are_official(biofm_data):
    for name in ("trial/phase1", "trial/phase1_auprc"):
        data = get_task(name).data(biofm_data)
        fold = data.folds[0]
        for part, (size, positive) in PARTS.items():
            index = getattr(fold, part)
            assert len(index) == size
            assert [data.items.ids[i] for i in index] == [
                row["nctid"] for row in rows_of(biofm_data, part)
            ]
            assert data.items.targets[index].mean() == pytest.approx(positive, abs=0.0005)


def test_how_a_trial_ended_reaches_no_method(biofm_data, tmp_path):
    """Files in which these columns say something else give the same items: ids, texts, labels."""
    original = get_task("trial/phase1").data(biofm_data)
    for part in PARTS:
        rows = rows_of(biofm_data, part)
        for row in rows:
            row |= {"status": "LEAK", "why_stop": f"LEAK {row['label']}"}
        write(tmp_path, part, rows)
    data = get_task("trial/phase1").data(tmp_path)
    assert (data.items.ids, data.items.texts) == (original.items.ids, original.items.texts)
    np.testing.assert_array_equal(data.items.targets, original.items.targets)
    assert data.fingerprint() == original.fingerprint()
    assert not any("LEAK" in text for text in data.items.texts)
    assert set(data.metadata["status"]) == {"LEAK"} != set(original.metadata["status"])


def test_the_leak_report_warns_of_these_columns(biofm_data):
    task = get_task("trial/phase1")
    report = leaks_of(task, task.data(biofm_data))
    assert {row.column for row in report.revealing} == {"status", "why_stop"}
    assert report.checked == ("phase", "status", "why_stop")
    assert "label-revealing columns" in report.findings


def test_terminated_trials_failed(biofm_data):
    """The reason why, in numbers of the module's docstring."""
    rows = [row for part in PARTS for row in rows_of(biofm_data, part)]
    ended = np.array([float(r["label"]) for r in rows if r["status"] == "terminated"])
    assert len(ended) == 489 and np.mean(ended == 0) == pytest.approx(0.95, abs=0.005)


def test_the_text_holds_diseases_drugs_and_criteria(biofm_data):
    data = get_task("trial/phase1").data(biofm_data)
    text = data.items.texts[data.items.ids.index("NCT01288573")]
    assert text.startswith(
        "ewing's sarcoma/soft tissue sarcoma, neuroblastoma, brain tumors. "
        "plerixafor, plerixafor, plerixafor. Inclusion Criteria: - Age 2 to < 18 years"
    )
    assert all("\n" not in text and text == text.strip() for text in data.items.texts)


def test_broken_files_are_named(biofm_data, tmp_path):
    row = rows_of(biofm_data, "valid")[0]
    for change, words in (
        ({"diseases": "glioma"}, r"NCT\d+: 'glioma' is no list of names"),
        ({"drugs": "['a"}, r"NCT\d+: .* is no list of names"),
        ({"label": "yes"}, "label is 'yes'"),
    ):
        for part in PARTS:
            write(tmp_path, part, [row | change | {"nctid": f"NCT{part == 'train'}0"}])
        with pytest.raises(UserError, match=words.replace(r"NCT\d+", r"NCT\w+")):
            get_task("trial/phase1").data(tmp_path)
    for part in PARTS:
        write(tmp_path, part, [{k: v for k, v in row.items() if k != "criteria"}])
    with pytest.raises(UserError, match="no column 'criteria'"):
        get_task("trial/phase1").data(tmp_path)
