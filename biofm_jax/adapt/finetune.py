"""Fine-tuning: all parameters, with a new prediction head, by the one trainer."""

import dataclasses
import math

import jax
import numpy as np
from scipy.special import expit

from biofm_jax.adapt.encoder import ROWS, Encoder
from biofm_jax.adapt.labelled import Adapter, Labelled
from biofm_jax.adapt.probe import FEWEST_VALIDATION_LABELS, Kind
from biofm_jax.data.in_memory import example_batches, pack_examples
from biofm_jax.models.heads import PredictionHead
from biofm_jax.objectives.supervised import Supervised
from biofm_jax.train.loop import LoopSpec, fit
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.optimizer import OptimizerSpec

FEWEST_STEPS = 50  # a training set of a few dozen items needs more than its epochs


@dataclasses.dataclass(frozen=True)
class FinetuneSpec:
    """How to fine-tune.

    Attributes:
        epochs: passes over the training items; the epoch with the lowest validation loss is
            used, where there are enough validation items to tell.
        rows: rows of packed tokens in a batch.
        learning_rate: the peak, after a warm-up over a tenth of the steps.
        weight_decay: decoupled.
        dropout: while training.
    """

    epochs: int = 20
    rows: int = 8
    learning_rate: float = 3e-4
    weight_decay: float = 0.01
    dropout: float = 0.1


def finetune_adapter(encoder: Encoder, spec: FinetuneSpec, kind: Kind, show: bool) -> Adapter:
    """An adapter that fine-tunes a model on a task's training items.

    Numbers are standardised by the training items; binary labels use the logistic loss.

    Args:
        encoder: where it starts.
        spec: how long and how fast.
        kind: "number" or "binary", as `Task.kind`.
        show: whether to show progress.
    """

    def adapt(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
        centre, scale = _standard(train.targets, kind)
        parts = [encoder.tokenize(part.texts) for part in (train, valid, test)]
        vocabulary = encoder.data.tokenizer().vocabulary
        rows = {
            "max_tokens": encoder.row_tokens([ids for part in parts for ids in part]),
            "segments": encoder.data.segments,
        }

        def labels(part: Labelled) -> np.ndarray:
            return ((part.targets - centre) / scale).astype(np.float32)

        model = dataclasses.replace(
            encoder.spec, head=PredictionHead(train.targets.shape[1]), dropout=spec.dropout
        ).build()
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
            model,
            Supervised("squared" if kind == "number" else "binary").build(vocabulary),
            batches,
            optimizer=OptimizerSpec(
                learning_rate=spec.learning_rate,
                warmup=math.ceil(steps / 10),
                weight_decay=spec.weight_decay,
                b2=0.999,
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
            params=_with_new_head(model, encoder.params_for(seed), seed),
            title=f"finetune {encoder.name}",
            show=show,
            keep_best=choosing,
        )
        params = result.best if choosing else result.state.params
        predict = jax.jit(lambda params, batch: model.apply(params, batch).logits)
        packed = pack_examples(parts[2], vocabulary, batch_size=ROWS, **rows)
        outputs = packed.gather([jax.device_get(predict(params, b)) for b in packed.batches])
        outputs = outputs.astype(np.float64)
        return expit(outputs) if kind == "binary" else outputs * scale + centre

    return adapt


def _standard(targets: np.ndarray, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """(k,) centre and scale of the labels; binary labels stay 0 and 1."""
    if kind == "binary":
        return np.zeros(targets.shape[1]), np.ones(targets.shape[1])
    spread = np.nanstd(targets, axis=0)
    return np.nanmean(targets, axis=0), np.where(spread > 0, spread, 1.0)


def _with_new_head(model, params, seed: int):
    """Pretrained parameters, with whatever the new model has and they lack drawn from the seed."""
    fresh = jax.jit(model.init)(jax.random.key(seed), None)
    return fresh | {name: params[name] for name in fresh if name in params and name != "head"}
