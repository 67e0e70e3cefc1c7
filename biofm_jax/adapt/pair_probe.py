"""Two frozen models, of a drug and of its target, with a head that is trained on pairs."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import jax
import numpy as np

from biofm_jax.adapt.columns import FEWEST_VALIDATION_LABELS
from biofm_jax.adapt.encoder import Encoder, Pooling
from biofm_jax.adapt.features import Remembered
from biofm_jax.adapt.labelled import Adapter, Labelled
from biofm_jax.data.affinity import split_pair
from biofm_jax.data.pair_batches import Pairs, ShuffledPairs
from biofm_jax.data.tokenizers import Vocabulary
from biofm_jax.models.pair_head import PairHeadSpec
from biofm_jax.objectives.supervised import Supervised
from biofm_jax.train.loop import LoopSpec, fit
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.optimizer import OptimizerSpec
from biofm_jax.train.step import Base

LOOKS = 30  # measurements of the validation error in a run


@dataclasses.dataclass(frozen=True)
class PairEncoder:
    """Two models whose texts stand side by side in the text of an item.

    Attributes:
        drug: reads the SMILES.
        target: reads the sequence.
    """

    drug: Encoder
    target: Encoder

    @property
    def name(self) -> str:
        """As printed in tables."""
        return f"{self.drug.name}+{self.target.name}"

    @property
    def params(self) -> tuple | None:
        """None where nobody trained either."""
        both = self.drug.params, self.target.params
        return None if both == (None, None) else both

    def control(self) -> "PairEncoder":
        """The same two models with parameters nobody trained."""
        return PairEncoder(self.drug.control(), self.target.control())

    def features(self, pooling: Pooling | None, layer: int | None) -> "PairFeatures":
        """The pooled states of both; each distinct text is embedded once for each seed."""
        return PairFeatures(
            *(
                Remembered(functools.cache(encoder.features_for_seeds(pooling, layer)))
                for encoder in (self.drug, self.target)
            )
        )


@dataclasses.dataclass(frozen=True)
class PairFeatures:
    """What both models say of their texts, remembered.

    Attributes:
        drug: of SMILES.
        target: of sequences.
    """

    drug: Remembered
    target: Remembered


@dataclasses.dataclass(frozen=True)
class PairProbeSpec:
    """How the head is trained.

    Attributes:
        width: of the head.
        steps: updates, for any number of pairs; the state with the lowest validation loss is used,
            where there are enough validation labels to tell.
        rows: pairs of a batch (512 as GraphDTA, Nguyen et al. 2021, bioinformatics btaa921).
        learning_rate: the peak; a warm-up over a tenth of the steps, then a cosine.
        weight_decay: decoupled.
        dropout: of the head.
    """

    width: int = 256
    steps: int = 3000
    rows: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    dropout: float = 0.1


def pair_probe_adapter(
    features: PairFeatures, spec: PairProbeSpec = PairProbeSpec(), show: bool = False
) -> Adapter:
    """An adapter for items "SMILES SEQUENCE" with a number each.

    Features are standardised by the drugs and targets of the training pairs, labels by the training
    pairs. What it predicted for the same parts and seed is remembered: several metrics of one
    prediction are several tasks.

    Args:
        features: of the two models.
        spec: how the head is trained.
        show: whether to show progress.
    """

    def adapt(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
        parts = (train, valid, test)
        tables, numbers = zip(*(numbered(parts, side) for side in (0, 1)))
        both = (features.drug, features.target)
        rows = {
            name: _standardised(of(seed, texts), numbers[side][0])
            for side, (name, of, texts) in enumerate(zip(("first", "second"), both, tables))
        }
        pairs = [np.stack([numbers[0][i], numbers[1][i]], 1).astype(np.int32) for i in range(3)]
        centre = np.nanmean(train.targets, axis=0)
        scale = np.nanstd(train.targets, axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        learned, held, asked = (
            Pairs(numbers, ((part.targets - centre) / scale).astype(np.float32))
            for numbers, part in zip(pairs, parts, strict=True)
        )
        found = _trained(spec, rows, learned, held, asked, seed, show)
        return found.astype(np.float64) * scale + centre

    return remembered(adapt)


def remembered(adapt: Adapter) -> Adapter:
    """The same adapter, which keeps what it predicted last for the same parts and seed."""
    kept: dict = {}

    def again(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
        labels = (train.targets.tobytes(), valid.targets.tobytes())
        key = (train.ids, valid.ids, test.ids, labels, seed)
        if key not in kept:
            if len(kept) >= 16:  # seeds x (adaptation, calibration), the control's are another's
                kept.pop(next(iter(kept)))
            kept[key] = adapt(train, valid, test, seed)
        return kept[key]

    return again


def numbered(parts: Sequence[Labelled], side: int) -> tuple[list[str], list[np.ndarray]]:
    """The distinct texts of one side (0 SMILES, 1 sequence), and each part's numbers among them.

    Raises:
        UserError: a text is no pair.
    """
    number: dict[str, int] = {}
    found = [
        np.array([number.setdefault(split_pair(t)[side], len(number)) for t in p.texts], np.int64)
        for p in parts
    ]
    return list(number), found


def _standardised(table: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(n, d) float32, by the mean and deviation of the rows that training pairs have."""
    known = table[np.unique(seen)]
    spread = known.std(0)
    return ((table - known.mean(0)) / np.where(spread > 1e-6, spread, 1.0)).astype(np.float32)


def _trained(spec, tables, train: Pairs, valid: Pairs, test: Pairs, seed, show) -> np.ndarray:
    """(n_test, k) outputs for standardised labels."""
    head = PairHeadSpec(
        tables["first"].shape[1],
        tables["second"].shape[1],
        spec.width,
        train.labels.shape[1],
        spec.dropout,
    )
    model, rows = head.build(), min(spec.rows, 1 << max(0, len(train) - 1).bit_length())
    choosing = np.isfinite(valid.labels).sum() >= FEWEST_VALIDATION_LABELS
    names = {name: (None, None) for name in tables}
    base = Base({"tables": tables}, {"tables": names}, lambda fixed, own: {**fixed, **own})
    result = fit(
        model,
        Supervised("squared").build(Vocabulary.of(("<pad>",), {"pad": "<pad>"})),
        ShuffledPairs(train, rows, seed),
        optimizer=OptimizerSpec(
            learning_rate=spec.learning_rate,
            warmup=math.ceil(spec.steps / 10),
            weight_decay=spec.weight_decay,
            final=0.01,
            b2=0.999,
        ),
        mesh=MeshSpec(data=1).build(jax.devices()[:1]),
        loop=LoopSpec(
            steps=spec.steps,
            batch_size=rows,
            seed=seed,
            eval_every=max(1, spec.steps // LOOKS) if choosing else 0,
            log_every=50,
        ),
        held_out=(lambda: valid.once(4 * rows)) if choosing else None,
        base=base,
        title="pairs",
        show=show,
        unit="drugs and targets",
        keep_best=choosing,
    )
    params = {**base.params, **(result.best if choosing else result.state.params)}
    predict: Callable = jax.jit(lambda params, batch: model.apply(params, batch).logits[:, 0])
    found = [np.asarray(predict(params, batch)) for batch in test.once(4 * rows)]
    return np.concatenate(found)[: len(test)]
