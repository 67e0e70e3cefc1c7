"""A few trials in TOP's layout and in the registry's, for tests."""

import csv
import gzip
import io
import json

from biofm_jax.data.admet import SETS

CRITERIA = """
        Inclusion Criteria:

          -  Age 18 years or
             older

          -  ECOG performance status 0-1

        Exclusion Criteria:

          1. Pregnancy

          2. Brain metastasis
"""
DRUGS = {
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "ethanol": "CCO",
    "caffeine": "Cn1c(=O)c2c(ncn2C)n(C)c1=O",
}
CODES = {"lung cancer": ["C34.2", "C34.90"], "gout": ["M10.9"], "asthma": ["J45.20"]}


def row(number, label, disease="lung cancer", drug="aspirin", **changes):
    """One row of TOP's table."""
    return {
        "nctid": f"NCT{number:08d}",
        "status": "completed" if label else "terminated",
        "why_stop": "" if label else "sponsor decision",
        "label": str(label),
        "phase": "phase 1",
        "diseases": repr([disease]),
        "icdcodes": repr([repr(CODES[disease])]),
        "drugs": repr([drug]),
        "smiless": repr([DRUGS[drug]]),
        "criteria": CRITERIA,
    } | changes


def rows(count, first=1):
    """Trials that fail with ethanol and succeed with aspirin."""
    names = list(CODES)
    return [
        row(first + i, int(i % 2 == 0), names[i % 3], ("aspirin", "ethanol")[i % 2])
        for i in range(count)
    ]


def write_top(path, lines):
    """A CSV file, gzipped by its name."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, lines[0])
    table.writeheader()
    table.writerows(lines)
    raw = text.getvalue().encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def study(number=1, **modules):
    """One study as the registry's API (version 2) gives it."""
    protocol = {
        "identificationModule": {"nctId": f"NCT{number:08d}", "briefTitle": "A trial"},
        "statusModule": {"overallStatus": "TERMINATED", "whyStopped": "slow accrual"},
        "designModule": {"phases": ["PHASE1", "PHASE2"]},
        "conditionsModule": {"conditions": ["Lung Cancer"]},
        "armsInterventionsModule": {
            "interventions": [
                {"type": "DRUG", "name": "ASA", "otherNames": ["Aspirin"]},
                {"type": "PROCEDURE", "name": "Biopsy"},
            ]
        },
        "eligibilityModule": {
            "eligibilityCriteria": "Inclusion Criteria:\n\n* Adults\n\nExclusion Criteria:\n\n"
            "* Gout"
        },
    }
    return {
        "protocolSection": protocol | modules,
        "resultsSection": {"moreInfoModule": {"limitationsAndCaveats": "ended early"}},
        "hasResults": True,
    }


def write_json(path, value):
    """A JSON file."""
    path.write_text(json.dumps(value))
    return path


def write_benchmark(root, train=48, valid=24, test=24):
    """A data root with the files of TOP and MoleculeNet that the trials need."""
    folder = root / "drug" / "trial_outcome_phase1"
    first = 1
    for part, count in (("train", train), ("valid", valid), ("test", test)):
        lines = rows(count, first)
        write_top(folder / f"phase_I_{part}.csv.gz", lines)
        first += count
    said = [{"nctid": line["nctid"], "prediction": "0.6"} for line in lines]
    write_top(folder / "HINT_released_predictions_phase_I_test.csv.gz", said)
    smiles = [*DRUGS.values(), "CCCCO", "c1ccccc1", "not a molecule"]
    for name, columns in SETS:
        lines = [
            {"smiles": text, **dict.fromkeys(columns, f"{i % 2}")} for i, text in enumerate(smiles)
        ]
        write_top(root / "drug" / "moleculenet" / f"{name}.csv.gz", lines)
    return root
