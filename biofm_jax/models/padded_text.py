"""A text tower that reads its padding: SigLIP's, whose texts all have one length."""

import dataclasses

import jax.numpy as jnp

from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models.api import Model
from biofm_jax.models.positions import Learned
from biofm_jax.models.transformer import TransformerSpec


@dataclasses.dataclass(frozen=True)
class PaddedTextSpec(TransformerSpec):
    """A transformer whose rows are filled to `positions.maximum` with a token that takes part.

    The vector of a text is that of the last token, which in a shorter text is padding (Zhai et al.
    2023, arXiv:2303.15343). Rows hold one text each; shorter rows are filled up.

    Attributes:
        padding: id of the token.
    """

    padding: int = 1

    def build(self) -> Model:
        """The model's pure functions; `Outputs.hidden` is (b, positions.maximum, d).

        Raises:
            UserError: positions that are not learned, and have no maximum.
        """
        if not isinstance(self.positions, Learned):
            raise UserError("PaddedTextSpec.positions must be Learned(maximum): it is the length")
        plain = super().build()

        def apply(params, batch: Batch, **options):
            return plain.apply(params, self.filled(batch), **options)

        return dataclasses.replace(plain, apply=apply)

    def filled(self, batch: Batch) -> Batch:
        """The batch (b, positions.maximum) with padding that is part of the text.

        Raises:
            UserError: several texts in a row, or rows that are too long.
        """
        rows, length = batch.tokens.shape
        if batch.examples.shape[1] != 1:
            raise UserError(
                "PaddedTextSpec reads one text a row, and the rows of this batch are packed; set "
                "--data.pack False"
            )
        room = self.positions.maximum - length
        if room < 0:
            raise UserError(
                f"rows of {length} tokens are longer than the {self.positions.maximum} positions "
                "of the model; shorten the rows of the data"
            )
        tokens = jnp.where(batch.segment_ids > 0, batch.tokens, self.padding)
        whole = (rows, self.positions.maximum)
        there = (batch.segment_ids > 0).any(1, keepdims=True).astype(jnp.int32)
        return batch.replace(
            tokens=jnp.pad(tokens, ((0, 0), (0, room)), constant_values=self.padding),
            segment_ids=jnp.broadcast_to(there, whole),
            positions=jnp.broadcast_to(jnp.arange(whole[1], dtype=jnp.int32), whole),
        )
