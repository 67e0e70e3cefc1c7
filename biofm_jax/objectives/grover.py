"""GROVER's two objectives: the contextual property of atoms, and the motifs of molecules (Rong et
al. 2020, arXiv:2007.02835, section 4.2)."""

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp

from biofm_jax.data.batch import Batch
from biofm_jax.data.tokenizers import Vocabulary
from biofm_jax.errors import UserError
from biofm_jax.objectives.api import Loss, Objective, ObjectiveSpec, cross_entropy
from biofm_jax.objectives.molclr import rank_in_segment


@dataclasses.dataclass(frozen=True)
class ContextMotif(ObjectiveSpec):
    """Tell what stands around an atom, and which functional groups its molecule has.

    The contextual property of an atom is its element with its neighbours' elements and bonds,
    counted (C_N-DOUBLE1_O-SINGLE1 in the paper). GROVER numbers the properties that occur in its
    corpus; here a property's class is a hash of it, so that nothing is counted beforehand and
    none is unknown. The loss is the mean over chosen atoms of the cross-entropy of the atom's
    context and `motif` times the mean binary cross-entropy of its molecule's motifs.

    Attributes:
        rate: share of a molecule's atoms that are chosen, rounded up.
        mask: share of the chosen whose element and features are hidden. The published code
            hides none (0), so that one round of messages tells the answer.
        motif: weight of the motifs; 0 leaves them out.
    """

    rate: float = 0.15
    mask: float = 1.0
    motif: float = 1.0

    head = "ContextMotifHead"

    @property
    def predicted(self) -> float:
        """See `ObjectiveSpec`."""
        return self.rate

    def build(self, vocabulary: Vocabulary | None) -> Objective:
        """The objective for a vocabulary of atoms.

        Raises:
            UserError: a share that is none, a weight below 0, or no mask token.
        """
        if not 0 < self.rate <= 1 or not 0 <= self.mask <= 1:
            raise UserError(
                f"objective.rate is {self.rate} and objective.mask {self.mask}; the first must "
                "lie in (0, 1], the second in [0, 1]"
            )
        if self.motif < 0:
            raise UserError(f"objective.motif is {self.motif}; it must be at least 0")
        if vocabulary is None or vocabulary.mask < 0:
            raise UserError(
                "ContextMotif needs a vocabulary with a mask token; set data=MoleculeMotifData(...)"
            )

        def loss(apply, params, state, batch: Batch, rng) -> Loss:
            choosing, dropout = jax.random.split(rng)
            chosen = choose(self, vocabulary.mask, batch, choosing)
            out = apply(params, chosen, rngs=dropout)
            classes = out.logits.shape[-1]
            targets = jnp.take_along_axis(contexts(batch, classes), chosen.predict, axis=1)
            nats, weights = cross_entropy(out.logits, targets), chosen.weights
            hits = (jnp.argmax(out.logits, -1) == targets).astype(jnp.float32)
            # Each molecule's motifs count with its chosen atoms: one weight for both sums.
            logits, motifs = out.pooled_logits, batch.targets
            wrong = jnp.mean(jax.nn.softplus(logits) - logits * motifs, -1)
            slots = batch.examples.shape[1]
            segment = jnp.take_along_axis(batch.segment_ids, chosen.predict, axis=1)
            members = jax.nn.one_hot(segment - 1, slots) * weights[:, :, None]
            of_motifs = jnp.sum(wrong * members.sum(1))
            of_contexts = jnp.sum(nats * weights)
            return Loss(
                total=of_contexts + self.motif * of_motifs,
                weight=jnp.sum(weights),
                metrics={
                    "context_loss": of_contexts,
                    "context_accuracy": jnp.sum(hits * weights),
                    "motif_loss": of_motifs,
                },
                state=state,
            )

        return Objective(init=lambda params: {}, loss=loss)

    def check(self, model, data) -> None:
        """See `ObjectiveSpec`; the data must have motifs, as many as the head."""
        super().check(model, data)
        targets = data.shapes(1).targets
        if targets is None:
            raise UserError(
                f"ContextMotif needs the motifs of molecules, and {type(data).__name__} has none; "
                "set data=MoleculeMotifData(...)"
            )
        if targets.shape[-1] != model.head.motifs:
            raise UserError(
                f"model.head.motifs is {model.head.motifs}, and the data has "
                f"{targets.shape[-1]}; set --model.head.motifs {targets.shape[-1]}"
            )


