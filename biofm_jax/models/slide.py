"""Slides as bags of tile vectors: attention-based multiple instance learning, and a transformer
over all tiles of a slide."""

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from biofm_jax.array_types import ArrayLike, Hidden
from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models.api import Model, Outputs, gather
from biofm_jax.models.dropout import EMBEDDING, dropout, row_keys
from biofm_jax.models.gated_pool import GatedPool
from biofm_jax.models.heads import Head, PooledLogits, PredictionHead
from biofm_jax.models.image_embedding import sine_cosine
from biofm_jax.models.layers import Dense, Norm
from biofm_jax.models.positions import NoPositions, Positions
from biofm_jax.models.spec import ModelSpec, check_tensor
from biofm_jax.models.transformer import TransformerSpec


def check_bags(vectors: int, data, writer: str) -> None:
    """Refuse data without vectors, or of another width.

    Args:
        vectors: width that the model reads.
        data: the experiment's.
        writer: the part of the experiment that has the model.

    Raises:
        UserError: names the fields.
    """
    found = data.shapes(1).vectors
    if found is None:
        raise UserError(
            f"the model reads bags of vectors, and {type(data).__name__} has none; set "
            "data=PlantedSlides(...), or another model"
        )
    if found.shape[-1] != vectors:
        raise UserError(
            f"{writer}.vectors is {vectors}, but the vectors of {type(data).__name__} have "
            f"{found.shape[-1]} numbers; set --{writer}.vectors {found.shape[-1]}"
        )


@dataclasses.dataclass(frozen=True)
class AbmilSpec(ModelSpec):
    """Attention-based deep multiple instance learning (Ilse et al. 2018, arXiv:1802.04712).

    Each tile is projected by itself; gated attention makes one vector of a slide, and its weights
    say where it looked (`Outputs.pool_weights`).

    Attributes:
        vectors: width of a tile's vector.
        width: of its projection.
        gate: width of the attention's hidden layer.
        dropout: on projected tiles and on pooled vectors, when training.
        head: what makes `Outputs.logits`; None: nothing.
        init_std: standard deviation of initial weights.
    """

    vectors: int = 1024
    width: int = 512
    gate: int = 256
    dropout: float = 0.0
    head: Head = dataclasses.field(default_factory=lambda: PredictionHead(1))
    init_std: float = 0.02
    dtype: str = "float32"

    vocabulary = 2
    layers = 1
    heads = 1
    positions = None
    token_dropout = None
    remat = "none"

    @property
    def compute_dtype(self) -> jnp.dtype:
        """`dtype` as JAX knows it."""
        return jnp.dtype(self.dtype)

    def check(self, data, mesh) -> None:
        """See `ModelSpec`."""
        check_bags(self.vectors, data, self.writer)

    def train_flops(self, attended, predicted=0.0, pooled=0.0) -> float:
        """See `ModelSpec`: for a tile."""
        return 6.0 * (self.vectors * self.width + 2 * self.width * self.gate + self.gate)

    def build(self) -> Model:
        """The model's pure functions; `apply` reads `Batch.vectors`.

        Of the options of `Model.apply` there are `rngs` and `train`.
        """
        module = _Abmil(self)

        def init(rng, batch):
            """Float32 parameters; of `batch` nothing is read, all shapes are in the spec."""
            return nn.unbox(_boxed(self, rng))

        def apply(params, batch: Batch, *, rngs=None, train=False, collect=()) -> Outputs:
            if collect:
                raise UserError(f"{type(self).__name__} has no {', '.join(collect)} to collect")
            if train and self.dropout and rngs is None:
                raise UserError("training with dropout needs a PRNG key: apply(..., rngs=key)")
            keys = row_keys(rngs, batch.examples) if train and self.dropout else None
            params = gather(params, axes(params), self.compute_dtype)
            return module.apply({"params": params}, batch, keys)

        def axes(params):
            return _axes(self)

        return Model(init, apply, axes, self)


