"""Beam search: the likeliest continuations, several at a time."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from biofm_jax.adapt.sampling import Advance, Logits, Sampling, Seen, mark, restrict, stops
from biofm_jax.array_types import PyTree
from biofm_jax.errors import UserError

NEVER = -1e9  # below any score, yet finite: what is ruled out still has an order


@dataclasses.dataclass(frozen=True)
class Beams:
    """What a beam search keeps and when it ends.

    Attributes:
        width: continuations of a prompt that are followed, and that are given back.
        length_penalty: a finished sequence scores its log-probability over length to this power;
            above 0 favours long ones.
        early_stopping: "full" ends a prompt's search once `width` are finished; "estimate" once
            the best open one, at its length now, scores less than the worst of `width` finished;
            "never" asks the same of the length at which it could score best, so that nothing
            better is missed.
    """

    width: int = 4
    length_penalty: float = 1.0
    early_stopping: Literal["estimate", "full", "never"] = "estimate"

    def __post_init__(self):
        if self.width < 1:
            raise UserError(f"beams is {self.width}; it must be 1 or more")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Found:
    """The sequences of a beam search, best first.

    Attributes:
        tokens: (b, w, m) int32, from column 0 on.
        counts: (b, w) int32 tokens of each, the one that stopped it included.
        stopped: (b, w) bool; False where `max_tokens` ended it.
        log_likelihood: (b, w) float32 nats by the model itself, before any rule.
        scores: (b, w) float32 by which they are ordered; `NEVER` or less: there is none.
    """

    tokens: jax.Array
    counts: jax.Array
    stopped: jax.Array
    log_likelihood: jax.Array
    scores: jax.Array


def beam_search(
    advance: Advance,
    take_rows: Callable[[PyTree, jax.Array], PyTree],
    state: PyTree,
    logits: Logits,
    seen: Seen | None,
    sampling: Sampling,
    beams: Beams,
) -> Found:
    """Search from each row; traceable, fixed shapes.

    The rules are those of the field's usual implementation: of (1 + number of stop tokens) x width
    candidates the first `width` may finish, the best open ones go on.

    Args:
        advance: reads one more token of each of b x w rows.
        take_rows: (state, (n,) row numbers) -> the state of those rows.
        state: of the b prompts.
        logits: (b, v) float32 of their first new tokens.
        seen: (b, v) from `tokens_seen`.
        sampling: its repetition penalty, banned and stop tokens and `max_tokens` count.
        beams: width and end of the search.

    Raises:
        UserError: the vocabulary has fewer tokens than candidates are wanted.
    """
    (b, v), w, m = logits.shape, beams.width, sampling.max_tokens
    kept = max(2, 1 + len(sampling.stop)) * w
    if kept > v:
        raise UserError(f"beams is {w}: too wide for a vocabulary of {v} tokens")
    first = jnp.repeat(jnp.arange(b), w)
    state, logits = take_rows(state, first), logits[first]
    seen = None if seen is None else seen[first]
    none = jnp.full((b, w), NEVER, jnp.float32)
    tokens, zeros = jnp.zeros((b, w, m), jnp.int32), jnp.zeros((b, w), jnp.float32)
    # All beams of a prompt are the same at first: only one may go on.
    running = (tokens, none.at[:, 0].set(0.0), zeros)
    counts = jnp.zeros((b, w), jnp.int32)
    found = Found(tokens, counts, jnp.zeros((b, w), bool), zeros, none)
    open_ = jnp.ones((b, 1), bool)
    start = (jnp.int32(0), running, found, counts > 0, open_, jnp.array(False), state, logits, seen)

    def unfinished(carry):
        _, _, _, finished, improvable, ended, *_ = carry
        full = finished.all() & (beams.early_stopping == "full")
        return improvable.any() & ~full & ~ended

    def body(carry):
        step, (tokens, scores, raw), found, finished, improvable, _, state, logits, seen = carry
        said = jax.nn.log_softmax(logits)
        total = scores[:, :, None] + restrict(said, sampling, seen).reshape(b, w, v)
        top, index = jax.lax.top_k(total.reshape(b, w * v), kept)
        beam, token = index // v, index % v
        raw = _of(raw, beam) + jnp.take_along_axis(said.reshape(b, w * v), index, 1)
        tokens = _of(tokens, beam).at[:, :, step].set(token)
        stopped = stops(token, sampling)
        ends = stopped | (step + 1 == m)

        may = ends & (jnp.arange(kept) < w) & improvable
        if beams.early_stopping == "full":
            may &= ~finished.all(1, keepdims=True)
        length = (step + 1).astype(jnp.float32)
        final = top / length**beams.length_penalty + jnp.where(may, 0.0, NEVER)
        lengths = jnp.full((b, kept), step + 1, jnp.int32)
        fresh = Found(tokens, lengths, stopped, raw, final)
        merged = jax.tree.map(lambda *parts: jnp.concatenate(parts, 1), found, fresh)
        best = jax.lax.top_k(merged.scores, w)[1]
        found = jax.tree.map(lambda part: _of(part, best), merged)
        finished = _of(jnp.concatenate([finished, may], 1), best)

        scores, order = jax.lax.top_k(top + jnp.where(ends, NEVER, 0.0), w)
        running = (_of(tokens, order), scores, _of(raw, order))
        next_token = _of(token, order).reshape(b * w)
        parents = (jnp.arange(b)[:, None] * w + _of(beam, order)).reshape(b * w)
        seen = mark(None if seen is None else seen[parents], next_token)
        ones = jnp.ones(b * w, jnp.int32)
        state, logits = advance(take_rows(state, parents), next_token[:, None], ones)

        longest = m if beams.early_stopping == "never" and beams.length_penalty > 0 else length
        hope = scores[:, :1] / longest**beams.length_penalty
        worst = jnp.where(finished, found.scores.min(1, keepdims=True), NEVER)
        improvable &= (hope > worst).any(1, keepdims=True)
        return step + 1, running, found, finished, improvable, ends.all(), state, logits, seen

    return jax.lax.while_loop(unfinished, body, start)[2]


def _of(parts: jax.Array, beams: jax.Array) -> jax.Array:
    """Of each row, these of its beams: (b, w, ...) and (b, n) -> (b, n, ...)."""
    return parts[jnp.arange(len(beams))[:, None], beams]
