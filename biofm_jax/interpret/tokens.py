"""One text through a model: its attentions, and attributions of its tokens."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.token_scores import whole_tokens
from biofm_jax.data.batch import Batch, Graph
from biofm_jax.data.graphs import GraphExample
from biofm_jax.errors import UserError
from biofm_jax.interpret.gradients import integrated_gradients


@dataclasses.dataclass(frozen=True)
class Text:
    """A tokenized text.

    Attributes:
        ids: (t,) with cls and eos.
        tokens: their names.
        regular: (t,) which are none of the special tokens.
        graph: of a model of graphs, whose tokens are atoms; None: there is none.
        written: the text as it was cleaned; its atoms have the order of the graph's.
    """

    ids: np.ndarray
    tokens: tuple[str, ...]
    regular: np.ndarray
    graph: GraphExample | None = None
    written: str = ""


def read_text(encoder: Encoder, text: str) -> Text:
    """A text as the encoder sees it.

    Raises:
        UserError: a text it cannot read, or one longer than its rows.
    """
    (ids,) = whole_tokens(encoder, [text], [f"{text[:20]}..."])
    graph = ids if isinstance(ids, GraphExample) else None
    ids = ids if graph is None else graph.ids.astype(np.int32)
    vocabulary = encoder.data.tokenizer().vocabulary
    special = {vocabulary.cls, vocabulary.eos, vocabulary.pad, vocabulary.mask}
    return Text(
        ids,
        tuple(vocabulary.tokens[i] for i in ids),
        np.array([int(i) not in special for i in ids]),
        graph,
        encoder.data.clean(text),
    )


def attentions_of(encoder: Encoder, text: Text, seed: int = 0) -> Float[np.ndarray, "l h t t"]:
    """(l, h, t, t) float32 attention weights of a text; of an encoder-decoder, its encoder's."""
    encoder = encoder.reader()
    model, params = encoder.spec.build(), encoder.params_for(seed)
    run = jax.jit(lambda p, batch: model.apply(p, batch, collect=("attentions",)).attentions)
    return np.asarray(run(params, _row(text, text.ids)))[:, 0]


def token_attributions(
    encoder: Encoder,
    text: Text,
    output: Callable[[Any], jax.Array],
    seed: int = 0,
    steps: int = 64,
) -> tuple[Float[np.ndarray, " t"], float]:
    """What each token adds to an output, by integrated gradients on the embeddings.

    The baseline has the embedding of the mask (or of padding, where the vocabulary has no mask)
    in the place of every regular token, so that the sum is what the tokens' identities change; of
    a graph, the same bonds between atoms that say nothing.

    Args:
        encoder: the model.
        text: t tokens.
        output: `Outputs` of the model on a row with this one text -> () float.
        seed: of random parameters.
        steps: points of the integral.

    Returns:
        (t,) float64 attributions, summed over the width, and the completeness gap.

    Raises:
        UserError: the attributions miss the difference of outputs.
    """
    model, params = encoder.spec.build(), encoder.params_for(seed)
    vocabulary = encoder.data.tokenizer().vocabulary
    nothing = vocabulary.mask if vocabulary.mask >= 0 else vocabulary.pad
    if nothing < 0:
        raise UserError(
            f"the vocabulary of {encoder.name} has neither mask nor padding to start from"
        )
    row = _row(text, text.ids)
    empty = _row(text, np.where(text.regular, nothing, text.ids))
    embed = jax.jit(lambda p, batch: model.apply(p, batch, collect=("layers",)).layers[0])

    def score(embedded):
        return output(model.apply(params, row, embedded=embedded))

    full, bare = (np.asarray(embed(params, batch)) for batch in (row, empty))
    # Token dropout would scale cls and eos by the share of masks, which is no token's doing.
    bare = np.where(text.regular[None, :, None], bare, full)
    with jax.default_matmul_precision("highest"):
        found, gap = integrated_gradients(score, full, bare, steps)
    return found[0].sum(-1), gap


def log_likelihood(encoder: Encoder, text: Text) -> Callable[[Any], jax.Array]:
    """The output: the sum of log-probabilities that a language model gives the text's tokens.

    Of a causal model, each token behind those before it; of a masked one, which sees them all,
    what it would put at each place.
    """
    ids, regular = jnp.asarray(text.ids), jnp.asarray(text.regular)

    def output(outputs):
        said = jax.nn.log_softmax(outputs.logits[0].astype(jnp.float32), axis=-1)
        if encoder.spec.causal:
            return jnp.take_along_axis(said[:-1], ids[1:, None], axis=-1).sum()
        return jnp.where(regular, jnp.take_along_axis(said, ids[:, None], axis=-1)[:, 0], 0).sum()

    return output


def _row(text: Text, ids: np.ndarray) -> Batch:
    """A batch of the text alone, with these ids."""
    graph = text.graph
    if graph is not None:
        fields = (graph.features, graph.edges, graph.bonds)
        graph = Graph(*(field.astype(np.int32)[None] for field in fields))
    ones = np.ones((1, len(ids)), np.int32)
    return Batch(
        tokens=np.asarray(ids, np.int32)[None],
        segment_ids=ones,
        positions=np.arange(len(ids), dtype=np.int32)[None],
        examples=np.zeros((1, 1), np.int32),
        graph=graph,
    )
