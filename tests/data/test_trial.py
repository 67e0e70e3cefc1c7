import dataclasses
import math

import pytest
from toy_trials import row, rows, study, write_json, write_top

from biofm_jax.data.criteria import split_criteria
from biofm_jax.data.trial import read_top
from biofm_jax.data.trial_registry import Terms, read_registry
from biofm_jax.errors import UserError


def test_a_row_of_top_becomes_a_record(tmp_path):
    (trial, _), bad = read_top(write_top(tmp_path / "t.csv.gz", rows(2)))
    assert dataclasses.asdict(trial) == {
        "id": "NCT00000001",
        "phase": "phase 1",
        "diseases": ("lung cancer",),
        "codes": ("C34.2", "C34.90"),
        "drugs": ("aspirin",),
        "smiles": ("CC(=O)Oc1ccccc1C(=O)O",),
        "criteria": {
            "inclusion": ("Age 18 years or older", "ECOG performance status 0-1"),
            "exclusion": ("Pregnancy", "Brain metastasis"),
        },
        "label": 1.0,
    }
    assert not bad.records


def test_nothing_of_how_a_trial_ended_reaches_a_record(tmp_path):
    """Neither the marks below nor any difference: files that say something else read the same."""
    original, _ = read_top(write_top(tmp_path / "a.csv", rows(6)))
    marked = [line | {"status": "MARK", "why_stop": f"MARK {line['label']}"} for line in rows(6)]
    changed, _ = read_top(write_top(tmp_path / "b.csv", marked))
    assert changed == original and "MARK" not in repr(changed)
    without = [
        {k: v for k, v in line.items() if k not in ("status", "why_stop")} for line in marked
    ]
    assert read_top(write_top(tmp_path / "c.csv", without))[0] == original


def test_nothing_of_how_a_registered_trial_ended_reaches_a_record(tmp_path):
    first, _ = read_registry(write_json(tmp_path / "a.json", study()))
    mark = study(statusModule={"overallStatus": "MARK", "whyStopped": "MARK"})
    mark |= {"resultsSection": {"MARK": ["MARK"]}, "hasResults": "MARK", "derivedSection": "MARK"}
    second, _ = read_registry(write_json(tmp_path / "b.json", mark))
    assert first == second and "MARK" not in repr(second) and "accrual" not in repr(first)


def test_a_registered_study_becomes_the_same_record(tmp_path):
    top, _ = read_top(write_top(tmp_path / "t.csv", [row(9, 1)]))
    (trial,), bad = read_registry(write_json(tmp_path / "s.json", study()), Terms.of(top))
    assert not bad.records and math.isnan(trial.label)
    assert trial.phase == "phase 1/phase 2" and trial.drugs == ("ASA",)
    assert trial.smiles == top[0].smiles and trial.codes == top[0].codes
    assert trial.criteria == split_criteria("Adults\nExclusion criteria:\nGout")
    (unknown,), _ = read_registry(tmp_path / "s.json")
    assert unknown.smiles == unknown.codes == ()


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"studies": s}])
def test_registry_files_hold_lists_or_answers(tmp_path, wrap):
    path = write_json(tmp_path / "s.json", wrap([study(1), study(2)]))
    assert [trial.id for trial in read_registry(path)[0]] == ["NCT00000001", "NCT00000002"]


def test_bad_studies_are_named(tmp_path):
    studies = [
        study(1),
        study(1),
        {"id": 3},
        study(4, conditionsModule={"conditions": "gout"}),
        study(5, eligibilityModule=[]),
        study(6, identificationModule={"nctId": "ISRCTN1"}),
    ]
    path = write_json(tmp_path / "s.json", studies)
    with pytest.raises(UserError, match="5 of 6 records are bad"):
        read_registry(path)
    trials, bad = read_registry(path, tolerance=0.9)
    assert [trial.id for trial in trials] == ["NCT00000001"]
    told = {record.line: record.reason for record in bad.records}
    assert "is study 1 already" in told[2] and "nctId: '' is no trial number" in told[3]
    assert "conditionsModule.conditions is a str, not a list" in told[4]
    assert "eligibilityModule.eligibilityCriteria" in told[5] and "ISRCTN1" in told[6]
    assert all(record.file == str(path) and record.fix for record in bad.records)
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match=r"x\.json is no JSON"):
        read_registry(tmp_path / "x.json")


FAULTS = (
    ({"icdcodes": "[\"['C34.2', 'XYZ']\"]"}, "icdcodes: 'XYZ' is no ICD-10 code", True),
    ({"smiless": "['C(C', 'CCO']"}, "smiless: rdkit rejects the SMILES 'C(C'", True),
    ({"label": "yes"}, "label: 'yes' is neither 0 nor 1", False),
    ({"nctid": " "}, "nctid: it is blank", False),
    ({"drugs": "aspirin"}, "drugs: 'aspirin' is no list of texts", False),
    ({"diseases": "[1]"}, "diseases: '[1]' is no list of texts", False),
    ({"nctid": "NCT00000001"}, "NCT00000001 stands already on line 2", False),
)


@pytest.mark.parametrize("change, reason, stays", FAULTS)
def test_a_bad_field_is_named_and_only_a_repairable_trial_stays(tmp_path, change, reason, stays):
    lines = [*rows(3), row(9, 1) | change]
    path = write_top(tmp_path / "t.csv", lines)
    with pytest.raises(UserError, match="1 of 4 records are bad") as stopped:
        read_top(path)
    first = 2 + 3 * (lines[0]["criteria"].count("\n") + 1)  # each record runs over several lines
    assert f"{path}, line {first}: " in str(stopped.value) and reason in str(stopped.value)
    trials, bad = read_top(path, tolerance=0.25)
    assert len(trials) == 3 + stays and len(bad.records) == 1
    if stays:
        assert trials[3].codes == ("C34.2",) or trials[3].smiles == ("CCO",)


def test_trials_without_molecules_codes_or_criteria_are_no_fault(tmp_path):
    empty = row(1, 1, smiless="[]", drugs="['an antibody']", icdcodes="", criteria="") | {
        "label": ""
    }
    (trial,), bad = read_top(write_top(tmp_path / "t.csv", [empty]))
    assert trial.smiles == trial.codes == () and math.isnan(trial.label) and not bad.records
    assert trial.criteria.inclusion == trial.criteria.exclusion == ()


def test_a_missing_column_is_named(tmp_path):
    lines = [{k: v for k, v in line.items() if k != "smiless"} for line in rows(2)]
    with pytest.raises(UserError, match="no column 'smiless' among nctid, status"):
        read_top(write_top(tmp_path / "t.csv", lines))


def test_the_real_files_are_read_whole(biofm_data):
    folder = biofm_data / "drug" / "trial_outcome_phase1"
    trials, bad = read_top(folder / "phase_I_valid.csv.gz")
    assert len(trials) == 117 and not bad.records
    assert all(trial.smiles and trial.codes and trial.criteria.inclusion for trial in trials)
    assert sum(trial.label for trial in trials) == 67