def choose(spec: ContextMotif, mask: int, batch: Batch, key: jax.Array) -> Batch:
    """Choose atoms and hide a part of them.

    What is drawn for an atom depends on the key, the record and the atom's number in it, not on
    the row or on what else stands in it.

    Args:
        spec: the shares.
        mask: id of the mask token.
        batch: rows (b, t).
        key: of the step.

    Returns:
        The batch with masked `tokens`, `predict` (b, k) and `weights` (b, k).
    """
    slots = batch.examples.shape[1]
    count = min(batch.tokens.shape[1], math.ceil(spec.rate * batch.tokens.shape[1]) + slots)
    row = partial(_choose_row, spec, mask, count, key)
    tokens, predict, weights = jax.vmap(row)(
        batch.tokens, batch.segment_ids, batch.positions, batch.examples
    )
    return batch.replace(tokens=tokens, predict=predict, weights=weights, targets=None)


def _choose_row(spec, mask, count, key, tokens, segments, positions, examples):
    """One row: tokens (t,), positions (k,) of chosen atoms and weights (k,)."""
    slots = examples.shape[0] + 1  # 0 is padding
    records = jnp.concatenate([jnp.full(1, -1), examples]).astype(jnp.uint32)
    keys = jax.vmap(partial(jax.random.fold_in, key))(records)
    of_atoms = jax.vmap(jax.random.fold_in)(keys[segments], positions.astype(jnp.uint32))
    score, hidden = jax.vmap(lambda k: jax.random.bits(k, (2,)))(of_atoms).T
    sizes = jnp.zeros(slots, jnp.int32).at[segments].add(1).at[0].set(0)
    wanted = jnp.ceil(spec.rate * sizes - 1e-3).astype(jnp.int32)
    chosen = (rank_in_segment(segments, slots, score) < wanted[segments]) & (segments > 0)
    predict = jnp.argsort(~chosen, stable=True)[:count].astype(jnp.int32)
    below = hidden.astype(jnp.float32) < spec.mask * 2.0**32
    hide = chosen & (below | (spec.mask >= 1.0))
    tokens = jnp.where(hide, mask, tokens).astype(tokens.dtype)
    return tokens, predict, chosen[predict].astype(jnp.float32)


def contexts(batch: Batch, classes: int) -> jax.Array:
    """(b, t) int32 the class of each atom's contextual property.

    Atoms with the same element, neighbours and bonds have the same class; two properties share
    one by chance, with probability 1 / classes.

    Args:
        batch: rows with a graph, nothing hidden.
        classes: how many there are.
    """

    def row(tokens, edges, bonds):
        sender, receiver = edges[:, 0], edges[:, 1]
        neighbour = _mix(tokens[sender].astype(jnp.uint32) * 64 + bonds[:, 0].astype(jnp.uint32))
        heard = jnp.where(bonds[:, 0] > 0, neighbour, 0)
        # A sum modulo 2^32 tells a set with its counts, in any order.
        total = _mix(tokens.astype(jnp.uint32) + jnp.uint32(0x9E3779B9)).at[receiver].add(heard)
        return (_mix(total) % classes).astype(jnp.int32)

    return jax.vmap(row)(batch.tokens, batch.graph.edges, batch.graph.bonds)


def _mix(x: jax.Array) -> jax.Array:
    """Well-spread bits of uint32 numbers (the finaliser of MurmurHash3, public domain)."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> shift)) * jnp.uint32(factor)
    return x ^ (x >> 16)
