"""A vision transformer that sees a part of the patches, and a small one that draws the others
(masked autoencoder, He et al. 2022, arXiv:2111.06377)."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from biofm_jax.array_types import AnyArray, ArrayLike, Hidden, PyTree
from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models.api import BUFFER, Model, Outputs, gather
from biofm_jax.models.around_vision import AroundVision
from biofm_jax.models.flops import transformer_flops
from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.image_embedding import (
    MASK,
    PATCH,
    image_tokens,
    patch_grid,
    resampled,
    sine_cosine,
)
from biofm_jax.models.layers import Dense, normal, parameter
from biofm_jax.models.positions import NoPositions
from biofm_jax.models.spec import check_tensor
from biofm_jax.models.stack import apply_stack, init_stack, stack_axes
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.models.vision import VisionSpec


@dataclasses.dataclass(frozen=True)
class PixelDecoder:
    """The size of the stack that draws; all else is as in the encoder. ViT-L's by default.

    Attributes:
        layers: number of blocks.
        width: of the residual stream.
        heads: of attention.
        feedforward: width of the feed-forward's hidden layer; None: 4 x width.
    """

    layers: int = 8
    width: int = 512
    heads: int = 16
    feedforward: int | None = None


@dataclasses.dataclass(frozen=True)
class MaskedAutoencoderSpec(AroundVision):
    """An encoder of patches that are shown and a decoder of all places.

    Attributes:
        decoder: the size of the stack that draws the pixels.
    """

    encoder: VisionSpec = dataclasses.field(
        default_factory=lambda: VisionSpec(grid_positions="sincos")
    )
    decoder: PixelDecoder = PixelDecoder()

    @property
    def pixels(self) -> int:
        """Numbers of a patch: its pixels times their channels."""
        return math.prod(self.encoder.patch) * self.encoder.channels

    @property
    def drawing(self) -> TransformerSpec:
        """The decoder's stack, whose logits at a place are the pixels of the patch there."""
        size = dataclasses.asdict(self.decoder)
        shared = ("norm", "norm_position", "norm_epsilon", "activation", "gated", "biases",
                  "dropout", "attention_dropout", "init_std", "dtype", "backend", "scan",
                  "remat")  # fmt: skip
        return _Drawing(
            vocabulary=self.pixels,
            positions=NoPositions(),
            head=LanguageHead(transform=False, tied=False),
            encoder=self.encoder,
            **size,
            **{name: getattr(self.encoder, name) for name in shared},
        )

    def check(self, data, mesh) -> None:
        """See `ModelSpec`; no mesh may cut a row, of which each stack has another part."""
        super().check(data, mesh)
        check_tensor(self.decoder.heads, mesh[2], "model.decoder.heads")
        if mesh[3] > 1:
            raise UserError(
                f"mesh.context is {mesh[3]}, and a masked autoencoder's encoder sees a part of "
                "each row only; set --mesh.context 1 and put the devices on data or fsdp"
            )

    def train_flops(self, attended, predicted=0.0, pooled=0.0) -> float:
        """See `ModelSpec`: for an image, of whose patches the share `predicted` is hidden."""
        patches = math.prod(self.encoder.image_grid)
        front = self.encoder.tokens - patches
        shown = patches - round(predicted * patches)
        projected = 6.0 * self.encoder.width * (shown * self.pixels)
        projected += 6.0 * self.encoder.width * (front + shown) * self.decoder.width
        encoder = transformer_flops(self.encoder, front + shown, 0.0, 0.0)
        whole = front + patches
        decoder = transformer_flops(self.drawing, whole, (patches - shown) / whole, 0.0)
        return projected + (front + shown) * encoder + whole * decoder

    def build(self) -> Model:
        """The model's pure functions.

        Parameters are `{"encoder": ..., "decoder": ...}`. `apply` takes what `split_patches`
        makes: `source` is the encoder's input, the tokens are all places; `Outputs.logits`
        (b, k, p) float32 are the pixels of the patches at `predict`, or with `predict=None` of
        all tokens, those in front too. `Outputs.source` is what the encoder returned.

        Raises:
            UserError: fields that do not go together; the message names them.
        """
        encoder, drawing = self.encoder.build(), self.drawing
        _check(self)
        drawing.build()

        def init(rng, batch):
            """Float32 parameters; of `batch` nothing is read, all shapes are in the spec."""
            first, second = jax.random.split(rng)
            return {"encoder": encoder.init(first, None), "decoder": init_stack(drawing, second)}

        def apply(params, batch: Batch, *, rngs=None, train=False, collect=()):
            if batch.source is None:
                raise UserError(
                    "a masked autoencoder reads the patches that are shown as batch.source, and "
                    "this batch has none; give what split_patches makes"
                )
            other = None if rngs is None else jax.random.fold_in(rngs, 1)
            options = dict(train=train, collect=collect)
            encoded = encoder.apply(params["encoder"], batch.source, rngs=other, **options)
            return dataclasses.replace(
                _draw(drawing, params["decoder"], batch, encoded.hidden, rngs=rngs, **options),
                source=encoded,
            )

        def axes(params):
            names = {"encoder": encoder.axes(params["encoder"]), "decoder": stack_axes(drawing)}
            return jax.tree.map(lambda _, leaf: leaf, params, names)

        return Model(init, apply, axes, self)


