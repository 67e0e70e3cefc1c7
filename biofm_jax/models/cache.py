"""A causal model token by token: what it has read is kept as keys and values, not read again.

    cache, logits = prefill(model, params, tokens, lengths, size)
    cache, logits = extend(model, params, cache, tokens)      # as often as there is room

Both give the logits of the full forward pass. Pure functions of fixed shapes, for use in `jax.jit`
and its loops.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32

from biofm_jax.array_types import ArrayLike, PyTree, Tokens
from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models.api import Model
from biofm_jax.models.attention_cached import Cache
from biofm_jax.models.cross_attention import Source
from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.positions import Learned

Lengths = Int32[ArrayLike, " b"]
Logits = Float[ArrayLike, "b n v"]


def check_decoder(spec, longest: int) -> None:
    """Refuse a model that cannot be run token by token up to so many tokens.

    Args:
        spec: of the model.
        longest: tokens of a whole sequence, the prompt included.

    Raises:
        UserError: the model sees both sides, has no language head, or too few positions.
    """
    if not spec.causal:
        raise UserError(
            "this model is an encoder: it sees both sides of a token and cannot generate from left "
            "to right; take one that NextToken trained (model.causal is true)"
        )
    if not isinstance(spec.head, LanguageHead):
        raise UserError("this model has no language head, so it has no next token to tell")
    if isinstance(spec.positions, Learned) and longest > spec.positions.maximum:
        raise UserError(
            f"prompt and new tokens may come to {longest} tokens, and the model has "
            f"positions.maximum={spec.positions.maximum}; shorten the prompt or max_tokens"
        )


def prefill(
    model: Model,
    params: PyTree,
    tokens: Tokens,
    lengths: Lengths,
    size: int,
    source: Batch | None = None,
) -> tuple[Cache, Logits]:
    """Read whole prompts, by the model's ordinary forward pass.

    Args:
        model: a causal model with a language head.
        params: its parameters.
        tokens: (b, t) int32 prompts from column 0 on; what stands behind them is not seen.
        lengths: (b,) int32 tokens of each prompt, at least 1.
        size: tokens that a row shall have room for, at least t.
        source: of an encoder-decoder, the encoder's input, one example a row, and of a captioner
            the images; the encoder runs here and not again.

    Returns:
        The cache, and (b, 1, v) float32 logits of each row's next token.

    Raises:
        UserError: as `check_decoder`, or an encoder-decoder without a source.
    """
    check_decoder(model.spec, tokens.shape[1])
    model = _plain(model)
    batch = _rows(tokens, jnp.zeros_like(lengths))
    batch = batch.replace(predict=lengths[:, None] - 1, source=source)
    out = model.apply(params, batch, collect=("keys_values",))
    room = [(0, 0), (0, 0), (0, 0), (0, size - tokens.shape[1]), (0, 0)]
    keys, values = (jnp.pad(each.swapaxes(2, 3), room) for each in out.keys_values)
    read = None
    if model.spec.reads_source:
        shape = out.source_keys_values[0].shape[1:3]  # of an image more than one vector is read
        segments = jnp.broadcast_to(source.segment_ids, shape)
        read = Source(segments, keys_values=out.source_keys_values)
    return Cache(keys, values, lengths, read), out.logits


def extend(
    model: Model,
    params: PyTree,
    cache: Cache,
    tokens: Tokens,
    counts: Lengths | None = None,
) -> tuple[Cache, Logits]:
    """Read n more tokens of each row.

    Args:
        model: as of `prefill`.
        params: as of `prefill`.
        cache: with room for them: what does not fit is lost.
        tokens: (b, n) int32.
        counts: (b,) int32, how many of the n each row keeps; by default all. A row that is done
            keeps 0, and stays as it is.

    Returns:
        The longer cache, and (b, n, v) float32 logits of the token behind each.
    """
    out = _plain(model).apply(
        params, _rows(tokens, cache.lengths), past=cache, collect=("keys_values",)
    )
    b, n = tokens.shape
    rows, columns = jnp.arange(b)[:, None], cache.lengths[:, None] + jnp.arange(n)
    keys, values = (
        old.at[:, rows, :, columns].set(
            new.transpose(1, 2, 0, 3, 4), mode="drop", unique_indices=True
        )
        for old, new in zip((cache.keys, cache.values), out.keys_values, strict=True)
    )
    counts = n if counts is None else counts
    return Cache(keys, values, cache.lengths + counts, cache.source), out.logits


def take_rows(cache: Cache, rows: Int32[ArrayLike, " n"]) -> Cache:
    """The cache with these of its rows, any of them more than once."""
    source = cache.source
    if source is not None:
        kept = tuple(each[:, rows] for each in source.keys_values)
        source = Source(source.segment_ids[rows], keys_values=kept)
    return Cache(cache.keys[:, rows], cache.values[:, rows], cache.lengths[rows], source)


def cache_bytes(spec, rows: int, size: int, source: int = 0) -> int:
    """Memory of a cache of so many rows with room for `size` tokens each.

    Of an encoder-decoder, beside what its decoder keeps of `source` tokens of each row.
    """
    stacks = spec.writers()
    tokens = [size] * (len(stacks) - 1) + [size + source]
    numbers = (s.layers * t * s.key_heads * s.head_size for s, t in zip(stacks, tokens))
    return 2 * rows * sum(numbers) * spec.compute_dtype.itemsize


def stored(spec, params: PyTree) -> PyTree:
    """Parameters in the compute dtype, so that a loop does not cast them for every token."""

    def cast(path, leaf):
        # The table of relative positions is read in float32.
        keep = any(key.key == "relative" for key in path if hasattr(key, "key"))
        return leaf if keep else jnp.asarray(leaf, spec.compute_dtype)

    return jax.tree_util.tree_map_with_path(cast, params)


def _plain(model: Model) -> Model:
    """The model without what only a backward pass needs."""
    if model.spec.remat == "none":
        return model
    return model.spec.replaced(remat="none").build()


def _rows(tokens: Tokens, starts: Lengths) -> Batch:
    """One sequence a row, whose tokens here stand from `starts` on."""
    rows, columns = tokens.shape
    return Batch(
        tokens=tokens,
        segment_ids=jnp.ones((rows, columns), jnp.int32),
        positions=starts[:, None] + jnp.arange(columns, dtype=jnp.int32),
        examples=jnp.arange(rows, dtype=jnp.int32)[:, None],
    )
