"""Denoising: an encoder reads a corrupted example, its decoder writes the whole one.

The objective of BART's token masking (Lewis et al. 2019, arXiv 1910.13461), which ProtT5 was
pretrained with instead of T5's spans: 15 % of the residues are hidden one by one (model card of
prot_t5_xl_uniref50; Elnaggar et al. 2022, doi 10.1109/TPAMI.2021.3095381).
"""

import dataclasses

import jax

from biofm_jax.data.batch import Batch
from biofm_jax.data.tokenizers import Vocabulary
from biofm_jax.objectives.api import Loss, Objective, ObjectiveSpec, token_loss
from biofm_jax.objectives.masked import MaskedLM, corrupt
from biofm_jax.objectives.next_token import shifted


@dataclasses.dataclass(frozen=True)
class Denoising(ObjectiveSpec):
    """Write each token of an example from those before it and from a corrupted copy.

    The decoder begins at an example's first token (cls where the vocabulary has one), which it is
    given and does not write.

    Attributes:
        rate: fraction of the ordinary tokens of a row that are hidden from the encoder.
        mask: of these, the fraction shown as the mask token.
        random: the fraction shown as a random ordinary token; the rest is shown as it is.
        span: number of consecutive tokens hidden together, each by a mask of its own.
    """

    rate: float = 0.15
    mask: float = 1.0
    random: float = 0.0
    span: int = 1

    head = "LanguageHead"
    causal = True

    def build(self, vocabulary: Vocabulary) -> Objective:
        """The objective for a vocabulary; raises as `MaskedLM.build`."""
        masking = MaskedLM(self.rate, self.mask, self.random, self.span)
        masking.build(vocabulary)

        def loss(apply, params, state, batch: Batch, rng) -> Loss:
            hiding, dropout = jax.random.split(rng)
            source = batch.replace(tokens=corrupt(masking, vocabulary, batch, hiding).tokens)
            logits = apply(params, batch.replace(source=source), rngs=dropout).logits
            targets, weights = shifted(batch)
            return token_loss(logits, targets, weights, state)

        return Objective(init=lambda params: {}, loss=loss)
