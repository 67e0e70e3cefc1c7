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
from biofm_jax.models.graph import GraphSpec
from biofm_jax.models.layers import Dense
from biofm_jax.models.transformer import TransformerSpec


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


@dataclasses.dataclass(frozen=True)
class PairTowersSpec:
    """Two models with a pair head on their pooled states, to be trained together.

    Attributes:
        first: reads the batch, an example a row; no head.
        second: reads its `pair`.
        head: of their widths.
        centre: what is subtracted from the pooled states of first and second.
        spread: what they are divided by.
    """

    first: TransformerSpec | GraphSpec
    second: TransformerSpec | GraphSpec
    head: PairHeadSpec
    centre: tuple[tuple[float, ...], tuple[float, ...]]
    spread: tuple[tuple[float, ...], tuple[float, ...]]

    def build(self) -> Model:
        """The model's pure functions.

        Parameters are `{"first", "second", "head"}`; `apply` takes a batch (p, t) with a pair
        (q, u), and `logits` are (p, q, outputs). `pooled` (p, 1, d) and that of `pair` are
        standardised.
        """
        towers, head = (self.first.build(), self.second.build()), _PairHead(self.head)
        top = self.head.build()

        def init(rng, batch) -> PyTree:
            keys = jax.random.split(rng, 3)
            both = (tower.init(key, None) for tower, key in zip(towers, keys))
            return dict(zip(("first", "second"), both)) | top.init(keys[2], None)

        def apply(params, batch: Batch, *, rngs=None, train: bool = False) -> Outputs:
            views = (batch.replace(pair=None, targets=None, weights=None), batch.pair)
            outs = []
            for number, (tower, view) in enumerate(zip(towers, views, strict=True)):
                key = None if rngs is None else jax.random.fold_in(rngs, number)
                out = tower.apply(params[("first", "second")[number]], view, rngs=key, train=train)
                x = (out.pooled - jnp.array(self.centre[number])) / jnp.array(self.spread[number])
                outs.append(dataclasses.replace(out, pooled=x))
            x, y = (out.pooled[:, 0] for out in outs)
            p, q = len(x), len(y)
            keys = row_keys(rngs, batch.examples) if train and self.head.dropout else None
            keys = None if keys is None else jnp.repeat(keys, q)
            if keys is not None:
                keys = jax.vmap(jax.random.fold_in)(keys, jnp.tile(jnp.arange(q), p))
            joined = jnp.repeat(x, q, axis=0), jnp.tile(y, (p, 1))
            logits = head.apply({"params": params["head"]}, *joined, keys).reshape(p, q, -1)
            return dataclasses.replace(outs[0], pair=outs[1], logits=logits)

        def axes(params) -> PyTree:
            both = {
                name: tower.axes(params[name])
                for name, tower in zip(("first", "second"), towers)
                if name in params
            }
            return both | top.axes({"head": params["head"]})

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
