"""From token ids to the first hidden states."""

import dataclasses
from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from biofm_jax.array_types import ArrayLike, Hidden, Tokens, typed
from biofm_jax.data.batch import Batch
from biofm_jax.models.dropout import EMBEDDING, dropout
from biofm_jax.models.layers import Norm, normal, parameter
from biofm_jax.models.positions import Learned

if TYPE_CHECKING:
    from biofm_jax.models.transformer import TransformerSpec

SMALL_ALPHABET = 128  # one-hot rows of so many tokens cost less than a thousandth of a step


@dataclasses.dataclass(frozen=True)
class TokenDropout:
    """ESM-2's treatment of masks: their embeddings are zeroed, the others scaled to make up.

    The scale is (1 - ratio) / (1 - share of masks in the example), so that an example without
    masks is as loud as in training. (Lin et al. 2023, doi 10.1126/science.ade2574)

    Attributes:
        mask: the mask's token id.
        ratio: the share of tokens that training replaces by the mask: 15 % chosen, of which
            80 % masked, in ESM-2. Another masking rule has another product.
    """

    mask: int = 32
    ratio: float = 0.15 * 0.8


@typed
def mask_scale(batch: Batch, rule: TokenDropout) -> Float[ArrayLike, "b t"]:
    """By what each token's embedding is multiplied: 0 at masks; elsewhere by its example."""
    masked = batch.tokens == rule.mask
    slots = jnp.arange(1, batch.examples.shape[1] + 1)
    members = (batch.segment_ids[:, :, None] == slots).astype(jnp.float32)
    masks = jnp.einsum("bts,bt->bs", members, masked.astype(jnp.float32))
    share = masks / jnp.maximum(members.sum(1), 1.0)
    # An example of nothing but masks has no embedding left to scale.
    scale = (1.0 - rule.ratio) / jnp.where(share < 1.0, 1.0 - share, 1.0)
    return jnp.where(masked, 0.0, jnp.einsum("bts,bs->bt", members, scale))


def look_up(table: Float[ArrayLike, "v d"], tokens: Tokens) -> Hidden:
    """Rows of a table, (b, t, d), whose gradient is summed in float32.

    A scatter of many tokens into the few rows of a small alphabet would wait for itself, and
    add up thousands of bfloat16 numbers in bfloat16: there it is a product with one-hot rows.
    """
    if table.shape[0] > SMALL_ALPHABET:
        return table[tokens]

    @jax.custom_vjp
    def rows(table):
        return table[tokens]

    def backward(_, gradient):
        hot = jax.nn.one_hot(tokens, table.shape[0], dtype=gradient.dtype)
        of_table = jnp.einsum("btv,btd->vd", hot, gradient, preferred_element_type=jnp.float32)
        return (of_table.astype(table.dtype),)

    rows.defvjp(lambda table: (rows(table), None), backward)
    return rows(table)


class Embedding(nn.Module):
    """Token, type and position vectors, token dropout, scale, norm, dropout."""

    spec: "TransformerSpec"

    @nn.compact
    def __call__(self, batch: Batch, keys) -> Hidden:
        spec, init = self.spec, normal(self.spec.init_std)
        shape = (spec.vocabulary, spec.width)
        table = parameter(self, "tokens", init, shape, ("vocab", "embed"))
        x = look_up(table, batch.tokens)
        if spec.token_dropout is not None:
            scale = mask_scale(batch, spec.token_dropout)
            x = (x * scale[..., None]).astype(x.dtype)
        if spec.embedding_scale != 1.0:
            x = x * spec.embedding_scale
        if spec.token_types:
            # A batch holds one type of text, type 0; the rest of the table is kept for export.
            shape = (spec.token_types, spec.width)
            x = x + parameter(self, "types", init, shape, (None, "embed"))[0]
        if isinstance(spec.positions, Learned):
            shape = (spec.positions.maximum + spec.positions.offset, spec.width)
            table = parameter(self, "positions", init, shape, (None, "embed"))
            x = x + table[batch.positions + spec.positions.offset]
        if spec.embedding_norm:
            x = Norm(spec.norm, spec.norm_epsilon, spec.biases.norm, name="norm")(x)
        return dropout(x, spec.dropout, keys, EMBEDDING)
