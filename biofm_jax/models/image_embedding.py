"""From pixels to the first hidden states of a vision transformer."""

import math
from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from biofm_jax.array_types import AnyArray, ArrayLike, Hidden
from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models.api import BUFFER
from biofm_jax.models.dropout import EMBEDDING, dropout
from biofm_jax.models.layers import Dense, Norm, normal, parameter

if TYPE_CHECKING:
    from biofm_jax.models.vision import VisionSpec

# What a token of a vision transformer stands for.
PATCH, CLASS, REGISTER, MASK = range(4)


def image_tokens(spec: "VisionSpec", batch: Batch) -> Batch:
    """The batch with a row of tokens for each image, in the place of its one.

    Args:
        spec: the model's.
        batch: images (b, [z,] h, w, c) of any size that the patches divide, `segment_ids` (b, 1).

    Returns:
        The batch with `tokens` (b, t): the class token, the registers, then the patches in raster
        order. `positions` number the patches from 0, and are 0 for the tokens in front. An
        objective may leave patches out or show them as MASK.

    Raises:
        UserError: no images, or of a size that the patches do not divide.
    """
    if batch.images is None:
        raise UserError(
            "a vision model reads images, and this batch has none; set data=ImageData(...)"
        )
    count = math.prod(patch_grid(spec, batch.images.shape))
    front = [CLASS] * spec.class_token + [REGISTER] * spec.registers
    kinds = np.array([*front, *[PATCH] * count], np.int32)
    number = np.concatenate([np.zeros(len(front), np.int32), np.arange(count, dtype=np.int32)])
    shape = (batch.images.shape[0], len(kinds))
    return batch.replace(
        tokens=jnp.broadcast_to(kinds, shape),
        positions=jnp.broadcast_to(number, shape),
        segment_ids=jnp.broadcast_to(batch.segment_ids[:, :1], shape),
    )


