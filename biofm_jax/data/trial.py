"""Clinical trials: the record, and the reader of the TOP benchmark's CSV files.

What is known only when a trial has ended is dropped at reading: `status` and `why_stop` of TOP
(Fu et al. 2022, Patterns 3:100445), of a registry its status module and results. No record has a
place for them. Two cautions about the text of TOP itself: it is the registry's last version, so
that an eligibility text may have been changed while the trial ran ("no longer recruiting"), and
its ICD-10 codes were looked up by name, with errors ("lymphoma" has S33.1, of lumbar vertebrae).
"""

import ast
import dataclasses
import functools
import math
from pathlib import Path

from biofm_jax.data.bad_records import BadRecords, BadText
from biofm_jax.data.criteria import Criteria, split_criteria
from biofm_jax.data.icd10 import clean_code
from biofm_jax.data.molecule import canonical_smiles
from biofm_jax.data.molecule_graph import molecule_graph
from biofm_jax.data.readers import read_lines, table_rows
from biofm_jax.errors import UserError

# The columns that are read; of the others (status, why_stop) no cell is looked at.
COLUMNS = ("nctid", "phase", "diseases", "icdcodes", "drugs", "smiless", "criteria")
LABEL = "label"


@dataclasses.dataclass(frozen=True)
class Trial:
    """What is known of a trial before it starts, and whether it succeeded.

    Attributes:
        id: number in the registry, such as NCT01288573.
        phase: in lower case, such as "phase 1/phase 2".
        diseases: names.
        codes: ICD-10 codes of all diseases, each once, as `clean_code` writes them.
        drugs: names; a name may stand for several drugs.
        smiles: canonical SMILES of the drugs, each molecule once; not beside `drugs`, of which
            some have none. Empty where no structure is known (antibodies, cells, vaccines).
        criteria: of eligibility.
        label: 1 success, 0 not, nan unknown.
    """

    id: str
    phase: str
    diseases: tuple[str, ...]
    codes: tuple[str, ...]
    drugs: tuple[str, ...]
    smiles: tuple[str, ...]
    criteria: Criteria
    label: float = math.nan


def read_top(path: Path, *, tolerance: float = 0.0) -> tuple[tuple[Trial, ...], BadRecords]:
    """Trials of a CSV file of TOP, plain or gzip, in its order.

    A trial whose number, label or lists cannot be read is left out; one with an unknown ICD code
    or a SMILES that is no molecule stays, without that code or molecule. Both are bad records.

    Args:
        path: with the columns of TOP; without the column `label` no label is known.
        tolerance: share of bad records, 0 to 1, with which reading goes on.

    Returns:
        The trials, and the bad records by line, field and fix.

    Raises:
        UserError: the file or a column is missing, or more records are bad than tolerated.
    """
    bad, trials, seen = BadRecords(str(path)), [], {}
    with read_lines(path) as lines:
        rows = table_rows(path, lines, bad, ",")
        _, header = next(rows)
        if missing := [name for name in COLUMNS if name not in header]:
            raise UserError(
                f"{path}, line 1: no column {missing[0]!r} among {', '.join(header)}; a table of "
                f"trials has {', '.join(COLUMNS)}, and {LABEL} where it is known"
            )
        wanted = COLUMNS + ((LABEL,) if LABEL in header else ())
        places = [header.index(name) for name in wanted]
        for line, row in rows:
            cells = dict(zip(wanted, (row[place] for place in places)))
            faults: list[BadText] = []
            try:
                trial = _trial(cells, faults)
                first = seen.setdefault(trial.id, line)
                if first != line:
                    reason = f"nctid: {trial.id} stands already on line {first}"
                    raise BadText(reason, "keep one of them")
            except BadText as fault:
                bad.add(line, fault.reason, fault.fix)
                continue
            note_faults(bad, line, trial.id, faults)
            trials.append(trial)
    spoiled = sum(record.reason.startswith("kept ") for record in bad.records)
    bad.check(len(trials) - spoiled, tolerance, None)
    return tuple(trials), bad


def note_faults(bad: BadRecords, line: int, name: str, faults: list[BadText]) -> None:
    """Name the faults of a trial that stays without what is wrong, in one record."""
    if faults:
        reasons = "; ".join(fault.reason for fault in faults)
        fixes = "; ".join(dict.fromkeys(fault.fix for fault in faults))
        bad.add(line, f"kept {name} without: {reasons}", fixes)


def codes_of(texts: list[str], field: str, faults: list[BadText]) -> tuple[str, ...]:
    """Clean ICD-10 codes, each once; what is none goes to `faults`."""
    return _kept(clean_code, texts, field, faults)


def smiles_of(texts: list[str], field: str, faults: list[BadText]) -> tuple[str, ...]:
    """Canonical SMILES, each molecule once; what is no molecule goes to `faults`."""
    return _kept(_molecule, texts, field, faults)


@functools.lru_cache(maxsize=100_000)
def _molecule(text: str) -> str:
    canonical = canonical_smiles(text)
    molecule_graph(canonical)
    return canonical


def _kept(clean, texts, field, faults) -> tuple[str, ...]:
    found = []
    for text in texts:
        try:
            found.append(clean(text))
        except BadText as fault:
            faults.append(BadText(f"{field}: {fault.reason}", fault.fix))
    return tuple(dict.fromkeys(found))


def _trial(cells: dict[str, str], faults: list[BadText]) -> Trial:
    name = cells["nctid"].strip()
    if not name:
        raise BadText("nctid: it is blank", "give the trial's number")
    label = cells.get(LABEL, "").strip()
    if label not in ("", "0", "1", "0.0", "1.0"):
        fix = "write 1 for success, 0 for failure, nothing where it is unknown"
        raise BadText(f"label: {label[:40]!r} is neither 0 nor 1", fix)
    lists = {key: _texts(cells[key], key) for key in ("diseases", "icdcodes", "drugs", "smiless")}
    codes = [code for cell in lists["icdcodes"] for code in _texts(cell, "icdcodes")]
    return Trial(
        id=name,
        phase=cells["phase"].strip().lower(),
        diseases=tuple(lists["diseases"]),
        codes=codes_of(codes, "icdcodes", faults),
        drugs=tuple(lists["drugs"]),
        smiles=smiles_of(lists["smiless"], "smiless", faults),
        criteria=split_criteria(cells["criteria"]),
        label=float(label) if label else math.nan,
    )


def _texts(cell: str, field: str) -> list[str]:
    """The texts of a Python list such as `['one', 'two']`; a blank cell is an empty list."""
    if not cell.strip():
        return []
    try:
        found = ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise BadText(f"{field}: {cell[:40]!r} is no list of texts", "write ['one', 'two']")
    return [text.strip() for text in found if text.strip()]
