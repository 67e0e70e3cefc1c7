"""Contrastive learning of molecules by two damaged views of each graph (MolCLR, Wang et al. 2022,
doi 10.1038/s42256-022-00447-x), drawn on the device anew each time a molecule is seen."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from biofm_jax.data.batch import Batch
from biofm_jax.data.tokenizers import Vocabulary
from biofm_jax.errors import UserError
from biofm_jax.objectives.api import Loss, Objective, ObjectiveSpec
from biofm_jax.objectives.contrastive import Contrastive


@dataclasses.dataclass(frozen=True)
class MolCLR(ObjectiveSpec):
    """Tell which two damaged graphs are the same molecule.

    The published comparison (NT-Xent) has the other molecules' same view among the negatives
    too; here they are the other views, as in `Contrastive`.

    Attributes:
        subgraph: share of a molecule's atoms, rounded down, that a search in breadth from a
            random atom removes: they are masked, and their bonds deleted.
        atoms: share of its atoms that are masked, rounded down but at least one and never all;
            those of the subgraph may be among them.
        bonds: share of its bonds that are deleted, rounded down.
        temperature: divides the cosine similarities.
    """

    subgraph: float = 0.25
    atoms: float = 0.25
    bonds: float = 0.25
    temperature: float = 0.1

    head = "ProjectionHead"
    passes = 2

    def build(self, vocabulary: Vocabulary) -> Objective:
        """The objective for a vocabulary of atoms.

        Raises:
            UserError: a share outside [0, 1), views that would be equal, no mask token.
        """
        for name in ("subgraph", "atoms", "bonds"):
            share = getattr(self, name)
            if not 0 <= share < 1:
                raise UserError(f"objective.{name} is {share}; it must lie in [0, 1)")
        if self.subgraph == self.atoms == self.bonds == 0:
            raise UserError(
                "objective.subgraph, objective.atoms and objective.bonds are all 0, so that both "
                "views of a molecule are equal; raise one"
            )
        if vocabulary.mask < 0:
            raise UserError("this tokenizer has no mask token; MolCLR reads MoleculeGraphData")
        pairs = Contrastive("softmax", self.temperature).build(vocabulary)

        def embed(apply, params, batch: Batch, rng):
            drawing, dropout = jax.random.split(rng)
            first, second = (
                damaged(self, vocabulary.mask, batch, jax.random.fold_in(drawing, view))
                for view in range(2)
            )
            return pairs.embed(apply, params, first.replace(pair=second), dropout)

        def loss(apply, params, state, batch: Batch, rng) -> Loss:
            return pairs.compare(embed(apply, params, batch, rng), batch, state)

        return Objective(init=pairs.init, loss=loss, embed=embed, compare=pairs.compare)


def damaged(spec: MolCLR, mask: int, batch: Batch, key: jax.Array) -> Batch:
    """One view of every molecule of a batch.

    What is drawn for an atom or a bond depends on the key, on the record and on the numbers of
    the atoms in their molecule, not on the row or on what else stands in it.

    Args:
        spec: the shares.
        mask: id of the mask token.
        batch: rows (b, t) with a graph.
        key: of this view.

    Returns:
        The batch with masked `tokens`, and `graph.bonds` 0 at the deleted bonds.

    Raises:
        UserError: the batch has no graph.
    """
    if batch.graph is None:
        raise UserError("MolCLR draws views of graphs; set data=MoleculeGraphData(...)")
    row = jax.vmap(partial(_damaged_row, spec, mask, key))
    tokens, bonds = row(
        batch.tokens,
        batch.segment_ids,
        batch.positions,
        batch.examples,
        batch.graph.edges,
        batch.graph.bonds,
    )
    return batch.replace(tokens=tokens, graph=dataclasses.replace(batch.graph, bonds=bonds))


def _damaged_row(spec, mask, key, tokens, segments, positions, examples, edges, bonds):
    """One row: tokens (t,) and bonds (e, f) of the view."""
    slots = examples.shape[0] + 1  # 0 is padding
    records = jnp.concatenate([jnp.full(1, -1), examples])
    keys = jax.vmap(partial(jax.random.fold_in, key))(records.astype(jnp.uint32))
    of_atoms = jax.vmap(jax.random.fold_in)(keys[segments], positions.astype(jnp.uint32))
    origin, order, score = jax.vmap(lambda k: jax.random.bits(k, (3,)))(of_atoms).T
    sizes = jnp.zeros(slots, jnp.int32).at[segments].add(1).at[0].set(0)
    exists = bonds[:, 0] > 0

    removed = jnp.zeros(tokens.shape, bool)
    if spec.subgraph > 0:
        wanted = _share(spec.subgraph, sizes)
        start = (rank_in_segment(segments, slots, origin) == 0) & (segments > 0)
        distance = _distances(start, segments, wanted, edges, exists)
        nearest = rank_in_segment(segments, slots, distance, order)
        removed = (nearest < wanted[segments]) & (distance < tokens.shape[0])
    masked = removed
    if spec.atoms > 0:
        wanted = jnp.minimum(jnp.maximum(_share(spec.atoms, sizes), 1), sizes - 1)
        masked = masked | (rank_in_segment(segments, slots, score) < wanted[segments])
    deleted = removed[edges].any(1)
    if spec.bonds > 0:
        deleted = deleted | _deleted(spec.bonds, slots, keys, segments, positions, edges, exists)
    tokens = jnp.where(masked & (segments > 0), mask, tokens).astype(tokens.dtype)
    return tokens, jnp.where(deleted[:, None], 0, bonds)


def _deleted(rate, slots, keys, segments, positions, edges, exists):
    """(e,) which edges belong to deleted bonds; both edges of a bond have one score."""
    segment = jnp.where(exists, segments[edges[:, 1]], 0)
    ends = positions[edges].astype(jnp.uint32)
    number = (ends.min(1) << 16) | ends.max(1)  # (0, k) is atom k's too: folded twice
    bond_keys = jax.vmap(jax.random.fold_in)(keys[segment], number)
    score = jax.vmap(jax.random.bits)(jax.vmap(partial(jax.random.fold_in, data=1))(bond_keys))
    half = rank_in_segment(segment, slots, score) // 2
    bonds = jnp.zeros(slots, jnp.int32).at[segment].add(1) // 2
    return exists & (half < _share(rate, bonds)[segment])


def _distances(start, segments, wanted, edges, exists):
    """(t,) bonds to the start of the molecule, as far as it takes to reach `wanted` atoms.

    What is farther, or in another component, is at distance t.
    """
    far = start.shape[0]
    sender, receiver = edges[:, 0], edges[:, 1]

    def short(distance):
        reached = jnp.zeros(wanted.shape, jnp.int32).at[segments].add(distance < far)
        return jnp.any(reached < wanted)

    def spread(carry):
        distance, _ = carry
        through = jnp.where(exists, distance[sender] + 1, far)
        nearer = jnp.minimum(distance, distance.at[receiver].min(through))
        return nearer, jnp.any(nearer != distance) & short(nearer)

    first = jnp.where(start, 0, far)
    distance, _ = jax.lax.while_loop(lambda carry: carry[1], spread, (first, short(first)))
    return distance


def rank_in_segment(segments: jax.Array, slots: int, *scores: jax.Array) -> jax.Array:
    """(n,) int32 the place of each element in its segment, by the scores, the first one first.

    Args:
        segments: (n,) int32, below `slots`.
        slots: number of segments.
        scores: (n,) each, the lowest comes first.
    """
    order = jnp.lexsort((*scores[::-1], segments))
    sizes = jnp.zeros(slots, jnp.int32).at[segments].add(1)
    first = jnp.cumsum(sizes) - sizes
    place = jnp.arange(len(segments), dtype=jnp.int32) - first[segments[order]]
    return jnp.zeros(len(segments), jnp.int32).at[order].set(place)


def _share(rate, sizes):
    """The part of each size, rounded down; a product such as 0.7 x 10 may lie just below."""
    return jnp.floor(rate * sizes + 1e-3).astype(jnp.int32)
