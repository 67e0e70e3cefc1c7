"""Tuning of a model on labels by the one trainer, whatever part of it is trained."""

import abc
import dataclasses
import math
from typing import Any

import jax
import numpy as np
from scipy.special import expit

from biofm_jax.adapt.augmented import augmented, flipped_and_cropped
from biofm_jax.adapt.encoder import ROWS, Encoder
from biofm_jax.adapt.labelled import Adapter, Labelled
from biofm_jax.adapt.probe import FEWEST_VALIDATION_LABELS, Kind
from biofm_jax.data.imaging import ImageData
from biofm_jax.data.in_memory import example_batches, pack_examples
from biofm_jax.errors import UserError
from biofm_jax.models.api import Model
from biofm_jax.models.heads import PredictionHead
from biofm_jax.objectives.supervised import Supervised
from biofm_jax.train.layer_decay import LayerDecay
from biofm_jax.train.loop import LoopSpec, fit
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.step import Base

FEWEST_STEPS = 50  # a training set of a few dozen items needs more than its epochs
LOSSES = {"number": "squared", "binary": "binary", "class": "softmax"}


@dataclasses.dataclass(frozen=True)
class Tuned:
    """A model cut into what is trained and what is not.

    Attributes:
        model: `init` and `axes` of the trained part, `apply` of the whole.
        params: where the trained part starts.
        base: the rest; None where everything is trained.
    """

    model: Model
    params: Any
    base: Base | None


@dataclasses.dataclass(frozen=True)
class TuningSpec(abc.ABC):
    """How to tune.

    Attributes:
        epochs: passes over the training items; the epoch with the lowest validation loss is
            used, where there are enough validation items to tell.
        rows: rows of packed tokens in a batch.
        learning_rate: the peak, after a warm-up over a tenth of the steps.
        layer_decay: factor of the learning rate from each layer to the one below, 1 for none.
        weight_decay: decoupled.
        dropout: while training.
        flips: of images, chance to be reversed along each axis while training, the last first:
            "0.5" is left to right, "0.5 0.5" for tissue, which has no upright.
        crop: of images, smallest share that a random crop keeps while training; 1 crops none.
    """

    epochs: int = 20
    rows: int = 8
    learning_rate: float = 3e-4
    layer_decay: float = 1.0
    weight_decay: float = 0.01
    dropout: float = 0.1
    flips: tuple[float, ...] = ()
    crop: float = 1.0

    @property
    def augments(self) -> bool:
        """Whether images are changed while training."""
        return bool(self.flips) or self.crop < 1

    @abc.abstractmethod
    def cut(self, model: Model, params: Any, seed: int) -> Tuned:
        """What is trained.

        Args:
            model: with its prediction head.
            params: pretrained, with a new head.
            seed: of whatever is drawn.
        """


