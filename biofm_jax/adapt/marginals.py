"""Scores of substitutions by a masked language model: mutant against wild type, per position.

Meier et al. 2021, "Language models enable zero-shot prediction of the effects of mutations on
protein function", doi 10.1101/2021.07.09.450648.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.token_scores import (
    Query,
    Sizes,
    language_model,
    named,
    token_scores,
    whole_tokens,
)
from biofm_jax.errors import UserError


def marginals(
    encoder: Encoder,
    texts: Sequence[str],
    wild_type: str,
    *,
    masked: bool = True,
    seed: int = 0,
    ids: Sequence[str] | None = None,
) -> Float[np.ndarray, " n"]:
    """Masked-marginal or wild-type-marginal scores of variants; 0 for the wild type itself.

    Variants that share their mutated positions share a context.

    Args:
        encoder: a model with a language head that sees both sides.
        texts: whole sequences of the variants, as long as the wild type.
        wild_type: what they are variants of.
        masked: hide the mutated positions of the wild type, or show it as it is.
        seed: of the parameters of a model that has none.
        ids: names of the variants for messages.

    Returns:
        (n,) float64, nats.

    Raises:
        UserError: a variant of another length (an insertion or deletion), a sequence longer
            than the model's rows, or a model without what the score needs.
    """
    params, mask = language_model(encoder, seed, causal=False)
    (wild,) = whole_tokens(encoder, [wild_type], ["the wild type"])
    variants = whole_tokens(encoder, texts, ids)
    for number, tokens in enumerate(variants):
        if len(tokens) != len(wild):
            raise UserError(
                f"{named(number, ids)} has {len(tokens)} tokens and the wild type {len(wild)}: "
                "marginal scores are for substitutions; pseudo_perplexity can score insertions "
                "and deletions"
            )
    mutated = [np.flatnonzero(tokens != wild) for tokens in variants]
    contexts: dict[tuple, list[int]] = {}
    for number, positions in enumerate(mutated):
        if len(positions):
            contexts.setdefault(tuple(positions) if masked else (), []).append(number)
    if not contexts:
        return np.zeros(len(texts))
    tables, queries = [], []
    for members in contexts.values():
        table = _wanted(wild, ((variants[n], mutated[n]) for n in members))
        positions = np.array(list(table))
        shown = wild.copy()
        if masked:
            shown[positions] = mask
        width = max(map(len, table.values()))
        targets = [row + row[:1] * (width - len(row)) for row in table.values()]
        tables.append(table)
        queries.append(Query(shown, positions, np.array(targets, np.int32)))
    scores = np.zeros(len(texts))
    answers = token_scores(encoder, params, queries, Sizes.of(queries))
    for members, table, answer in zip(contexts.values(), tables, answers, strict=True):
        said = dict(zip(table, answer.astype(np.float64), strict=True))
        for number in members:
            for position in mutated[number].tolist():
                column = table[position].index(int(variants[number][position]))
                scores[number] += said[position][column] - said[position][0]
    return scores


def _wanted(
    wild: np.ndarray, variants: Iterable[tuple[np.ndarray, np.ndarray]]
) -> dict[int, list[int]]:
    """The tokens to be scored at each mutated position, the wild type's first.

    Args:
        wild: (t,) ids.
        variants: (t,) ids and the positions where they differ.
    """
    table: dict[int, list[int]] = {}
    for tokens, positions in variants:
        for position in positions.tolist():
            row = table.setdefault(position, [int(wild[position])])
            if (token := int(tokens[position])) not in row:
                row.append(token)
    return table
