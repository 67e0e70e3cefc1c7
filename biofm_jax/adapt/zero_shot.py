"""Zero-shot scores: what a pretrained language model says of a sequence, without any label.

Every score is made of log-probabilities of tokens in nats, and higher is likelier:

- masked_marginal: with all mutated positions M of the wild type masked, the sum over M of
  log p(mutant token) - log p(wild-type token) (Meier et al. 2021, doi
  10.1101/2021.07.09.450648, masked marginal probability).
- wild_type_marginal: the same difference with nothing masked; one context for all variants
  (same source).
- pseudo_perplexity: the mean over residues of log p(residue) with that residue masked, which is
  minus the logarithm of the pseudo-perplexity (Salazar et al. 2020, arXiv:1910.14659).
- next_token: the sum over tokens of log p(token) behind those before it, by a causal model.
"""

import functools
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.fractions import unlabelled_adapter
from biofm_jax.adapt.labelled import Adapter, Labelled
from biofm_jax.adapt.likelihood import next_token_log_likelihood, pseudo_log_likelihood
from biofm_jax.adapt.marginals import Marginals
from biofm_jax.errors import UserError

Score = Literal["masked_marginal", "wild_type_marginal", "pseudo_perplexity", "next_token"]


def zero_shot_adapter(encoder: Encoder, score: Score, wild_type: str | None = None) -> Adapter:
    """A score as an adapter: it looks at no label, neither of numbers nor of classes.

    All scores are relative to the wild type where there is one. Each distinct text is scored
    once; an untrained model once for each seed.

    Args:
        encoder: the model.
        score: see the module.
        wild_type: what the variants are variants of; marginal scores need it.

    Raises:
        UserError: a marginal score without a wild type, or an unknown score.
    """
    if score not in get_args(Score):
        known = ", ".join(get_args(Score))
        raise UserError(f"there is no zero-shot score {score!r}; there are {known}")
    if wild_type is None and score.endswith("marginal"):
        raise UserError(
            f"{score} compares variants with a wild type, and the task has none; use "
            "pseudo_perplexity or next_token"
        )
    score_texts = _scorer(encoder, score, wild_type)
    known: dict[int, dict[str, float]] = {}

    def adapt(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
        drawn = seed if encoder.params is None else 0
        scores = known.setdefault(drawn, {})
        names = dict(zip(test.texts, test.ids, strict=True))
        if wild_type is not None:
            names.setdefault(wild_type, "the wild type")
        new = {text: name for text, name in names.items() if text not in scores}
        if new:
            made = score_texts(list(new), seed=drawn, ids=list(new.values()))
            scores.update(zip(new, made.tolist(), strict=True))
        zero = 0.0 if wild_type is None else scores[wild_type]
        column = np.array([scores[text] - zero for text in test.texts], np.float64)
        return np.repeat(column[:, None], test.targets.shape[1], axis=1)

    return unlabelled_adapter(adapt)


def _scorer(encoder: Encoder, score: Score, wild_type: str | None) -> Callable[..., np.ndarray]:
    """Texts, with `seed` and `ids` -> (n,) scores."""
    if score in ("masked_marginal", "wild_type_marginal"):
        return Marginals(encoder, wild_type, masked=score == "masked_marginal")
    if score == "pseudo_perplexity":
        return functools.partial(pseudo_log_likelihood, encoder, mean=True)
    return functools.partial(next_token_log_likelihood, encoder)