class _Abmil(nn.Module):
    spec: AbmilSpec

    @nn.compact
    def __call__(self, batch: Batch, keys) -> Outputs:
        spec = self.spec
        shape = (spec.vectors, spec.width)
        project = Dense(shape, ("embed", None), spec.vectors**-0.5, True, name="project")
        x = jax.nn.relu(project(jnp.asarray(batch.vectors, spec.compute_dtype)))
        x = dropout(x, spec.dropout, keys, EMBEDDING)
        pool = GatedPool(spec.width, spec.gate, spec.width**-0.5, name="pool")
        pooled, weights = pool(x, batch)
        logits = None
        if spec.head is not None:
            logits = PooledLogits(spec, name="head")(pooled, keys)
        return Outputs(x, pooled, logits, pool_weights=weights)


def _boxed(spec: AbmilSpec, rng: jax.Array):
    ids = jnp.ones((1, 2), jnp.int32)
    batch = Batch(ids, ids, ids, ids[:, :1], vectors=jnp.zeros((1, 2, spec.vectors)))
    return _Abmil(spec).init(rng, batch, None)["params"]


@functools.lru_cache
def _axes(spec: AbmilSpec):
    boxed = jax.eval_shape(functools.partial(_boxed, spec), jax.random.key(0))
    return jax.tree.map(
        lambda box: box.names, boxed, is_leaf=lambda x: isinstance(x, nn.meta.AxisMetadata)
    )


@dataclasses.dataclass(frozen=True)
class SlideSpec(TransformerSpec):
    """A transformer over the tiles of a slide, each a vector and a place, with gated attention on
    top (after Prov-GigaPath, Xu et al. 2024, doi 10.1038/s41586-024-07441-w, without its dilated
    windows: on one device exact attention reaches tens of thousands of tiles).

    Attributes:
        vectors: width of a tile's vector.
        side: of the square raster of places; sines and cosines of row and column are added.
        gate: width of the pooling attention's hidden layer.
    """

    vocabulary: int = 2
    layers: int = 2
    width: int = 512
    heads: int = 8
    positions: Positions = dataclasses.field(default_factory=NoPositions)
    pooling: str = "gated"
    head: Head = dataclasses.field(default_factory=lambda: PredictionHead(1))
    vectors: int = 1024
    side: int = 64
    gate: int = 256

    def embedding(self) -> nn.Module:
        """See `TransformerSpec`."""
        return VectorEmbedding(self)

    def pool_module(self) -> nn.Module:
        """See `TransformerSpec`."""
        return GatedPool(self.width, self.gate, self.width**-0.5)

    def blank(self) -> Batch:
        """See `TransformerSpec`."""
        row = super().blank()
        return row.replace(vectors=jnp.zeros((*row.tokens.shape, self.vectors)))

    def check(self, data, mesh) -> None:
        """See `ModelSpec`."""
        check_bags(self.vectors, data, self.writer)
        check_tensor(self.heads, mesh[2], f"{self.writer}.heads")
        if data.max_tokens % mesh[3]:
            raise UserError(f"mesh.context {mesh[3]} must divide data.max_tokens {data.max_tokens}")

    def build(self) -> Model:
        """See `TransformerSpec`.

        Raises:
            UserError: a width that sines and cosines of two axes do not divide.
        """
        if self.width % 4:
            raise UserError(f"SlideSpec.width is {self.width}; it must be divisible by 4")
        return super().build()


class VectorEmbedding(nn.Module):
    """Projected vectors with the sines and cosines of their places, norm, dropout."""

    spec: SlideSpec

    @nn.compact
    def __call__(self, batch: Batch, keys) -> Hidden:
        spec = self.spec
        shape = (spec.vectors, spec.width)
        project = Dense(shape, ("embed", None), spec.vectors**-0.5, True, name="project")
        x = project(jnp.asarray(batch.vectors, spec.compute_dtype))
        x = x + jnp.asarray(_places(spec.side, spec.width), x.dtype)[batch.positions]
        if spec.embedding_norm:
            x = Norm(spec.norm, spec.norm_epsilon, spec.biases.norm, name="norm")(x)
        return dropout(x, spec.dropout, keys, EMBEDDING)


@functools.lru_cache(maxsize=4)
def _places(side: int, width: int) -> Float[ArrayLike, "n d"]:
    """Of each number of the raster, of the length of a vector of normal numbers."""
    return np.asarray(sine_cosine((side, side), width)) * math.sqrt(2) / math.sqrt(width)