def split_patches(
    spec: VisionSpec, batch: Batch, noise: Float[ArrayLike, "b n"], hidden: int
) -> Batch:
    """The input of a masked autoencoder.

    Args:
        spec: of its encoder.
        batch: images, one token each.
        noise: a number for each patch; the patches with the highest are hidden.
        hidden: how many of the n patches are.

    Returns:
        The batch with a row of tokens for each image, the hidden patches as MASK, `predict`
        (b, hidden) their columns, and `source` the same images with the shown patches only.
    """
    whole = image_tokens(spec, batch)
    front = spec.class_token + spec.registers
    order = jnp.argsort(jnp.asarray(noise), axis=1).astype(jnp.int32)
    shown, away = jnp.split(order, [order.shape[1] - hidden], axis=1)
    kept = front + shown.shape[1]
    source = whole.replace(
        tokens=whole.tokens[:, :kept],
        segment_ids=whole.segment_ids[:, :kept],
        positions=jnp.concatenate([whole.positions[:, :front], shown], axis=1),
        source=None,
    )
    kinds = jnp.concatenate([jnp.full_like(shown, PATCH), jnp.full_like(away, MASK)], axis=1)
    kinds = jnp.concatenate(
        [whole.tokens[:, :front], _placed(order, kinds, order.shape[1])], axis=1
    )
    return whole.replace(tokens=kinds, predict=front + away, source=source)


def _placed(places: Int[ArrayLike, "b m"], values: AnyArray, count: int) -> jax.Array:
    """Values (b, m, ...) at their places of rows of `count`; 0 elsewhere."""

    def row(at, x):
        return jnp.zeros((count, *x.shape[1:]), x.dtype).at[at].set(x, unique_indices=True)

    return jax.vmap(row)(places, values)


@dataclasses.dataclass(frozen=True)
class _Drawing(TransformerSpec):
    """The decoder's stack."""

    encoder: VisionSpec = dataclasses.field(default_factory=VisionSpec)

    def embedding(self) -> "PlaceEmbedding":
        """See `TransformerSpec`."""
        return PlaceEmbedding(self)

    def blank(self) -> Batch:
        """See `TransformerSpec`: a row that is shown whole."""
        return self.encoder.blank()


class PlaceEmbedding(nn.Module):
    """What the encoder saw, projected to the decoder's width and at its place; a mask vector at
    the other places; fixed positions."""

    spec: _Drawing

    @nn.compact
    def __call__(self, batch: Batch, keys, encoded: Hidden | None = None) -> Hidden:
        spec, encoder = self.spec, self.spec.encoder
        front, d = encoder.class_token + encoder.registers, spec.width
        shown = batch if encoded is None else batch.source
        if encoded is None:  # only to make parameters
            encoded = jnp.zeros((*batch.tokens.shape, encoder.width))
        shape = (encoder.width, d)
        x = Dense(shape, ("embed", None), spec.init_std, True, name="project")(encoded)
        mask = parameter(self, "mask", normal(spec.init_std), (d,), (None,)).astype(x.dtype)
        table = self._positions().astype(x.dtype)
        before = x[:, :front]
        if encoder.class_token:
            before, table = before.at[:, 0].add(table[0]), table[1:]

        kinds, number = batch.tokens[:, front:], batch.positions[:, front:]
        x = _placed(shown.positions[:, front:], x[:, front:], kinds.shape[1])
        x = jnp.where(kinds[:, :, None] == MASK, mask, x)
        grid = patch_grid(encoder, batch.images.shape)
        x = x + resampled(table, encoder.position_grid, grid, encoder.antialias)[number]
        return jnp.concatenate([before, x], axis=1)

    def _positions(self) -> Float[ArrayLike, "n d"]:
        """As published: a row of zeros for the class token, then sines and cosines."""
        grid, front = self.spec.encoder.position_grid, int(self.spec.encoder.class_token)
        shape = (math.prod(grid) + front, self.spec.width)

        def fixed(rng, shape, dtype):
            rows = jnp.zeros((front, shape[1]), dtype)
            return jnp.concatenate([rows, jnp.asarray(sine_cosine(grid, shape[1]))])

        stored = parameter(self, "positions", fixed, shape, (BUFFER, None))
        return jax.lax.stop_gradient(stored)


def _draw(drawing: _Drawing, params: PyTree, batch: Batch, encoded: Hidden, **options) -> Outputs:
    """The decoder's outputs, from what the encoder made of the patches that are shown."""
    embed = gather(params["embed"], stack_axes(drawing)["embed"], drawing.compute_dtype)
    embedded = drawing.embedding().apply({"params": embed}, batch, None, encoded)
    return apply_stack(drawing, params, batch.replace(source=None), embedded=embedded, **options)


def _check(spec: MaskedAutoencoderSpec) -> None:
    encoder, width = spec.encoder, spec.decoder.width
    if encoder.head is not None:
        raise UserError(
            f"MaskedAutoencoderSpec.encoder.head is {encoder.head}; it must be None: the decoder "
            "draws the pixels"
        )
    parts = 2 * len(encoder.image)
    if width % parts:
        raise UserError(
            f"MaskedAutoencoderSpec.decoder.width is {width}; it must be divisible by {parts}, "
            f"for sines and cosines along {len(encoder.image)} axes"
        )