def tuned_adapter(encoder: Encoder, spec: TuningSpec, kind: Kind, show: bool) -> Adapter:
    """An adapter that tunes a model, with a new prediction head, on a task's training items.

    Numbers are standardised by the training items; binary labels use the logistic loss, classes
    the softmax over those that training and validation items have.

    Args:
        encoder: where it starts.
        spec: what is trained, how long and how fast.
        kind: as `Task.kind`.
        show: whether to show progress.

    Raises:
        UserError: flips or crops of a model that reads no images.
    """
    encoder = encoder.reader()
    if spec.augments and not isinstance(encoder.data, ImageData):
        raise UserError(
            f"flips {spec.flips} and crop {spec.crop} change images, and {encoder.name} reads "
            f"{encoder.data.kind} data; leave them out"
        )

    def adapt(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
        centre, scale = _standard(train.targets, kind)
        parts = [encoder.tokenize(part.texts) for part in (train, valid, test)]
        vocabulary = encoder.data.vocabulary
        rows = {
            "max_tokens": encoder.row_tokens([ids for part in parts for ids in part]),
            "segments": encoder.data.segments,
        }

        def labels(part: Labelled) -> np.ndarray:
            return ((part.targets - centre) / scale).astype(np.float32)

        outputs = train.targets.shape[1]
        if kind == "class":
            outputs = 1 + int(np.nanmax(np.concatenate([train.targets, valid.targets])))
        model = dataclasses.replace(
            encoder.spec, head=PredictionHead(outputs), dropout=spec.dropout
        ).build()
        shown = model
        if spec.augments:
            how = flipped_and_cropped(spec.flips, spec.crop, encoder.data.image)
            shown = augmented(model, how)
        tuned = spec.cut(shown, _with_new_head(model, encoder.params_for(seed), seed), seed)
        batches = example_batches(
            parts[0], vocabulary, batch_size=spec.rows, seed=seed, labels=labels(train), **rows
        )
        tokens = sum(min(len(ids), rows["max_tokens"]) for ids in parts[0])
        epoch = max(1, round(tokens / (spec.rows * rows["max_tokens"])))
        steps = max(FEWEST_STEPS, spec.epochs * epoch)

        choosing = np.isfinite(valid.targets).sum() >= FEWEST_VALIDATION_LABELS
        if choosing:
            packed = pack_examples(
                parts[1], vocabulary, batch_size=spec.rows, labels=labels(valid), **rows
            )
        result = fit(
            tuned.model,
            Supervised(LOSSES[kind]).build(vocabulary),
            batches,
            optimizer=LayerDecay(
                learning_rate=spec.learning_rate,
                warmup=math.ceil(steps / 10),
                weight_decay=spec.weight_decay,
                b2=0.999,
                layer_decay=spec.layer_decay,
            ),
            mesh=MeshSpec(data=1).build(jax.devices()[:1]),
            loop=LoopSpec(
                steps=steps,
                batch_size=spec.rows,
                seed=seed,
                eval_every=max(epoch, steps // 20) if choosing else 0,
                log_every=10,
            ),
            held_out=(lambda: iter(packed.batches)) if choosing else None,
            params=tuned.params,
            base=tuned.base,
            title=f"tune {encoder.name}",
            show=show,
            unit=encoder.data.unit,
            keep_best=choosing,
        )
        params = result.best if choosing else result.state.params
        frozen = () if tuned.base is None else (tuned.base.params,)

        @jax.jit
        def predict(params, batch, *frozen):
            joined = tuned.base.join(*frozen, params) if frozen else params
            return model.apply(joined, batch).logits

        packed = pack_examples(parts[2], vocabulary, batch_size=ROWS, **rows)
        found = [jax.device_get(predict(params, batch, *frozen)) for batch in packed.batches]
        return _predicted(packed.gather(found).astype(np.float64), kind, centre, scale)

    return adapt


def _standard(targets: np.ndarray, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """(k,) centre and scale of the labels; those that are no numbers stay as they are.

    Raises:
        UserError: a column has no label.
    """
    if (empty := np.isnan(targets).all(0)).any():
        raise UserError(f"label column {empty.argmax()} has no label in the training part")
    if kind != "number":
        return np.zeros(targets.shape[1]), np.ones(targets.shape[1])
    spread = np.nanstd(targets, axis=0)
    return np.nanmean(targets, axis=0), np.where(spread > 0, spread, 1.0)


def _predicted(outputs: np.ndarray, kind: Kind, centre, scale) -> np.ndarray:
    """(m, k) predictions from the head's outputs, in the unit of the labels."""
    if kind == "class":
        return outputs.argmax(1)[:, None].astype(np.float64)
    return expit(outputs) if kind == "binary" else outputs * scale + centre


def _with_new_head(model: Model, params: Any, seed: int) -> Any:
    """Pretrained parameters, with whatever the new model has and they lack drawn from the seed."""
    fresh = jax.jit(model.init)(jax.random.key(seed), None)
    return fresh | {name: params[name] for name in fresh if name in params and name != "head"}
