"""Batches of trials: molecules, disease codes and criteria of each in arrays of fixed shape."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np

from biofm_jax.array_types import AnyArray
from biofm_jax.data.api import DataSpec
from biofm_jax.data.batch import Batch
from biofm_jax.data.criteria import Criteria, HashedWords
from biofm_jax.data.icd10 import DEPTH, Hierarchy
from biofm_jax.data.sequence import expanded
from biofm_jax.data.tokenizers import Vocabulary
from biofm_jax.data.trial import Trial, read_top
from biofm_jax.data.trial_arrays import molecule_row, sentence_row, spread
from biofm_jax.errors import UserError


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrialBatch:
    """b trials.

    Attributes:
        molecules: a row of atoms for each trial, each molecule a packed example.
        criteria: a row of words for each trial, each sentence a packed example.
        sides: (b, s) int32 of each sentence: 0 none, 1 inclusion, 2 exclusion.
        codes: (b, c, a) int32 numbers of each ICD-10 code and its ancestors in the hierarchy, the
            nearest first; -1 empty.
        targets: (b, 1) float32, 1 for success.
        weights: (b, 1) float32, 0 where the outcome is unknown.
        examples: (b, 1) int32 number of the trial; -1 for an empty row.
    """

    molecules: Batch
    criteria: Batch
    sides: AnyArray
    codes: AnyArray
    targets: AnyArray
    weights: AnyArray
    examples: AnyArray

    # What the trainer asks of any batch.
    pair = None

    @property
    def tokens(self):
        """(b, t) words of the criteria."""
        return self.criteria.tokens

    @property
    def segment_ids(self):
        """(b, t): the words count as tokens."""
        return self.criteria.segment_ids


@dataclasses.dataclass(frozen=True, eq=False)
class TrialStore:
    """Trials as arrays.

    Attributes:
        ids: of n trials.
        arrays: the batch of all n.
        held: how many of them, the last ones, are held out.
        hierarchy: the codes that are known.
        left_out: what did not fit into the shapes: kind -> number.
    """

    ids: tuple[str, ...]
    arrays: TrialBatch
    held: int
    hierarchy: Hierarchy
    left_out: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.ids)

    def digest(self) -> str:
        """Hex digits of all arrays, to compare hosts by."""
        found = hashlib.sha256(" ".join(self.ids).encode())
        for leaf in jax.tree.leaves(self.arrays):
            found.update(np.ascontiguousarray(leaf).tobytes())
        return found.hexdigest()[:16]

    def take(self, index: np.ndarray) -> TrialBatch:
        """The trials of some numbers; -1 is an empty row."""
        batch = jax.tree.map(lambda leaf: leaf[np.maximum(index, 0)], self.arrays)
        weights = np.where(index[:, None] < 0, 0.0, batch.weights).astype(np.float32)
        examples = np.where(index[:, None] < 0, -1, batch.examples).astype(np.int32)
        return dataclasses.replace(batch, weights=weights, examples=examples)

    def with_targets(self, targets: np.ndarray) -> "TrialStore":
        """The same trials with other outcomes.

        Args:
            targets: (n, 1), nan where unknown.
        """
        known = np.isfinite(targets)
        arrays = dataclasses.replace(
            self.arrays,
            targets=np.where(known, targets, 0.0).astype(np.float32),
            weights=known.astype(np.float32),
        )
        return dataclasses.replace(self, arrays=arrays)


@dataclasses.dataclass(frozen=True)
class TrialData(DataSpec):
    """Clinical trials of TOP's CSV layout."""

    path: str = ""
    """The training trials; `$BIOFM_DATA/...` is expanded."""
    valid_path: str = ""
    """Trials that are held out, for the held-out loss; none: no such loss."""
    tolerance: float = 0.0
    """Share of bad records, 0 to 1, with which reading goes on."""
    max_tokens: int = 256
    """Words of a trial's criteria (t). Of longer texts inclusion and exclusion keep their first
    sentences, in proportion."""
    sentence: int = 32
    """Most words of a sentence, cls and eos included."""
    segments: int = 28
    """Most sentences (s)."""
    atoms: int = 192
    """Of all molecules of a trial. A molecule that does not fit is left out."""
    molecules: int = 6
    """Most molecules."""
    codes: int = 32
    """Most ICD-10 codes (c); of more, evenly spread ones."""
    words: int = 4096
    """Buckets of `HashedWords`."""

    kind = "trial"
    unit = "words"

    def __post_init__(self):
        for name in ("max_tokens", "sentence", "segments", "atoms", "molecules", "codes", "words"):
            if getattr(self, name) < 1 + (name == "sentence"):
                raise UserError(f"data.{name} is {getattr(self, name)}; it must be larger")

    @property
    def holdout(self) -> float:
        """Above 0 where trials are held out."""
        return float(bool(self.valid_path))

    @property
    def vocabulary(self) -> Vocabulary:
        """Of the words."""
        return self.tokenizer().vocabulary

    def tokenizer(self) -> HashedWords:
        """Of the criteria."""
        return HashedWords(self.words)

    def open(self) -> TrialStore:
        """The training trials, then those held out; the hierarchy is that of the training trials.

        Raises:
            UserError: no path, or as `read_top`.
        """
        if not self.path:
            raise UserError("data.path is empty: give a CSV file of trials in TOP's layout")
        train, _ = read_top(expanded(self.path, "data.path"), tolerance=self.tolerance)
        held: tuple[Trial, ...] = ()
        if self.valid_path:
            held, _ = read_top(
                expanded(self.valid_path, "data.valid_path"), tolerance=self.tolerance
            )
        hierarchy = Hierarchy.of(code for trial in train for code in trial.codes)
        return self.store(train + held, hierarchy, len(held))

    def store(self, trials: Sequence[Trial], hierarchy: Hierarchy, held: int = 0) -> TrialStore:
        """Trials as arrays of these shapes.

        Args:
            trials: in any order, those held out last.
            hierarchy: the codes that the model knows.
            held: how many are held out.
        """
        rows, lost = [], {"molecules": 0, "codes": 0, "sentences": 0}
        for number, trial in enumerate(trials):
            molecules, left = molecule_row(trial.smiles, self.atoms, self.molecules)
            lost["molecules"] += left
            criteria, sides, left = sentence_row(
                trial.criteria, self.tokenizer(), self.max_tokens, self.sentence, self.segments
            )
            lost["sentences"] += left
            codes = np.full((self.codes, DEPTH), -1, np.int32)
            for slot, code in enumerate(spread(trial.codes, self.codes)):
                codes[slot] = hierarchy.path(code)
            lost["codes"] += max(0, len(trial.codes) - self.codes)
            known = np.isfinite(trial.label)
            rows.append(
                TrialBatch(
                    molecules=molecules,
                    criteria=criteria,
                    sides=sides,
                    codes=codes,
                    targets=np.float32([trial.label if known else 0.0]),
                    weights=np.float32([known]),
                    examples=np.int32([number]),
                )
            )
        if not rows:
            raise UserError("there are no trials to read")
        arrays = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
        return TrialStore(tuple(t.id for t in trials), arrays, held, hierarchy, lost)

    def batches(
        self,
        store: TrialStore,
        *,
        batch_size: int,
        seed: int,
        share: np.ndarray | None = None,
        epochs: int | None = None,
        holdout: bool = False,
    ) -> "TrialBatches":
        """Trials in a new order each epoch, those held out in their own; see `DataSpec`."""
        train = np.arange(len(store) - store.held)
        rows = len(train) + np.arange(store.held) if holdout else train
        if not len(rows):
            raise UserError("there are no trials to learn from: data.path has none left")
        share = np.arange(batch_size) if share is None else np.asarray(share)
        return TrialBatches(store, rows, batch_size, seed, share, epochs, shuffle=not holdout)

    def shapes(self, rows: int, paired: bool = False) -> TrialBatch:
        """The shapes of a batch of so many trials, without its data."""
        empty = Trial("", "", (), (), (), (), Criteria())
        one = self.store([empty], Hierarchy(())).arrays
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype), one)


