"""Where a token stands: the five kinds of positions.

Learned and rotary positions go by `Batch.positions`, which restart in each packed example.
ALiBi and relative positions go by the difference of row indices, which inside one example is
the difference of positions; between examples there is no attention.
"""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from biofm_jax.array_types import ArrayLike, Heads, Tokens, typed


@dataclasses.dataclass(frozen=True)
class Learned:
    """A learned vector per position (BERT, GPT-2).

    Attributes:
        maximum: number of positions; rows longer than this are refused.
        offset: unused vectors before position 0 (2 in RoBERTa and BioGPT).
    """

    maximum: int = 1024
    offset: int = 0


@dataclasses.dataclass(frozen=True)
class LongerContext:
    """Slower rotation of the slow angles, for rows longer than those of pretraining (Llama 3.1).

    Grattafiori et al. 2024, arXiv 2407.21783; `rope_type` "llama3" of a `config.json`.

    Attributes:
        factor: by which angles slower than once in `original / low` tokens are divided.
        low: see `factor`.
        high: angles faster than once in `original / high` tokens stay; those between are blended.
        original: tokens of a row in pretraining.
    """

    factor: float = 8.0
    low: float = 1.0
    high: float = 4.0
    original: int = 8192


@dataclasses.dataclass(frozen=True)
class Rotary:
    """Rotated queries and keys (Su et al. 2021, arXiv 2104.09864).

    Attributes:
        base: wavelengths run from 2 pi to 2 pi base.
        fraction: the share of a head's width that is rotated (0.25 in GPT-NeoX 20B, 64 of 256
            in GPT-J).
        interleaved: pairs are neighbours (GPT-J) rather than halves (GPT-NeoX, LLaMA, ESM-2).
        longer: slower angles for longer rows; None: as they are.
        rounded: type that the frequencies were rounded to in pretraining; the published ESM-2
            models learned theirs in float16.
    """

    base: float = 10_000.0
    fraction: float = 1.0
    interleaved: bool = False
    longer: LongerContext | None = None
    rounded: Literal["float32", "float16"] = "float32"


@dataclasses.dataclass(frozen=True)
class Alibi:
    """A penalty that grows with distance, a slope per head (Press et al., arXiv 2108.12409).

    Without a causal mask it is symmetric, as in DNABERT-2.
    """


@dataclasses.dataclass(frozen=True)
class Relative:
    """A learned bias per head and bucket of distance, shared by all layers (T5, 1910.10683).

    Attributes:
        buckets: number of buckets; halved for each direction without a causal mask.
        distance: distances from here on share the last bucket.
    """

    buckets: int = 32
    distance: int = 128


@dataclasses.dataclass(frozen=True)
class NoPositions:
    """No positions: sets such as the genes of a cell."""


@dataclasses.dataclass(frozen=True)
class LocalLayers:
    """Layers that see their surroundings only, between layers that see the row (ModernBERT).

    Warner et al. 2024, arXiv 2412.13663.

    Attributes:
        window: tokens of a local layer see at most this far.
        base: of a local layer's rotary angles.
        every: the layers 0, every, 2 x every, ... see the whole row; the others are local.
    """

    window: int = 64
    base: float = 10_000.0
    every: int = 3


Positions = Learned | Rotary | Alibi | Relative | NoPositions

Tables = tuple[Float[ArrayLike, "b t r"], Float[ArrayLike, "b t r"]]


def rotated_width(rotary: Rotary, head_width: int) -> int:
    """How many of a head's dimensions are rotated."""
    return round(rotary.fraction * head_width)


@typed
def rotary_tables(positions: Tokens, rotary: Rotary, head_width: int) -> Tables:
    """Cosine and sine of every position's angles, (b, t, rotated / 2) float32.

    Float32 whatever the compute dtype: at position 1000 a bfloat16 angle is off by up to 4.
    """
    width = rotated_width(rotary, head_width)
    frequencies = 1.0 / (rotary.base ** (jnp.arange(0, width, 2, dtype=jnp.float32) / width))
    if rotary.rounded == "float16":
        frequencies = frequencies.astype(jnp.float16).astype(jnp.float32)
    if rotary.longer is not None:
        frequencies = _slowed(frequencies, rotary.longer)
    angles = jnp.asarray(positions, jnp.float32)[..., None] * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def _slowed(frequencies: jax.Array, longer: LongerContext) -> jax.Array:
    turns = frequencies * longer.original / (2 * math.pi)  # in a row of pretraining
    kept = jnp.clip((turns - longer.low) / (longer.high - longer.low), 0.0, 1.0)
    return frequencies * (kept + (1.0 - kept) / longer.factor)


@typed
def rotate(x: Heads, tables: Tables, interleaved: bool) -> Heads:
    """`x` with the first 2r dimensions of each head rotated in float32."""
    cos, sin = (table[:, :, None, :] for table in tables)
    width = 2 * cos.shape[-1]
    turned, rest = x[..., :width].astype(jnp.float32), x[..., width:]
    if interleaved:
        first, second = turned[..., 0::2], turned[..., 1::2]
    else:
        first, second = jnp.split(turned, 2, axis=-1)
    pair = (first * cos - second * sin, second * cos + first * sin)
    if interleaved:
        turned = jnp.stack(pair, axis=-1).reshape(turned.shape)
    else:
        turned = jnp.concatenate(pair, axis=-1)
    turned = turned.astype(x.dtype)
    return jnp.concatenate([turned, rest], axis=-1) if rest.shape[-1] else turned


def alibi_slopes(heads: int) -> np.ndarray:
    """(h,) float32 slopes: a geometric series, filled up from the next one if h is not 2^n."""
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8.0 * (i + 1) / power) for i in range(power)]
    slopes += [2.0 ** (-4.0 * (2 * i + 1) / power) for i in range(heads - power)]
    return np.asarray(slopes, np.float32)


def relative_buckets(differences: np.ndarray, relative: Relative, causal: bool) -> np.ndarray:
    """The bucket of each difference `query - key`: exact when small, logarithmic beyond.

    In float32, as the published models: in float64 the bounds that are whole numbers, such as
    distance 64 of 32 buckets up to 128, fall into the neighbouring bucket.
    """
    buckets, bucket = relative.buckets, np.zeros_like(differences)
    if causal:
        distance = np.maximum(differences, 0)
    else:
        buckets //= 2
        bucket = bucket + np.where(differences < 0, buckets, 0)
        distance = np.abs(differences)
    exact = buckets // 2
    share = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
    share = share / np.float32(math.log(relative.distance / exact))
    large = exact + (share * np.float32(buckets - exact)).astype(distance.dtype)
    return bucket + np.where(distance < exact, distance, np.minimum(large, buckets - 1))


def distance_bias(
    positions: Positions, table: jax.Array | None, *, heads: int, length: int, causal: bool
) -> jax.Array | None:
    """What is added to attention logits, by head and index difference.

    Args:
        positions: the kind of positions.
        table: (buckets, h) the learned table of `Relative`.
        heads: h.
        length: t, tokens of a row.
        causal: whether keys lie behind their query only.

    Returns:
        (h, 2t - 1) float32; column `query - key + t - 1`. None for kinds without a bias.
    """
    differences = np.arange(-(length - 1), length)
    if isinstance(positions, Alibi):
        return jnp.asarray(-alibi_slopes(heads)[:, None] * np.abs(differences), jnp.float32)
    if isinstance(positions, Relative):
        buckets = relative_buckets(differences, positions, causal)
        return jnp.asarray(table, jnp.float32)[buckets].T
    return None
