"""What moved the prediction of a trial: each sentence, drug and code left out in turn.

Left out means: the part is not among those whose mean the model reads. Nothing else changes, as
the other parts keep their place and none of them sees another. Where the last part of a kind is
left out, the model reads what it has learned for trials that lack that kind. The effect is of
this model, not of the world; and effects do not add up, since the model is not linear.
"""

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np

from biofm_jax.adapt.trial_outcome import TrialModel
from biofm_jax.data.trial import Trial
from biofm_jax.data.trial_arrays import spread
from biofm_jax.data.trial_batches import TrialBatch, TrialStore

WHOLE = "(all)"


@dataclasses.dataclass(frozen=True)
class Moved:
    """A part of a trial and what it does to the prediction.

    Attributes:
        kind: "inclusion", "exclusion", "drug" or "disease".
        part: the sentence, the SMILES, the ICD-10 code; `WHOLE`: all of that kind together.
        effect: log-odds of success with the part, less those without it; above 0 it speaks for
            success. nan: it does not fit into the model's rows, and is not read.
        without: the probability of success without it.
    """

    kind: str
    part: str
    effect: float
    without: float


@dataclasses.dataclass(frozen=True)
class Explained:
    """The prediction of a trial and its parts, those that moved it most first.

    Attributes:
        trial: of which.
        probability: of success.
        moved: all parts.
    """

    trial: Trial
    probability: float
    moved: tuple[Moved, ...]


def explain(model: TrialModel, trial: Trial) -> Explained:
    """Leave out every sentence, molecule and code of a trial, one at a time and all of a kind."""
    store = model.outcomes.data.store([trial], model.hierarchy)
    cuts = list(_cuts(trial, store.arrays))
    batches = [store.arrays, *(batch for _, _, batch in cuts)]
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *batches)
    many = TrialStore((trial.id,) * len(batches), joined, 0, model.hierarchy, {})
    chance = model.predict_store(many)
    odds = np.log(chance / (1 - chance))
    found = [
        Moved(kind, part, float(odds[0] - odds[place]), float(chance[place]))
        for place, (kind, part, _) in enumerate(cuts, 1)
    ]
    read = {(moved.kind, moved.part) for moved in found}
    found += [
        Moved(kind, part, float("nan"), float(chance[0]))
        for kind, part in _parts(trial)
        if (kind, part) not in read
    ]
    found.sort(key=lambda moved: (np.isnan(moved.effect), -abs(moved.effect)))
    return Explained(trial, float(chance[0]), tuple(found))


def _parts(trial: Trial) -> Iterator[tuple[str, str]]:
    for kind, parts in (
        ("inclusion", trial.criteria.inclusion),
        ("exclusion", trial.criteria.exclusion),
        ("drug", trial.smiles),
        ("disease", trial.codes),
    ):
        for part in dict.fromkeys(parts):
            yield kind, part


def _cuts(trial: Trial, arrays: TrialBatch) -> Iterator[tuple[str, str, TrialBatch]]:
    """(kind, part, the trial without it) of all that the model reads."""
    sentences = trial.criteria.inclusion + trial.criteria.exclusion
    numbers = np.asarray(arrays.criteria.examples)[0]
    for side, kind in enumerate(("inclusion", "exclusion"), 1):
        slots = np.flatnonzero(arrays.sides[0] == side)
        groups = _groups({int(slot): sentences[numbers[slot]] for slot in slots})
        for part, chosen in groups:
            sides = arrays.sides.copy()
            sides[0, chosen] = 0
            yield kind, part, dataclasses.replace(arrays, sides=sides)
    drugs = np.asarray(arrays.molecules.examples)[0]
    slots = np.flatnonzero(drugs >= 0)
    for part, chosen in _groups({int(slot): trial.smiles[drugs[slot]] for slot in slots}):
        examples = arrays.molecules.examples.copy()
        examples[0, chosen] = -1
        molecules = arrays.molecules.replace(examples=examples)
        yield "drug", part, dataclasses.replace(arrays, molecules=molecules)
    read = spread(trial.codes, arrays.codes.shape[1])
    known = {slot: code for slot, code in enumerate(read) if arrays.codes[0, slot, 0] >= 0}
    for part, chosen in _groups(known):
        codes = arrays.codes.copy()
        codes[0, chosen] = -1
        yield "disease", part, dataclasses.replace(arrays, codes=codes)


def _groups(parts: dict[int, str]) -> Iterator[tuple[str, list[int]]]:
    """Each part with its slots (a text may stand twice), and all of them where there are more."""
    for part in dict.fromkeys(parts.values()):
        yield part, [slot for slot, text in parts.items() if text == part]
    if len(set(parts.values())) > 1:
        yield WHOLE, list(parts)
