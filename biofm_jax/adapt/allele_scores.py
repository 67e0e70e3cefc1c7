"""Zero-shot scores of pairs of sequences: each variant against a reference of its own.

The scores are those of `zero_shot`, of which this is the form for many references, such as
windows of a genome. For a tokenizer of 6-mers the marginal scores compare two 6-mers at the one
token that holds the base, log p(6-mer with the variant) - log p(6-mer of the reference): given the
other five bases, the log-likelihood ratio of Benegas et al. 2023 (GPN, doi
10.1073/pnas.2311219120) for models with a token a base, on the tokens of the Nucleotide
Transformer (Dalla-Torre et al. 2024, doi 10.1038/s41592-024-02523-z).
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.likelihood import next_token_log_likelihood, pseudo_log_likelihood
from biofm_jax.adapt.token_scores import Query, Sizes, language_model, named, token_scores
from biofm_jax.adapt.zero_shot import Score
from biofm_jax.errors import UserError

Pair = tuple[str, str]
Context = tuple[Query, list[int]]  # and the pairs that it answers, in the columns of its targets


def allele_scores(
    encoder: Encoder,
    score: Score,
    pairs: Sequence[Pair],
    *,
    seed: int = 0,
    ids: Sequence[str] | None = None,
) -> Float[np.ndarray, " n"]:
    """The score of the second text of each pair less that of the first.

    Neighbouring pairs with one first text and the same changed tokens are read in one context.

    Args:
        encoder: a model with a language head.
        score: see `zero_shot`; pseudo_perplexity is the mean over tokens, next_token the sum.
        pairs: n pairs, which may be made when asked for; each text fits into a row.
        seed: of the parameters of a model that has none.
        ids: names of the pairs for messages.

    Returns:
        (n,) float64, nats; higher = the variant is likelier. 0 for two equal texts.

    Raises:
        UserError: a text longer than a row; of marginal scores, a pair whose tokens do not
            cover the same letters; or a model without what the score needs.
    """
    if score.endswith("marginal"):
        return _marginals(encoder, pairs, score == "masked_marginal", seed, ids)
    names: dict[str, str] = {}
    for number, pair in enumerate(pairs):
        for text in pair:
            names.setdefault(text, named(number, ids))
    texts, labels = list(names), list(names.values())
    if score == "pseudo_perplexity":
        said = pseudo_log_likelihood(encoder, texts, mean=True, seed=seed, ids=labels)
    else:
        said = next_token_log_likelihood(encoder, texts, seed=seed, ids=labels)
    of = dict(zip(texts, said.tolist(), strict=True))
    return np.array([of[variant] - of[reference] for reference, variant in pairs], np.float64)


def _marginals(encoder, pairs, masked: bool, seed: int, ids) -> np.ndarray:
    params, mask = language_model(encoder, seed, causal=False)
    hidden = mask if masked else None
    scores = np.zeros(len(pairs))
    widest, count = None, 0
    for query, _ in _contexts(encoder, pairs, hidden, ids):
        one = Sizes.of([query])
        widest, count = one if widest is None else widest.at_least(one), count + 1
    if widest is None:
        return scores
    members: list[list[int]] = []

    def queries() -> Iterator[Query]:
        for query, numbers in _contexts(encoder, pairs, hidden, ids):
            members.append(numbers)
            yield query

    sizes = dataclasses.replace(widest, count=count)
    for place, answer in enumerate(token_scores(encoder, params, queries(), sizes)):
        said = answer.astype(np.float64)
        scores[members[place]] = (said[:, 1:] - said[:, :1]).sum(0)
    return scores


def _contexts(encoder, pairs, mask: int | None, ids) -> Iterator[Context]:
    """Each context once, with targets (m, 1 + g): the reference's tokens and those of g pairs."""
    tokens_of = encoder.data.tokenizer().vocabulary.tokens

    def read(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        reference, variant = encoder.tokenize(pairs[number])
        room = encoder.data.max_tokens
        if len(reference) > room:
            raise UserError(
                f"{named(number, ids)} has {len(reference)} tokens, and the rows of "
                f"{encoder.name} hold {room}; take a shorter window"
            )
        changed = np.flatnonzero(reference != variant) if len(reference) == len(variant) else None
        if changed is None or any(
            len(tokens_of[reference[i]]) != len(tokens_of[variant[i]]) for i in changed
        ):
            raise UserError(
                f"{named(number, ids)} changes where tokens begin, so that no token stands for "
                "another: use pseudo_perplexity, or next_token for a causal model"
            )
        return reference, variant, changed

    read_all = ((number, *read(number)) for number in range(len(pairs)))
    changing = (each for each in read_all if len(each[3]))
    for _, group in itertools.groupby(changing, lambda e: (e[1].tobytes(), e[3].tobytes())):
        numbers, references, variants, changes = zip(*group, strict=True)
        reference, positions = references[0], changes[0]
        shown = reference.copy()
        if mask is not None:
            shown[positions] = mask
        columns = [reference[positions], *(variant[positions] for variant in variants)]
        yield Query(shown, positions, np.stack(columns, axis=1)), list(numbers)
