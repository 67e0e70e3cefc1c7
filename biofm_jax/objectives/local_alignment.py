"""Contrastive learning of images and texts, of the whole and of words with regions (GLoRIA)."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from biofm_jax.array_types import AnyArray, ArrayLike
from biofm_jax.data.batch import Batch
from biofm_jax.data.tokenizers import Vocabulary
from biofm_jax.data.words import word_pieces
from biofm_jax.errors import UserError
from biofm_jax.models.local_towers import LocalTowersSpec
from biofm_jax.objectives.alignment import Alignment
from biofm_jax.objectives.api import Loss, Objective, ObjectiveSpec
from biofm_jax.objectives.contrastive import softmax_loss

ABSENT = -1e9  # an empty row has no word at all: its softmax must stay finite


@dataclasses.dataclass(frozen=True)
class LocalAlignment(ObjectiveSpec):
    """Tell which text belongs to an image, by both as a whole and by each word's regions.

    Huang et al. 2021, doi 10.1109/ICCV48922.2021.00391, section 3.3: each word attends to the
    regions of an image, what it sees there is compared with the word, and the similarity of image
    and text is the soft maximum over the words. The loss is the sum of two of CLIP's: of the
    vectors of the whole, and of these similarities. The defaults are the published code's.

    Attributes:
        attention: factor of a region's share of the words, in the softmax over regions.
        words: factor of the cosines of words and what they see, in the soft maximum.
        local: factor of the local similarities.
        longest: words of a text that are compared; those behind are not.
    """

    attention: float = 4.0
    words: float = 5.0
    local: float = 10.0
    longest: int = 48

    head = "SharedSpace"

    def check(self, model, data) -> None:
        """See `ObjectiveSpec`; the model must map tokens into the shared space."""
        if not isinstance(model, LocalTowersSpec):
            raise UserError(
                f"LocalAlignment compares words with regions, and {type(model).__name__} has "
                "vectors of the whole only; set model=LocalTowersSpec(...), or "
                "objective=Alignment()"
            )
        super().check(model, data)

    def built_for(self, model, data) -> Objective:
        """See `ObjectiveSpec`; words are made of the tokens of the second view."""
        return self.build(data.pair_vocabulary)

    def build(self, vocabulary: Vocabulary) -> Objective:
        """The objective for the vocabulary of the texts.

        It logs the `accuracy` of the whole, the `local_accuracy` and the `temperature`.

        Raises:
            UserError: a factor that is not positive, or no word.
        """
        for name in ("attention", "words", "local", "longest"):
            if getattr(self, name) <= 0:
                raise UserError(f"objective.{name} is {getattr(self, name)}; it must be above 0")
        whole = Alignment().build(vocabulary)
        inside, begins = (jnp.asarray(mask) for mask in word_pieces(vocabulary))

        def embed(apply, params, batch: Batch, rng):
            out = apply(params, batch, rngs=rng)
            vectors = whole.embed(lambda *_, **options: out, params, batch, rng)
            words, spoken = words_of(out.pair.hidden, batch.pair, inside, begins, self.longest)
            return *vectors, out.hidden, words, spoken

        def compare(embeddings, batch: Batch, state) -> Loss:
            *vectors, regions, words, spoken = embeddings
            of_whole = whole.compare(vectors, batch, state)
            similarity = self.local * local_similarity(
                regions, words, spoken, attention=self.attention, sharpness=self.words
            )
            of_words = softmax_loss(similarity, batch, state)
            return dataclasses.replace(
                of_whole,
                total=of_whole.total + of_words.total,
                metrics=of_whole.metrics | {"local_accuracy": of_words.metrics["accuracy"]},
            )

        def loss(apply, params, state, batch: Batch, rng) -> Loss:
            return compare(embed(apply, params, batch, rng), batch, state)

        return Objective(init=lambda params: {}, loss=loss, embed=embed, compare=compare)


def words_of(
    hidden: Float[ArrayLike, "b t e"],
    batch: Batch,
    inside: Bool[ArrayLike, " v"],
    begins: Bool[ArrayLike, " v"],
    longest: int,
) -> tuple[Float[jax.Array, "b w e"], Float[jax.Array, "b w"]]:
    """The sum of the vectors of each word's tokens, as published for the pieces of a word.

    Args:
        hidden: of the tokens.
        batch: one text a row.
        inside: tokens that are part of a word.
        begins: tokens that begin one.
        longest: w, words of a text; those behind are left out.

    Returns:
        (b, w, e), 0 where there is no word, and (b, w) 1 where there is one.
    """
    part = inside[batch.tokens] & (batch.segment_ids > 0)
    before = jnp.pad(part, ((0, 0), (1, 0)))[:, :-1]
    number = jnp.cumsum(part & (begins[batch.tokens] | ~before), axis=1) - 1
    member = part[..., None] & (number[..., None] == jnp.arange(longest))
    words = jnp.einsum("btw,bte->bwe", member.astype(hidden.dtype), hidden)
    return words, member.any(1).astype(jnp.float32)


def local_similarity(
    regions: Float[ArrayLike, "n m e"],
    words: Float[ArrayLike, "k w e"],
    spoken: Float[ArrayLike, "k w"],
    *,
    attention: float,
    sharpness: float,
) -> Float[jax.Array, "n k"]:
    """How well each text describes what its words see in each image.

    A region shares itself out among the words (softmax over words of the products), a word
    attends to the regions by these shares times `attention` (softmax over regions), and what it
    sees is the mean of the regions so weighed. The similarity is the logarithm of the sum over
    words of exp(`sharpness` times the cosine of the word and what it sees).

    Args:
        regions: of n images, m each.
        words: of k texts, up to w each.
        spoken: 1 where there is a word, else 0.
        attention: see above.
        sharpness: see above.
    """

    @jax.checkpoint
    def of_text(text):
        word, there = text[0], text[1] > 0
        products = jnp.einsum("nme,we->nmw", regions, word)
        shares = jax.nn.softmax(jnp.where(there, products, ABSENT), axis=2)
        looked = jax.nn.softmax(attention * shares, axis=1)
        seen = jnp.einsum("nmw,nme->nwe", looked, regions)
        cosines = jnp.sum(_unit(seen) * _unit(word), axis=-1)
        return jax.nn.logsumexp(jnp.where(there, sharpness * cosines, ABSENT), axis=1)

    # Text by text: of all at once there were n * k * m * w numbers.
    return jax.lax.map(of_text, (words, spoken)).T


def _unit(x: AnyArray) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 1e-12)