class TrialBatches:
    """Trials in order; a batch depends on the seed and its number alone."""

    def __init__(self, store, rows, batch_size, seed, share, epochs, shuffle):
        self._store, self._rows, self._size, self._seed = store, rows, batch_size, seed
        self._share, self._epochs, self._shuffle, self._next = share, epochs, shuffle, 0
        self._order: tuple[int, np.ndarray] = (-1, rows)

    def __iter__(self) -> Iterator[TrialBatch]:
        return self

    def __next__(self) -> TrialBatch:
        place = self._next * self._size + np.arange(self._size)
        total = None if self._epochs is None else self._epochs * len(self._rows)
        if total is not None and place[0] >= total:
            raise StopIteration
        self._next += 1
        index = np.array([self._visit(p) if total is None or p < total else -1 for p in place])
        return self._store.take(index[self._share])

    def state(self) -> dict:
        """JSON-able: the next batch, and what decides the order."""
        return {"next": self._next, "seed": self._seed, "trials": len(self._rows)}

    def restore(self, state: dict) -> None:
        """Go to a position that `state` gave.

        Raises:
            UserError: it is of other trials or another seed.
        """
        now = self.state()
        for name in ("seed", "trials"):
            if state[name] != now[name]:
                raise UserError(
                    f"the checkpoint's trials had {name} = {state[name]}, now it is {now[name]}: "
                    "the order cannot be continued; start in a new workdir"
                )
        self._next = state["next"]

    def names(self, batch: TrialBatch) -> list[str]:
        """The numbers of a batch's trials in the registry."""
        return [self._store.ids[i] for i in np.asarray(batch.examples)[:, 0] if i >= 0]

    def _visit(self, place: int) -> int:
        epoch, within = divmod(int(place), len(self._rows))
        if self._order[0] != epoch:
            order = self._rows
            if self._shuffle:
                order = np.random.default_rng([self._seed, epoch]).permutation(self._rows)
            self._order = (epoch, order)
        return int(self._order[1][within])
