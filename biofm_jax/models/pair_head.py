"""A head that joins a vector of one thing with a vector of another: a drug with a protein."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from biofm_jax.array_types import ArrayLike, PyTree
from biofm_jax.data.batch import Batch
from biofm_jax.models.api import Model, Outputs
from biofm_jax.models.dropout import FEEDFORWARD, HEAD, dropout, row_keys
from biofm_jax.models.layers import Dense


@dataclasses.dataclass(frozen=True)
class PairHeadSpec:
    """Both vectors are projected to one width; the two projections and their product go through a
    hidden layer.

    The product lets the drug decide which of the protein's directions count. DeepDTA (Ozturk et
    al. 2018) has the two alone, through three layers.

    Attributes:
        first: width of the first vector.
        second: width of the second.
        width: of the projections and of the hidden layer.
        outputs: numbers of a pair.
        dropout: before the hidden and the last layer, when training.
    """

    first: int
    second: int
    width: int = 256
    outputs: int = 1
    dropout: float = 0.1

    def build(self) -> Model:
        """The model's pure functions.

        `apply` takes `{"head": ..., "tables": {"first", "second"}}` and a batch whose tokens (b, 2)
        are rows of the tables; `init` and `axes` are of the head alone. `logits` are
        (b, 1, outputs).
        """
        module = _PairHead(self)

        def init(rng, batch) -> PyTree:
            x, y = jnp.zeros((1, self.first)), jnp.zeros((1, self.second))
            return {"head": nn.unbox(module.init(rng, x, y, None)["params"])}

        def apply(params, batch: Batch, *, rngs=None, train: bool = False) -> Outputs:
            keys = row_keys(rngs, batch.examples) if train and self.dropout else None
            tables, tokens = params["tables"], batch.tokens
            x, y = tables["first"][tokens[:, 0]], tables["second"][tokens[:, 1]]
            return Outputs(logits=module.apply({"params": params["head"]}, x, y, keys)[:, None])

        def axes(params) -> PyTree:
            return jax.tree.map(lambda leaf: ("embed", None)[-leaf.ndim :], params)

        return Model(init, apply, axes, self)


class _PairHead(nn.Module):
    spec: PairHeadSpec

    @nn.compact
    def __call__(
        self, x: Float[ArrayLike, "b d"], y: Float[ArrayLike, "b e"], keys
    ) -> Float[ArrayLike, "b o"]:
        spec = self.spec

        def dense(x, width, name):
            shape = (x.shape[-1], width)
            return Dense(shape, ("embed", None), shape[0] ** -0.5, True, name=name)(x)

        x, y = dense(x, spec.width, "first"), dense(y, spec.width, "second")
        z = jax.nn.relu(jnp.concatenate([x, y, x * y], axis=-1))
        z = dropout(z, spec.dropout, keys, FEEDFORWARD)
        z = jax.nn.relu(dense(z, spec.width, "hidden"))
        z = dropout(z, spec.dropout, keys, HEAD)
        return dense(z, spec.outputs, "out")
