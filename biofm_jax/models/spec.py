"""What an experiment asks of its model, whatever the architecture."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, get_args, get_type_hints

import jax.numpy as jnp

from biofm_jax.array_types import PyTree
from biofm_jax.data.api import DataSpec
from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models.api import Model


class ModelSpec:
    """Base of the frozen dataclasses that describe a model in an experiment.

    Attributes:
        writer: path of the part of an experiment that has the head, for messages.
        vocabulary_paths: where an experiment says the number of token ids.
        head: what makes `Outputs.logits`; an objective names the one it needs.
        causal: whether tokens see only what is behind them.
        dtype: of the computation.
        head_size: width of a head of attention; None where there is none.
        reads_source: whether it writes behind a `Batch.source`, which its encoder reads.
    """

    writer: ClassVar[str] = "model"
    vocabulary_paths: ClassVar[tuple[str, ...]] = ("model.vocabulary",)
    head: Any = None
    causal: bool = False
    dtype: str = "float32"
    head_size: int | None = None
    reads_source: ClassVar[bool] = False

    def build(self) -> Model:
        """The model's pure functions."""
        raise TypeError(f"{type(self).__name__} does not define build()")

    def check(self, data: DataSpec, mesh: tuple[int, int, int, int]) -> None:
        """Refuse data that the model cannot read and a mesh that cannot cut it.

        Args:
            data: the experiment's, not opened.
            mesh: sizes of data, fsdp, tensor and context.

        Raises:
            UserError: names the field and the fix.
        """

    def check_opened(self, store: Any) -> None:
        """Refuse records of other sizes than the model has.

        Args:
            store: what `DataSpec.open` returned.

        Raises:
            UserError: names the field and the fix.
        """

    def reader(self, params: PyTree | None) -> tuple["ModelSpec", PyTree | None]:
        """The stack that reads a text, with its parameters: what is adapted and embeds.

        Args:
            params: of the model; None where there are none.
        """
        return self, params

    def stacks(self) -> Mapping[str, "ModelSpec"]:
        """The models it is made of, by the names of its fields; empty where it is one itself."""
        return {}

    def writers(self) -> tuple["ModelSpec", ...]:
        """The stacks that new tokens go through, one behind the other; the last reads a source."""
        return (self,)

    def rows(self, batch: Batch) -> Batch:
        """The batch whose tokens the hidden states are of; another one where images become rows."""
        return batch

    def replaced(self, **changes) -> "ModelSpec":
        """The spec with some fields changed, in each of its stacks."""
        parts = {name: stack.replaced(**changes) for name, stack in self.stacks().items()}
        return dataclasses.replace(self, **(parts or changes))

    def policies(self) -> tuple[str, ...]:
        """What `remat` may be, in all of its stacks; empty where there is no choice."""
        if parts := [stack.policies() for stack in self.stacks().values()]:
            return tuple(name for name in parts[0] if all(name in part for part in parts))
        return get_args(get_type_hints(type(self)).get("remat"))

    @property
    def remat(self) -> str:
        """What the backward pass computes again; of several stacks, in the last."""
        return [*self.stacks().values()][-1].remat if self.stacks() else "none"

    @property
    def compute_dtype(self) -> jnp.dtype:
        """`dtype` as JAX knows it; of several stacks, in the last."""
        last = [*self.stacks().values()][-1:]
        return last[0].compute_dtype if last else jnp.dtype(self.dtype)

    def visited_share(self, tokens: int) -> float:
        """Share of a row's pairs of tokens that splash attention computes.

        Args:
            tokens: of a row.
        """
        return 1.0

    def places(self, batch: Any) -> int:
        """Tokens that the model makes of a batch, padding too; `batch` as of `batch_flops`."""
        return batch.tokens.size

    def batch_flops(self, batch: Any, attended: float, predicted: float = 0.0) -> float:
        """FLOPs of forward and backward pass of a batch that is read once.

        Args:
            batch: shapes, as of `DataSpec.shapes`.
            attended: as of `train_flops`, of the batch's tokens.
            predicted: as of `train_flops`.
        """
        tokens = batch.tokens.size
        return tokens * self.train_flops(attended, predicted, batch.examples.size / tokens)

    def train_flops(self, attended: float, predicted: float = 0.0, pooled: float = 0.0) -> float:
        """FLOPs of forward and backward pass for one token; see `flops.py`.

        Args:
            attended: T, tokens of the example a token stands in, itself among them: the mean
                over tokens, per document where rows are packed.
            predicted: share of the tokens whose logits a language head computes.
            pooled: pooled vectors per token (examples of a row / tokens of a row) that another
                head reads.
        """
        raise TypeError(f"{type(self).__name__} does not define train_flops()")


def check_tensor(size: int, parts: int, field: str) -> None:
    """Refuse a mesh that does not divide what tensor parallelism cuts.

    Args:
        size: of that.
        parts: of the mesh axis.
        field: its path.

    Raises:
        UserError: names the field.
    """
    if size % parts:
        raise UserError(f"mesh.tensor {parts} must divide {field} {size}")


def check_tokens(spec: Any, data: DataSpec, mesh: tuple[int, int, int, int]) -> None:
    """What every model that reads rows of tokens asks.

    Args:
        spec: has `vocabulary`, `heads` and `positions`.
        data: the experiment's.
        mesh: sizes of data, fsdp, tensor and context.

    Raises:
        UserError: names the field and the fix.
    """
    vocabulary = data.vocabulary
    if vocabulary is None:
        raise UserError(
            f"{type(spec).__name__} reads tokens, and {type(data).__name__} has none; choose "
            "another model or other data"
        )
    check_tensor(spec.heads, mesh[2], f"{spec.writer}.heads")
    if data.max_tokens % mesh[3]:
        nearest = max(1, round(data.max_tokens / mesh[3])) * mesh[3]
        raise UserError(
            f"mesh.context {mesh[3]} must divide data.max_tokens {data.max_tokens}: "
            f"each device holds a run of a row; the nearest is --data.max-tokens {nearest}"
        )
    limit = getattr(spec.positions, "maximum", None)
    if limit is not None and data.max_tokens > limit:
        raise UserError(
            f"data.max_tokens {data.max_tokens} is longer than the {limit} positions of "
            f"the model; lower it or raise --{spec.writer}.positions.maximum"
        )
    size = vocabulary.size
    if size != spec.vocabulary and not (data.spare_rows and size < spec.vocabulary):
        raise UserError(
            f"{spec.writer}.vocabulary is {spec.vocabulary}, but the tokenizer of "
            f"{type(data).__name__} has {size} tokens; set "
            + " ".join(f"--{path} {size}" for path in spec.vocabulary_paths)
        )
