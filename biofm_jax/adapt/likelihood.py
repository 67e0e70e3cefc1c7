"""How likely a language model finds whole sequences, from left to right or each token in turn."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.token_scores import Query, Sizes, language_model, token_scores, whole_tokens


def pseudo_log_likelihood(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    mean: bool = False,
    seed: int = 0,
    ids: Sequence[str] | None = None,
) -> Float[np.ndarray, " n"]:
    """The log-probability of each residue with it alone masked, over a sequence.

    A sequence of m tokens takes m passes. Tokens before and after it (cls, eos) are not scored.

    Args:
        encoder: a model with a language head that sees both sides.
        texts: n sequences of any lengths.
        mean: per residue instead of the sum; exp of minus it is the pseudo-perplexity.
        seed: of the parameters of a model that has none.
        ids: names of the sequences for messages.

    Returns:
        (n,) float64, nats.

    Raises:
        UserError: a sequence longer than the model's rows, or a model without what the score
            needs.
    """
    params, mask = language_model(encoder, seed, causal=False)
    sequences = whole_tokens(encoder, texts, ids)
    vocabulary = encoder.data.tokenizer().vocabulary
    frame = (vocabulary.cls, vocabulary.eos)
    places = [np.flatnonzero(~np.isin(tokens, frame)) for tokens in sequences]

    def queries() -> Iterator[Query]:
        for tokens, positions in zip(sequences, places, strict=True):
            for position in positions:
                shown = tokens.copy()
                shown[position] = mask
                yield Query(shown, np.array([position]), tokens[[position]][:, None])

    counts = np.array([len(positions) for positions in places], np.int64)
    sizes = _sizes(sequences, count=int(counts.sum()), positions=1)
    return _totals(token_scores(encoder, params, queries(), sizes), counts, mean)


def pseudo_perplexity(
    encoder: Encoder, texts: Sequence[str], *, seed: int = 0
) -> Float[np.ndarray, " n"]:
    """exp of minus the mean `pseudo_log_likelihood`: (n,), at least 1, lower is likelier."""
    return np.exp(-pseudo_log_likelihood(encoder, texts, mean=True, seed=seed))


def next_token_log_likelihood(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    mean: bool = False,
    seed: int = 0,
    ids: Sequence[str] | None = None,
) -> Float[np.ndarray, " n"]:
    """The log-probability of each token behind those before it, over a sequence.

    The first token (cls, where there is one) is given, the end of the sequence is scored.

    Args:
        encoder: a causal model with a language head.
        texts: n sequences of any lengths.
        mean: per token instead of the sum.
        seed: of the parameters of a model that has none.
        ids: names of the sequences for messages.

    Returns:
        (n,) float64, nats.

    Raises:
        UserError: as `pseudo_log_likelihood`.
    """
    params, _ = language_model(encoder, seed, causal=True)
    sequences = whole_tokens(encoder, texts, ids)
    places = [np.arange(len(tokens) - 1) for tokens in sequences]
    queries = (
        Query(tokens, positions, tokens[1:, None])
        for tokens, positions in zip(sequences, places, strict=True)
    )
    counts = np.array([len(positions) for positions in places], np.int64)
    sizes = _sizes(sequences, count=len(sequences), positions=max(counts, default=0))
    return _totals(token_scores(encoder, params, queries, sizes), counts, mean)


def _sizes(sequences: Sequence[np.ndarray], count: int, positions: int) -> Sizes:
    lengths = [len(tokens) for tokens in sequences] or [1]
    return Sizes(count, min(lengths), max(lengths), int(positions), candidates=1)


def _totals(answers: Iterable[np.ndarray], counts: np.ndarray, mean: bool) -> np.ndarray:
    """The sum or mean of the answers of each sequence, of which there are `counts`."""
    said = [np.zeros(0), *(answer[:, 0].astype(np.float64) for answer in answers)]
    owner = np.repeat(np.arange(len(counts)), counts)
    totals = np.bincount(owner, np.concatenate(said), len(counts))
    return totals / np.maximum(counts, 1) if mean else totals
