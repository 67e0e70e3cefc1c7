"""Trials of ClinicalTrials.gov in the JSON of its API, version 2, as the records of `trial.py`.

Read are identificationModule.nctId, designModule.phases, conditionsModule.conditions,
armsInterventionsModule.interventions (drugs and biologicals) and
eligibilityModule.eligibilityCriteria of the protocolSection
(clinicaltrials.gov/data-api/about-api/study-data-structure). Its statusModule (overallStatus,
whyStopped), the dates and resultsSection tell how a trial went: nothing of them is looked at.
"""

import dataclasses
import gzip
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from biofm_jax.data.bad_records import BadRecords, BadText
from biofm_jax.data.criteria import split_criteria
from biofm_jax.data.trial import Trial, codes_of, note_faults, smiles_of
from biofm_jax.errors import UserError

DRUGS = ("DRUG", "BIOLOGICAL", "COMBINATION_PRODUCT", "DIETARY_SUPPLEMENT", "GENETIC")
_NCT = re.compile(r"NCT[0-9]{8}")


@dataclasses.dataclass(frozen=True)
class Terms:
    """What names mean: a registry gives neither structures nor ICD-10 codes.

    Attributes:
        smiles: drug in lower case -> SMILES.
        codes: disease in lower case -> ICD-10 codes.
    """

    smiles: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    codes: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, trials: Iterable[Trial]) -> "Terms":
        """What trials with codes and structures say: those of one drug, or of one disease."""
        smiles, codes = {}, {}
        for trial in trials:
            for names, values, known in (
                (trial.drugs, trial.smiles, smiles),
                (trial.diseases, trial.codes, codes),
            ):
                if len(set(names)) == 1 and values:
                    known.setdefault(names[0].lower(), values)
        return cls(smiles, codes)


def read_registry(
    path: Path, terms: Terms = Terms(), *, tolerance: float = 0.0
) -> tuple[tuple[Trial, ...], BadRecords]:
    """Trials of a JSON file, plain or gzip; their outcomes are unknown.

    The file holds one study, a list of them, an answer of the API (`{"studies": [...]}`), or one
    study a line (.jsonl). A drug or a disease without a term is no fault: the trial has then no
    molecule or no code of it.

    Args:
        path: of the file.
        terms: structures of drugs and codes of diseases by name.
        tolerance: as of `trial.read_top`.

    Returns:
        The trials; the bad records, whose `line` is the number of the study, from 1.

    Raises:
        UserError: the file is missing or no JSON, or more records are bad than tolerated.
    """
    bad, trials, seen = BadRecords(str(path)), [], {}
    for number, study in enumerate(_studies(path), 1):
        faults: list[BadText] = []
        try:
            trial = _trial(study, terms, faults)
            if (first := seen.setdefault(trial.id, number)) != number:
                raise BadText(f"nctId: {trial.id} is study {first} already", "keep one of them")
        except BadText as fault:
            bad.add(number, fault.reason, fault.fix)
            continue
        note_faults(bad, number, trial.id, faults)
        trials.append(trial)
    spoiled = sum(record.reason.startswith("kept ") for record in bad.records)
    bad.check(len(trials) - spoiled, tolerance, None)
    return tuple(trials), bad


def _studies(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    raw = path.read_bytes()
    try:
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
        if {".jsonl", ".ndjson"} & set(path.suffixes):
            found: Any = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            found = json.loads(text)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(
            f"{path} is no JSON: {error}; fetch the study again, with &format=json"
        ) from None
    if isinstance(found, dict):
        found = found.get("studies", [found])
    if not isinstance(found, list):
        raise UserError(f"{path} holds no studies; give what the API answers")
    yield from found


def _trial(study: Any, terms: Terms, faults: list[BadText]) -> Trial:
    name = _at(study, "identificationModule", "nctId", str, "")
    if not _NCT.fullmatch(name):
        raise BadText(
            f"protocolSection.identificationModule.nctId: {name[:40]!r} is no trial number",
            "give NCT and eight digits, in the layout of API version 2",
        )
    diseases = _names(_at(study, "conditionsModule", "conditions", list, []))
    drugs, smiles = [], []
    for intervention in _at(study, "armsInterventionsModule", "interventions", list, []):
        if not isinstance(intervention, dict) or intervention.get("type") not in DRUGS:
            continue
        known = _names([intervention.get("name"), *(intervention.get("otherNames") or [])])
        drugs += known[:1]
        structures = (terms.smiles[n.lower()] for n in known if n.lower() in terms.smiles)
        smiles += next(structures, ())
    codes = [code for disease in diseases for code in terms.codes.get(disease.lower(), ())]
    phases = _names(_at(study, "designModule", "phases", list, []))
    return Trial(
        id=name,
        phase="/".join(_phase(phase) for phase in phases),
        diseases=tuple(diseases),
        codes=codes_of(codes, "terms.codes", faults),
        drugs=tuple(dict.fromkeys(drugs)),
        smiles=smiles_of(smiles, "terms.smiles", faults),
        criteria=split_criteria(_at(study, "eligibilityModule", "eligibilityCriteria", str, "")),
    )


def _at(study: Any, module: str, field: str, kind: type, default: Any) -> Any:
    """A field of a module of the protocol; what is absent is the default.

    Raises:
        BadText: it is of another kind.
    """
    found = study
    for key in ("protocolSection", module, field):
        if not isinstance(found, dict):
            raise BadText(f"{module}.{field}: there is no object {key} to look into", "see the API")
        found = found.get(key, default if key == field else {})
    if not isinstance(found, kind):
        raise BadText(
            f"protocolSection.{module}.{field} is a {type(found).__name__}, not a {kind.__name__}",
            "give it as the API does",
        )
    return found


def _names(values: list) -> list[str]:
    return [value.strip() for value in values if isinstance(value, str) and value.strip()]


def _phase(name: str) -> str:
    """`PHASE1` as `phase 1`, `EARLY_PHASE1` as `early phase 1`, `NA` as `n/a`, as TOP has it."""
    return re.sub(r"phase(\d)", r"phase \1", name.lower().replace("_", " ")).replace("na", "n/a")
