"""Masked language modelling (BERT, Devlin et al. 2019, arXiv:1810.04805, section 3.1).

Masks are drawn on the device, anew each time a record is seen, and only the masked positions
go through the language head.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from biofm_jax.data.batch import Batch
from biofm_jax.data.tokenizers import Vocabulary
from biofm_jax.errors import UserError
from biofm_jax.objectives.api import Loss, Objective, ObjectiveSpec, row_keys, token_loss


@dataclasses.dataclass(frozen=True)
class MaskedLM(ObjectiveSpec):
    """Predict tokens that were hidden.

    Attributes:
        rate: fraction of the ordinary tokens of a row to predict.
        mask: of these, the fraction shown as the mask token.
        random: the fraction shown as a random ordinary token; the rest is shown as it is.
        span: number of consecutive tokens hidden together. DNABERT hides k overlapping k-mers
            at once, so that a base cannot be read off its neighbours (Ji et al. 2021).
    """

    rate: float = 0.15
    mask: float = 0.8
    random: float = 0.1
    span: int = 1

    head = "LanguageHead"
    causal = False

    @property
    def predicted(self) -> float:
        """See `ObjectiveSpec`."""
        return self.rate

    def build(self, vocabulary: Vocabulary) -> Objective:
        """The objective for a vocabulary.

        Raises:
            UserError: a rate outside (0, 1], fractions above 1, or no mask token.
        """
        if not 0 < self.rate <= 1:
            raise UserError(f"objective.rate is {self.rate}; it must lie in (0, 1]")
        if self.mask < 0 or self.random < 0 or self.mask + self.random > 1 + 1e-9:
            raise UserError(
                f"objective.mask + objective.random is {self.mask} + {self.random}; "
                "both must be 0 or more and their sum at most 1"
            )
        if self.span < 1:
            raise UserError(f"objective.span is {self.span}; it must be 1 or more")
        if vocabulary.mask < 0:
            raise UserError("this tokenizer has no mask token; choose another objective")

        def loss(apply, params, state, batch: Batch, rng) -> Loss:
            masking, dropout = jax.random.split(rng)
            hidden = corrupt(self, vocabulary, batch, masking)
            logits = apply(params, hidden, rngs=dropout).logits
            return token_loss(logits, hidden.targets, hidden.weights, state)

        return Objective(init=lambda params: {}, loss=loss)


def corrupt(spec: MaskedLM, vocabulary: Vocabulary, batch: Batch, rng: jax.Array) -> Batch:
    """Hide tokens of a batch.

    Exactly `round(rate * n)` of a row's n ordinary tokens are chosen (whole spans only), so
    the number of predictions, k = round(rate * t), is fixed when the program is compiled.

    Args:
        spec: rates.
        vocabulary: which tokens are ordinary, and the mask's id.
        batch: rows (b, t).
        rng: the step's key.

    Returns:
        The batch with `tokens` corrupted, `predict` (b, k), and `targets`, `weights` (b, k).
    """
    regular = jnp.zeros(vocabulary.size, bool).at[jnp.array(vocabulary.regular)].set(True)
    count = max(1, round(spec.rate * batch.tokens.shape[1]))
    row = partial(_corrupt_row, spec, vocabulary, regular, count)
    tokens, predict, weights = jax.vmap(row)(
        row_keys(rng, batch), batch.tokens, batch.segment_ids, batch.positions
    )
    targets = jnp.take_along_axis(batch.tokens, predict, axis=1)
    return batch.replace(tokens=tokens, predict=predict, targets=targets, weights=weights)


def _corrupt_row(spec, vocabulary, regular, count, key, tokens, segment_ids, positions):
    """One row (t,): corrupted tokens (t,), positions (k,) and weights (k,)."""
    length = tokens.shape[0]
    choose, change, replace, shift = jax.random.split(key, 4)
    maskable = regular[tokens] & (segment_ids > 0)
    wanted = jnp.round(spec.rate * jnp.sum(maskable)).astype(jnp.int32)

    group = _span_ids(spec.span, shift, segment_ids, positions)
    # The score of a span orders the spans; its tokens share it.
    score = jnp.where(maskable, jax.random.uniform(choose, (length,))[group], 2.0)
    # A stable sort keeps the tokens of a span together.
    order = jnp.argsort(score, stable=True)
    predict, rank = order[:count], jnp.arange(count)
    chosen = (rank < wanted) & (score[predict] < 2.0)
    if spec.span > 1:
        sizes = jnp.zeros(length, jnp.int32).at[group].add(maskable)
        taken = jnp.zeros(length, jnp.int32).at[group[predict]].add(chosen)
        # The last span may not fit in the count: a part of it would give the rest away.
        chosen &= (taken == sizes)[group[predict]]

    action = jax.random.uniform(change, (length,))[predict]
    ordinary = jnp.array(vocabulary.regular, jnp.int32)
    random = ordinary[jax.random.randint(replace, (length,), 0, len(ordinary))][predict]
    original = tokens[predict]
    shown = jnp.where(action < spec.mask, vocabulary.mask, original)
    shown = jnp.where((action >= spec.mask) & (action < spec.mask + spec.random), random, shown)
    tokens = tokens.at[predict].set(jnp.where(chosen, shown, original).astype(tokens.dtype))
    return tokens, predict.astype(jnp.int32), chosen.astype(jnp.float32)


def _span_ids(span, key, segment_ids, positions):
    """(t,) int32: the number of each token's span in the row; spans end with their example."""
    if span == 1:
        return jnp.arange(positions.shape[0])
    offset = jax.random.randint(key, (), 0, span)
    block = (positions + offset) // span
    starts = (block != jnp.roll(block, 1)) | (segment_ids != jnp.roll(segment_ids, 1))
    return jnp.cumsum(starts.at[0].set(True)) - 1
