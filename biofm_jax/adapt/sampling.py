"""The next token: what changes the logits, the choice, and the loop of choices.

Each rule has the meaning of the field's usual one of the same name, so that published settings
carry over. They act in this order: repetition penalty, forbidden tokens, temperature, top-k, top-p.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int32

from biofm_jax.array_types import ArrayLike, PyTree, typed
from biofm_jax.errors import UserError
from biofm_jax.models.dropout import fold

Logits = Float[ArrayLike, "b v"]
Seen = Bool[ArrayLike, "b v"]

# advance(state, tokens (b, 1), counts (b,)) -> (state, (b, v) logits): `models.cache.extend`, with
# counts 0 where a row is done.
Advance = Callable[[PyTree, jax.Array, jax.Array], tuple[PyTree, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How tokens are chosen, and for how long.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: only so many of the likeliest tokens; 0: all.
        top_p: only the likeliest tokens whose probabilities sum to this (Holtzman et al. 2020,
            arXiv 1904.09751); 1: all.
        repetition_penalty: positive logits of tokens that the row has, prompt included, are divided
            by it and negative ones multiplied (Keskar et al. 2019, arXiv 1909.05858); 1: none.
        max_tokens: new tokens of a sequence at most, the one that stops it included.
        stop: ids that end a sequence.
        banned: ids that are never chosen.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    max_tokens: int = 128
    stop: tuple[int, ...] = ()
    banned: tuple[int, ...] = ()

    def __post_init__(self):
        _demand(self.temperature >= 0, "temperature", self.temperature, "0 (greedy) or above")
        _demand(self.top_k >= 0, "top_k", self.top_k, "0 (all tokens) or above")
        _demand(0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1")
        penalty = self.repetition_penalty
        _demand(penalty > 0, "repetition_penalty", penalty, "above 0; 1 is none")
        _demand(self.max_tokens > 0, "max_tokens", self.max_tokens, "1 or more")


def _demand(holds: bool, field: str, value, need: str) -> None:
    if not holds:
        raise UserError(f"{field} is {value}; it must be {need}")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Chosen:
    """What a loop of choices gave.

    Attributes:
        tokens: (b, m) int32 new tokens from column 0 on, the one that stopped the row included.
        counts: (b,) int32, how many they are.
        stopped: (b,) bool; False where `max_tokens` ended the row.
        log_likelihood: (b,) float32 nats of the new tokens given what is before them, by the
            model itself: as its logits were before any rule changed them.
    """

    tokens: jax.Array
    counts: jax.Array
    stopped: jax.Array
    log_likelihood: jax.Array


@typed
def penalise(logits: Logits, seen: Seen, penalty: float) -> Logits:
    """Logits with the repetition penalty on the tokens that were seen."""
    changed = jnp.where(logits < 0, logits * penalty, logits / penalty)
    return jnp.where(seen, changed, logits)


@typed
def forbid(logits: Logits, banned: tuple[int, ...]) -> Logits:
    """Logits with those of banned ids at minus infinity."""
    return logits.at[:, jnp.array(banned, jnp.int32)].set(-jnp.inf) if banned else logits


@typed
def keep_top_k(logits: Logits, k: int) -> Logits:
    """Only the k largest of each row, and what ties with the last of them."""
    least = jax.lax.top_k(logits, min(k, logits.shape[-1]))[0][:, -1:]
    return jnp.where(logits < least, -jnp.inf, logits)


@typed
def keep_top_p(logits: Logits, p: float) -> Logits:
    """Only the likeliest of each row, so many that their probabilities sum to p at least."""
    order = jnp.argsort(logits, axis=-1)
    ascending = jnp.take_along_axis(logits, order, -1)
    below = jnp.cumsum(jax.nn.softmax(ascending, -1), -1) <= 1 - p
    below = below.at[:, -1].set(False)
    rows = jnp.arange(len(logits))[:, None]
    return jnp.where(jnp.zeros_like(below).at[rows, order].set(below), -jnp.inf, logits)


def restrict(logits: Logits, sampling: Sampling, seen: Seen | None) -> Logits:
    """The rules that a beam search has too: repetition penalty and banned tokens."""
    if seen is not None:
        logits = penalise(logits, seen, sampling.repetition_penalty)
    return forbid(logits, sampling.banned)


def process(logits: Logits, sampling: Sampling, seen: Seen | None) -> Logits:
    """Logits after all rules; `seen` is read where there is a repetition penalty."""
    logits = restrict(logits, sampling, seen)
    if sampling.temperature == 0:
        return logits
    logits = logits / sampling.temperature
    if sampling.top_k:
        logits = keep_top_k(logits, sampling.top_k)
    return keep_top_p(logits, sampling.top_p) if sampling.top_p < 1 else logits


def choose(logits: Logits, sampling: Sampling, keys: jax.Array) -> Int32[ArrayLike, " b"]:
    """A token of each row from processed logits, by the row's own key (b,).

    Gumbel noise and the largest sum: exact, and nothing of another row enters.
    """
    if sampling.temperature > 0:
        draw = jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[1:]))
        logits = logits + draw(keys)
    return jnp.argmax(logits, -1).astype(jnp.int32)


def tokens_seen(
    tokens: Int32[ArrayLike, "b t"], lengths: Int32[ArrayLike, " b"], sampling: Sampling, size: int
) -> Seen | None:
    """Which of the `size` ids each prompt holds; None where no rule asks."""
    if sampling.repetition_penalty == 1:
        return None
    there = jnp.arange(tokens.shape[1]) < lengths[:, None]
    rows = jnp.arange(len(tokens))[:, None]
    return jnp.zeros((len(tokens), size), bool).at[rows, tokens].max(there)


def mark(seen: Seen | None, tokens: Int32[ArrayLike, " b"]) -> Seen | None:
    """`seen` with one more token of each row."""
    return None if seen is None else seen.at[jnp.arange(len(tokens)), tokens].set(True)


def stops(tokens: jax.Array, sampling: Sampling) -> jax.Array:
    """Which tokens end a sequence."""
    return jnp.isin(tokens, jnp.array(sampling.stop, jnp.int32))


def sample(
    advance: Advance,
    state: PyTree,
    logits: Logits,
    seen: Seen | None,
    keys: jax.Array,
    sampling: Sampling,
) -> Chosen:
    """Choose and read tokens until every row has stopped; traceable, fixed shapes.

    Args:
        advance: reads one more token of each row.
        state: what it reads them behind.
        logits: (b, v) float32 of the first new token.
        seen: (b, v) from `tokens_seen`.
        keys: (b,) PRNG keys, one of each sequence, so that a sequence depends on nothing but its
            prompt and its key.
        sampling: the rules.
    """
    b = len(logits)
    start = Chosen(
        tokens=jnp.zeros((b, sampling.max_tokens), jnp.int32),
        counts=jnp.zeros(b, jnp.int32),
        stopped=jnp.zeros(b, bool),
        log_likelihood=jnp.zeros(b, jnp.float32),
    )

    def unfinished(carry):
        step, chosen, *_ = carry
        return (step < sampling.max_tokens) & ~chosen.stopped.all()

    def body(carry):
        step, chosen, state, logits, seen = carry
        token = choose(process(logits, sampling, seen), sampling, fold(keys, step))
        going = ~chosen.stopped
        token = jnp.where(going, token, 0)
        gained = jnp.take_along_axis(jax.nn.log_softmax(logits), token[:, None], 1)[:, 0]
        chosen = Chosen(
            tokens=chosen.tokens.at[:, step].set(token),
            counts=chosen.counts + going,
            stopped=chosen.stopped | stops(token, sampling),
            log_likelihood=chosen.log_likelihood + jnp.where(going, gained, 0.0),
        )
        state, logits = advance(state, token[:, None], (~chosen.stopped).astype(jnp.int32))
        return step + 1, chosen, state, logits, mark(seen, token)

    return jax.lax.while_loop(unfinished, body, (jnp.int32(0), start, state, logits, seen))[1]
