"""What an objective is: a pure loss that returns a sum and its weight.

Sums, not means, so that microbatches, devices and hosts reduce to exactly the mean of the
global batch, whatever the number of targets in each part.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from biofm_jax.data.api import DataSpec
from biofm_jax.data.batch import Batch
from biofm_jax.data.tokenizers import Vocabulary
from biofm_jax.errors import UserError
from biofm_jax.models.encoder_decoder import EncoderDecoderSpec
from biofm_jax.models.spec import ModelSpec

State = Any  # what an objective remembers between steps (a teacher, a centre); {} for none


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Loss:
    """The result of an objective on a batch.

    Attributes:
        total: () float32, the sum of the loss over all targets.
        weight: () float32, the number of targets; the mean loss is `total / weight`.
        metrics: name -> () float32 sum over targets; the trainer divides by `weight` too.
        state: the objective's state for the next step.
    """

    total: jax.Array
    weight: jax.Array
    metrics: dict[str, jax.Array]
    state: State


@dataclasses.dataclass(frozen=True)
class Objective:
    """The pure functions of an objective.

    Attributes:
        init: params -> state.
        loss: (apply, params, state, batch, rng) -> Loss, where `apply(params, batch, rngs=...)`
            is a model's apply, already told whether it is training.
        embed, compare: only for an objective whose examples depend on one another, such as a
            contrastive one, whose negatives are the rest of the batch. `embed(apply, params,
            batch, rng)` maps each part of a batch alone to a tree of arrays with a leading row
            axis, and `compare(embeddings, batch, state)` is the loss of the whole. With them
            gradient accumulation is exact in two passes (Gao et al. 2021, GradCache,
            arXiv:2101.06983); plain accumulation would change the negatives.
    """

    init: Callable[[Any], State]
    loss: Callable[..., Loss]
    embed: Callable[..., Any] | None = None
    compare: Callable[..., Loss] | None = None


class ObjectiveSpec:
    """Base of the frozen dataclasses that describe an objective in an experiment."""

    head: str  # the model head it needs: "LanguageHead", "ProjectionHead", "PredictionHead"
    causal: bool | None = None  # whether the model must be causal; None: either
    views: int = 0  # random views of each record that the data must keep
    passes: int = 1  # times that a step runs the model over each view in a batch
    predicted: float = 1.0  # share of the tokens whose logits it asks a language head for

    def build(self, vocabulary: Vocabulary | None) -> Objective:
        """The pure functions of this objective for the data's vocabulary."""
        raise TypeError(f"{type(self).__name__} does not define build(vocabulary)")

    def built_for(self, model: ModelSpec, data: DataSpec) -> Objective:
        """The pure functions of this objective in an experiment.

        Most need the vocabulary alone; one that cuts images asks the model for its patches.
        """
        return self.build(data.vocabulary)

    def batch_flops(self, model: ModelSpec, batch: Any, attended: float) -> float:
        """FLOPs of a step on a batch, without the comparison of its examples.

        Args:
            model: the experiment's.
            batch: shapes, as of `DataSpec.shapes`.
            attended: as of `ModelSpec.train_flops`.
        """
        return self.passes * model.batch_flops(batch, attended, self.predicted)

    def check(self, model: ModelSpec, data: DataSpec) -> None:
        """Refuse a model and data that cannot be trained so.

        Raises:
            UserError: names the field and the fix.
        """
        own, writer = type(self).__name__, model.writer
        if (head := type(model.head).__name__) != self.head:
            raise UserError(f"{own} needs {writer}.head={self.head}, but the model has {head}")
        if self.causal not in (None, model.causal):
            if isinstance(model, EncoderDecoderSpec) and not self.causal:
                raise UserError(
                    f"{own} trains one stack that sees both sides, and the model is an "
                    "encoder-decoder; set objective=Denoising(), or another model"
                )
            raise UserError(f"{own} needs --{writer}.causal {self.causal}")
        if data.views < self.views:
            raise UserError(f"{own} needs --data.views {self.views} or more")


def row_keys(key: jax.Array, batch: Batch) -> jax.Array:
    """One random key per row, (b,), from the step's key and the row's first record.

    A row draws the same numbers in whichever microbatch or on whichever device it stands.
    """
    return jax.vmap(lambda record: jax.random.fold_in(key, record))(batch.examples[:, 0])


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Softmax cross-entropy in nats, in float32.

    Args:
        logits: (..., v), any float dtype.
        targets: (...) int32.

    Returns:
        (...) float32.
    """
    logits = logits.astype(jnp.float32)
    at_target = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - at_target


def token_loss(logits: jax.Array, targets: jax.Array, weights: jax.Array, state: State) -> Loss:
    """The loss and accuracy of predicted tokens.

    Args:
        logits: (b, k, v).
        targets: (b, k) int32.
        weights: (b, k) float32, 0 where there is no target.
        state: passed on.

    Returns:
        Loss with the metric `accuracy`.
    """
    nats = cross_entropy(logits, targets)
    hits = (jnp.argmax(logits, axis=-1) == targets).astype(jnp.float32)
    return Loss(
        total=jnp.sum(nats * weights),
        weight=jnp.sum(weights),
        metrics={"accuracy": jnp.sum(hits * weights)},
        state=state,
    )
