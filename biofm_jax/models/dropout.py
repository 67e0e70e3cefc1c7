"""Dropout whose bits belong to a row, a layer and a site.

Bits drawn for a whole batch at once would change with the cut into microbatches, with the
sharding and between scan and loop. Here every row has its own key, folded from the number of
its first record.
"""

import jax
import jax.numpy as jnp

from biofm_jax.array_types import AnyArray, Examples

# Sites within a layer.
EMBEDDING, WEIGHTS, ATTENTION, FEEDFORWARD, HEAD, CROSS_WEIGHTS, CROSS_ATTENTION = range(7)


def row_keys(key: jax.Array, examples: Examples) -> jax.Array:
    """(b,) keys, one per row."""
    return fold_rows_in(key, examples[:, 0])


def fold_rows_in(key: jax.Array, numbers: jax.Array) -> jax.Array:
    """One key per number, folded from one key."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(numbers).astype(jnp.uint32))


def fold(keys: jax.Array | None, number: int | jax.Array) -> jax.Array | None:
    """Every row's key with `number` folded in; None stays None."""
    return None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, number)


def kept(keys: jax.Array, shape: tuple[int, ...], rate: float) -> jax.Array:
    """(rows, *shape) bool, False with probability `rate` (rounded to 1/65536)."""
    draw = jax.vmap(lambda key: jax.random.bits(key, shape, jnp.uint16))
    return draw(keys) >= jnp.uint16(round(rate * 65536))


def dropout(x: AnyArray, rate: float, keys: jax.Array | None, site: int) -> AnyArray:
    """`x` with elements dropped and the rest scaled up.

    Args:
        x: (b, ...) activations.
        rate: probability of dropping, below 1.
        keys: (b,) keys of the rows in this layer; None when not training.
        site: which of a layer's dropouts this is.
    """
    if keys is None or rate == 0.0:
        return x
    keep = kept(fold(keys, site), x.shape[1:], rate)
    return jnp.where(keep, x / (1.0 - rate), jnp.zeros((), x.dtype))