def patch_grid(spec: "VisionSpec", shape: tuple[int, ...]) -> tuple[int, ...]:
    """Patches along each axis of images of a shape (b, [z,] h, w, c).

    Raises:
        UserError: other axes or channels than the model's, or sizes that the patches do not divide.
    """
    size = tuple(shape[1:-1])
    if len(size) != len(spec.patch) or shape[-1] != spec.channels:
        axes = "volumes (z, h, w)" if len(spec.patch) == 3 else "pictures (h, w)"
        raise UserError(
            f"the model reads {axes} of {spec.channels} channels, and the images have the shape "
            f"{tuple(shape[1:])}; set data.image and data.channels, or model.patch and "
            "model.channels"
        )
    if any(pixels % patch for pixels, patch in zip(size, spec.patch)):
        nearest = tuple(max(1, round(n / p)) * p for n, p in zip(size, spec.patch))
        raise UserError(
            f"patches of {spec.patch} pixels do not divide images of {size}; the nearest size "
            f"is {nearest}"
        )
    return tuple(pixels // patch for pixels, patch in zip(size, spec.patch))


def patches_of(images: AnyArray, patch: tuple[int, ...]) -> jax.Array:
    """Images (b, [z,] h, w, c) as patches (b, n, p): their pixels in raster order, channels last.

    Args:
        images: of a size that `patch` divides.
        patch: pixels along each axis.
    """
    rows, *size, channels = images.shape
    grid = [pixels // step for pixels, step in zip(size, patch)]
    cut = images.reshape(rows, *(n for pair in zip(grid, patch) for n in pair), channels)
    axes = len(patch)
    order = [0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1]
    return cut.transpose(order).reshape(rows, math.prod(grid), math.prod(patch) * channels)


def images_of(patches: AnyArray, grid: tuple[int, ...], patch: tuple[int, ...]) -> jax.Array:
    """The inverse of `patches_of`.

    Args:
        patches: (b, n, p).
        grid: patches along each axis, of product n.
        patch: pixels along each axis.
    """
    rows, axes = patches.shape[0], len(patch)
    cut = patches.reshape(rows, *grid, *patch, -1)
    order = [
        0,
        *(i for pair in zip(range(1, axes + 1), range(axes + 1, 2 * axes + 1)) for i in pair),
    ]
    size = [n * step for n, step in zip(grid, patch)]
    return cut.transpose([*order, 2 * axes + 1]).reshape(rows, *size, cut.shape[-1])


def unit_pixels(images: AnyArray) -> jax.Array:
    """Float32 pixels from 0 to 1, of uint8 or uint16 ones or of such as they are."""
    dtype = jnp.asarray(images).dtype
    full = jnp.iinfo(dtype).max if jnp.issubdtype(dtype, jnp.integer) else 1
    return jnp.asarray(images, jnp.float32) / full


def sine_cosine(grid: tuple[int, ...], width: int) -> Float[np.ndarray, "n d"]:
    """Fixed positions of a grid (He et al. 2022, arXiv:2111.06377): float32 in raster order.

    Each axis has an equal share of the width, the last axis (x) first as in the published
    weights: the sines of `i / 10000^(2k / share)`, then the cosines.

    Args:
        grid: patches along each axis.
        width: d, divisible by twice the number of axes.
    """
    share = width // len(grid)
    rates = 10_000.0 ** (-np.arange(share // 2, dtype=np.float64) / (share / 2))
    places = np.indices(grid).reshape(len(grid), -1)[::-1]
    angles = [np.outer(place, rates) for place in places]
    parts = [part for angle in angles for part in (np.sin(angle), np.cos(angle))]
    return np.concatenate(parts, axis=1).astype(np.float32)


def resampling(old: int, new: int, antialias: bool) -> Float[np.ndarray, "new old"]:
    """Cubic weights that resample `old` positions of a line to `new` ones, as torch does.

    Keys' kernel with a = -0.75 (-0.5 and wider where it shrinks, with `antialias`), the edges
    repeated (without) or left out and the rest scaled up (with it).
    """
    scale = np.float32(old / new)
    centres = (np.arange(new, dtype=np.float32) + np.float32(0.5)) * scale  # as torch rounds them
    places = np.arange(old)
    if antialias:
        wide = max(scale, 1.0)
        weights = _keys((places[None] + 0.5 - centres[:, None]) / wide, -0.5)
        return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    first = np.floor(centres - 0.5).astype(int)
    weights = np.zeros((new, old))
    for step in (-1, 0, 1, 2):
        at = first + step
        np.add.at(
            weights,
            (np.arange(new), np.clip(at, 0, old - 1)),
            _keys(at + 0.5 - centres, -0.75),
        )
    return weights.astype(np.float32)


def _keys(x: np.ndarray, a: float) -> np.ndarray:
    """Cubic convolution (Keys 1981, doi 10.1109/TASSP.1981.1163711)."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def resampled(
    table: AnyArray, old: tuple[int, ...], new: tuple[int, ...], antialias: bool
) -> jax.Array:
    """A table of positions (n, d) for another grid, (m, d); itself where the grids are equal."""
    if old == new:
        return jnp.asarray(table)
    x = jnp.asarray(table, jnp.float32).reshape(*old, table.shape[-1])
    for axis, (before, after) in enumerate(zip(old, new)):
        if before != after:
            x = jnp.moveaxis(
                jnp.tensordot(resampling(before, after, antialias), x, (1, axis)), 0, axis
            )
    return x.reshape(-1, table.shape[-1]).astype(table.dtype)


class ImageEmbedding(nn.Module):
    """Projected patches, class, register and mask vectors, positions, norm, dropout."""

    spec: "VisionSpec"

    @nn.compact
    def __call__(self, batch: Batch, keys) -> Hidden:
        spec, init = self.spec, normal(self.spec.init_std)
        dtype, d = spec.compute_dtype, spec.width
        front = spec.class_token + spec.registers
        grid = patch_grid(spec, batch.images.shape)
        number, kinds = batch.positions[:, front:], batch.tokens[:, front:]

        pixels = (unit_pixels(batch.images) - jnp.array(spec.mean)) / jnp.array(spec.deviation)
        pixels = patches_of(pixels.astype(dtype), spec.patch)
        pixels = jnp.take_along_axis(pixels, number[:, :, None], axis=1)
        size = math.prod(spec.patch) * spec.channels
        project = Dense((size, d), (None, "embed"), size**-0.5, spec.patch_bias, name="patches")
        x = project(pixels)
        if spec.mask_vector:
            hidden = parameter(self, "mask", init, (d,), (None,))
            x = jnp.where(kinds[:, :, None] == MASK, hidden.astype(dtype), x)

        class_position, register_positions = None, 0.0
        if spec.grid_positions != "none":
            table = self._positions()
            if spec.class_position:
                class_position, table = table[0], table[1:]
            if spec.register_positions:
                register_positions = table[: spec.registers]
                table = table[spec.registers :]
            table = resampled(table, spec.position_grid, grid, spec.antialias)
            x = x + table.astype(dtype)[number]

        rows = x.shape[0]
        vectors = []
        if spec.class_token:
            vector = parameter(self, "class", init, (1, d), (None, None))
            vectors.append(vector if class_position is None else vector + class_position)
        if spec.registers:
            registers = parameter(self, "registers", init, (spec.registers, d), (None, None))
            vectors.append(registers + register_positions)
        if vectors:
            before = jnp.concatenate(vectors).astype(dtype)
            x = jnp.concatenate([jnp.broadcast_to(before, (rows, front, d)), x], axis=1)
        if spec.embedding_norm:
            x = Norm(spec.norm, spec.norm_epsilon, spec.biases.norm, name="norm")(x)
        return dropout(x, spec.dropout, keys, EMBEDDING)

    def _positions(self) -> Float[ArrayLike, "n d"]:
        """The stored table: of the class token and the registers, where they have some, and of the
        patches."""
        spec = self.spec
        before = spec.class_position + spec.registers * spec.register_positions
        shape = (math.prod(spec.position_grid) + before, spec.width)
        if spec.grid_positions == "learned":
            return parameter(self, "positions", normal(spec.init_std), shape, (None, "embed"))

        def fixed(rng, shape, dtype):
            front = jnp.zeros((before, spec.width), dtype)
            return jnp.concatenate(
                [front, jnp.asarray(sine_cosine(spec.position_grid, spec.width))]
            )

        stored = parameter(self, "positions", fixed, shape, (BUFFER, None))
        return jax.lax.stop_gradient(stored)
