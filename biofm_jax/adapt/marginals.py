"""Scores of substitutions by a masked language model: mutant against wild type, per position.

Meier et al. 2021, "Language models enable zero-shot prediction of the effects of mutations on
protein function", doi 10.1101/2021.07.09.450648. A wild type longer than the model's rows is read
through a window around the mutated positions, as ProteinGym does (Notin et al. 2023).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.token_scores import Query, Sizes, language_model, named, token_scores
from biofm_jax.errors import UserError

Context = tuple[int, tuple[int, ...]]  # where its window starts, and the positions it is read at


class Marginals:
    """Masked-marginal or wild-type-marginal scores of the variants of one wild type.

    A context, the wild type with some positions masked, is read once for all variants that
    mutate just these positions, and remembered: in a cross-validation each fold asks for most
    contexts of the one before.
    """

    def __init__(self, encoder: Encoder, wild_type: str, *, masked: bool = True):
        """Score the variants of `wild_type`.

        Args:
            encoder: a model with a language head that sees both sides.
            wild_type: of any length.
            masked: hide the mutated positions of the wild type, or show it as it is.
        """
        self._encoder, self._wild_type, self._masked = encoder, wild_type, masked
        self._seed = 0
        self._known: dict[Context, Float[np.ndarray, "m v"]] = {}
        self._sizes: Sizes | None = None

    def __call__(
        self, texts: Sequence[str], *, seed: int = 0, ids: Sequence[str] | None = None
    ) -> Float[np.ndarray, " n"]:
        """The score of each variant, the sum over its mutations; 0 for the wild type itself.

        Args:
            texts: whole sequences, as long as the wild type.
            seed: of the parameters of a model that has none. Contexts of one seed are remembered.
            ids: names of the variants for messages.

        Returns:
            (n,) float64, nats.

        Raises:
            UserError: a variant of another length (an insertion or deletion), mutations too far
                apart for one row, or a model without what the score needs.
        """
        if seed != self._seed:
            self._seed, self._known = seed, {}
        (wild,) = self._encoder.tokenize([self._wild_type])
        variants = self._encoder.tokenize(texts)
        for number, tokens in enumerate(variants):
            if len(tokens) != len(wild):
                raise UserError(
                    f"{named(number, ids)} has {len(tokens)} tokens and the wild type "
                    f"{len(wild)}: marginal scores are for substitutions; pseudo_perplexity can "
                    "score insertions and deletions"
                )
        mutated = [np.flatnonzero(tokens != wild) for tokens in variants]
        contexts = [
            self._context(len(wild), positions, named(number, ids)) if len(positions) else None
            for number, positions in enumerate(mutated)
        ]
        self._read(wild, [each for each in dict.fromkeys(contexts) if each])
        scores = np.zeros(len(texts))
        for number, (tokens, positions, context) in enumerate(zip(variants, mutated, contexts)):
            if context:
                places = np.searchsorted(context[1], positions)
                said = self._known[context][places].astype(np.float64)
                rows = np.arange(len(places))
                gains = said[rows, tokens[positions]] - said[rows, wild[positions]]
                scores[number] = gains.sum()
        return scores

    def _context(self, length: int, mutated: np.ndarray, name: str) -> Context:
        """The context of a variant: as much of the wild type as a row holds, around its mutations.

        Windows are of tokens, so one that does not reach an end of the sequence has no cls or
        eos there, as the windows of a longer sequence in pretraining.
        """
        room = self._encoder.data.max_tokens
        first, last = int(mutated[0]), int(mutated[-1])
        if last - first >= room:
            raise UserError(
                f"{name} has mutations {last - first} tokens apart, and the rows of "
                f"{self._encoder.name} hold {room}: a model with longer rows is needed"
            )
        start = max(0, min((first + last + 1) // 2 - room // 2, length - room))
        if self._masked or length > room:
            return start, tuple(mutated.tolist())
        return 0, tuple(range(length))

    def _read(self, wild: np.ndarray, contexts: Sequence[Context]) -> None:
        """Remember the (m, v) log-probabilities of the contexts that are not yet known."""
        new = [context for context in contexts if context not in self._known]
        if not new:
            return
        params, mask = language_model(self._encoder, self._seed, causal=False)
        vocabulary = np.arange(self._encoder.spec.vocabulary, dtype=np.int32)
        queries = []
        for start, positions in new:
            places = np.array(positions)
            shown = wild.copy()
            if self._masked:
                shown[places] = mask
            window = shown[start : start + self._encoder.data.max_tokens]
            queries.append(Query(window, places - start, np.tile(vocabulary, (len(places), 1))))
        sizes = Sizes.of(queries)
        answers = token_scores(self._encoder, params, queries, sizes, like=self._sizes)
        self._known.update(zip(new, answers, strict=True))
        self._sizes = sizes if self._sizes is None else sizes.at_least(self._sizes)
