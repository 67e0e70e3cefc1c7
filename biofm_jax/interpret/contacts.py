"""Contacts by a logistic regression over attention heads: published weights, or fitted ones.

Rao et al. 2021, "Transformer protein language models are unsupervised structure learners", doi
10.1101/2020.12.15.422761: the features of a pair of residues are its attentions in every head of
every layer, both ways, after the average product correction. ESM-2's weights are published with
its checkpoints.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float
from sklearn.linear_model import LogisticRegression

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.token_scores import whole_tokens
from biofm_jax.array_types import ArrayLike
from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.zoo.weights import Weights

SEPARATION = 6  # residues apart at least, of pairs that the regression is fitted to
STRENGTH = 0.15  # scikit-learn's C of the L1 penalty, as by Rao et al.
MULTIPLE = 64  # tokens: rows of few lengths make few compilations
HEAD = "contact_head.regression."


@dataclasses.dataclass(frozen=True)
class ContactHead:
    """The regression.

    Attributes:
        weights: (l * h,) float32, layer by layer, head by head.
        bias: its constant.
        source: where it comes from, for captions.
    """

    weights: Float[np.ndarray, " f"]
    bias: float
    source: str = ""


def published_contact_head(left_out: Weights | None) -> ContactHead | None:
    """The regression among the tensors that an import left out; None if there is none.

    Args:
        left_out: of `zoo.store.Stored.left_out`.

    Raises:
        UserError: one of its two tensors is missing.
    """
    names = (
        {} if left_out is None else {n.rpartition(".")[2]: n for n in left_out.tensors if HEAD in n}
    )
    if not names:
        return None
    if set(names) != {"weight", "bias"}:
        raise UserError(f"of the contact head only {', '.join(names)} was imported; import again")
    weight, bias = (
        np.asarray(left_out.read(names[part]), np.float32) for part in ("weight", "bias")
    )
    return ContactHead(weight.reshape(-1), float(bias.reshape(())), "the published regression")


@jax.jit
def pair_features(
    attentions: Float[ArrayLike, "l b h t t"], residues: Bool[ArrayLike, "b t"]
) -> Float[jax.Array, "l b h p p"]:
    """The features of every pair of tokens, p = t - 2: the first and last columns are left out.

    Args:
        attentions: weights; rows are queries.
        residues: which tokens count; the attention from and to all others is taken as 0, those
            of cls, eos and padding, before anything is summed.

    Returns:
        float32, 0 in rows and columns that are no residues.
    """
    both = residues[:, :, None] & residues[:, None, :]
    kept = jnp.where(both[None, :, None], attentions, 0.0)[..., 1:-1, 1:-1].astype(jnp.float32)
    kept = kept + jnp.swapaxes(kept, -1, -2)
    rows, columns = kept.sum(-1, keepdims=True), kept.sum(-2, keepdims=True)
    total = kept.sum((-1, -2), keepdims=True)
    return kept - rows * columns / jnp.where(total == 0, 1.0, total)


@jax.jit
def contact_probabilities(
    attentions: Float[ArrayLike, "l b h t t"],
    residues: Bool[ArrayLike, "b t"],
    weights: Float[ArrayLike, " f"],
    bias: Float[ArrayLike, ""],
) -> Float[jax.Array, "b p p"]:
    """The probability of every pair of residues to touch; p = t - 2, without cls and eos.

    Padding behind a shorter row's residues gets the probability of the bias alone, as in the
    published head: cut each row to its residues.

    Args:
        attentions: weights of every layer and head.
        residues: which tokens are none of cls, eos and padding.
        weights: (l * h,) of the regression.
        bias: its constant.

    Raises:
        UserError: weights of another number than heads.
    """
    layers, heads = attentions.shape[0], attentions.shape[2]
    if len(weights) != layers * heads:
        raise UserError(f"{len(weights)} weights for {layers} layers of {heads} heads")
    features = pair_features(attentions, residues)
    by_head = jnp.reshape(weights, (layers, heads))
    logits = jnp.einsum("lbhij,lh->bij", features, by_head, precision="highest")
    return jax.nn.sigmoid(logits + bias)


def predict_contacts(
    encoder: Encoder, head: ContactHead, texts: Sequence[str], seed: int = 0
) -> list[Float[np.ndarray, "r r"]]:
    """Maps of contact probabilities, each text alone.

    Args:
        encoder: a model that begins a text with cls and ends it with eos.
        head: with a weight for each of its heads.
        texts: n sequences of r residues each.
        seed: of a random model.

    Raises:
        UserError: a text that is too long or cannot be read, or a head of another model.
    """
    run = _attend(encoder.spec)
    params, maps = encoder.params_for(seed), []
    for batch, residues, count in _rows(encoder, texts):
        attentions = run(params, batch)
        found = contact_probabilities(attentions, residues, head.weights, head.bias)
        maps.append(np.asarray(found)[0, :count, :count])
    return maps


def fit_contact_head(
    encoder: Encoder,
    texts: Sequence[str],
    contacts: Sequence[Float[np.ndarray, "r r"]],
    *,
    strength: float = STRENGTH,
    seed: int = 0,
) -> ContactHead:
    """Fit the regression to proteins of known structure; 20 are enough (Rao et al. 2021).

    Args:
        encoder: the model.
        texts: n sequences.
        contacts: their maps, 1 = contact, 0 = none, nan = not resolved (left out). Pairs less
            than `SEPARATION` residues apart are not used.
        strength: inverse of the L1 penalty.
        seed: of a random model.

    Raises:
        UserError: as `predict_contacts`, or no contact among the pairs.
    """
    run = _attend(encoder.spec)
    params, features, labels = encoder.params_for(seed), [], []
    for (batch, residues, count), contact in zip(_rows(encoder, texts), contacts, strict=True):
        if contact.shape != (count, count):
            raise UserError(f"a map of {contact.shape} contacts for {count} residues")
        pairs = np.triu_indices(count, SEPARATION)
        known = ~np.isnan(contact[pairs])
        found = np.asarray(pair_features(run(params, batch), residues))[:, 0]
        found = found[:, :, pairs[0][known], pairs[1][known]]
        features.append(found.reshape(-1, found.shape[-1]).T)
        labels.append(contact[pairs][known])
    if not labels or len(np.unique(np.concatenate(labels))) < 2:
        raise UserError(
            f"there are no contacts {SEPARATION} residues apart to fit to, or only such"
        )
    regression = LogisticRegression(C=strength, l1_ratio=1, solver="liblinear", random_state=0)
    regression.fit(np.concatenate(features), np.concatenate(labels))
    return ContactHead(
        regression.coef_[0].astype(np.float32),
        float(regression.intercept_[0]),
        f"a regression fitted to {len(texts)} proteins",
    )


def _rows(encoder: Encoder, texts: Sequence[str]):
    """Of each text a batch of one row, (1, t) which tokens are residues, and their number."""
    vocabulary = encoder.data.tokenizer().vocabulary
    for ids in whole_tokens(encoder, texts, None):
        if (ids[0], ids[-1]) != (vocabulary.cls, vocabulary.eos):
            raise UserError(f"the tokenizer of {encoder.name} puts no cls before and eos behind")
        length = -(-len(ids) // MULTIPLE) * MULTIPLE
        tokens = np.full((1, length), max(vocabulary.pad, 0), np.int32)
        tokens[0, : len(ids)] = ids
        there = (np.arange(length) < len(ids))[None]
        place = np.arange(length, dtype=np.int32)[None]
        batch = Batch(tokens, there.astype(np.int32), place, np.zeros((1, 1), np.int32))
        residues = there & (tokens != vocabulary.cls) & (tokens != vocabulary.eos)
        yield batch, residues, len(ids) - 2


@functools.lru_cache(maxsize=4)
def _attend(spec: TransformerSpec) -> Callable:
    """(params, batch) -> (l, b, h, t, t) attention weights."""
    model = spec.build()
    return jax.jit(lambda p, batch: model.apply(p, batch, collect=("attentions",)).attentions)
