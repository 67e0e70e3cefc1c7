"""Views of graphs: their sizes and shapes, and that they belong to the molecule alone."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from toy_batches import FAST_COMPILE
from toy_graphs import BONDS, FEATURES, VOCABULARY, packed_graphs, toy_graphs

from biofm_jax.errors import UserError
from biofm_jax.models.graph import GraphSpec
from biofm_jax.models.heads import ProjectionHead
from biofm_jax.objectives.molclr import MolCLR, damaged
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.optimizer import OptimizerSpec
from biofm_jax.train.placement import to_devices
from biofm_jax.train.step import build_program

MASK = VOCABULARY.mask
GRAPHS = toy_graphs(30, seed=2, sizes=(1, 16))
ATOMS, EDGES, PART = MolCLR(0, 0.25, 0), MolCLR(0, 0, 0.25), MolCLR(0.25, 0, 0)
SPEC = GraphSpec(
    vocabulary=VOCABULARY.size,
    features=FEATURES,
    bonds=BONDS,
    layers=2,
    width=16,
    mask=MASK,
    dropout=0.1,
    head=ProjectionHead(8),
    init_std=0.3,
)


def views(spec, batches, seed=0) -> dict[int, tuple]:
    """record -> (which atoms are masked, which of its edges are deleted)."""
    found = {}
    draw = jax.jit(
        lambda batch, key: damaged(spec, MASK, batch, key), compiler_options=FAST_COMPILE
    )
    for batch in batches:
        view = jax.device_get(draw(batch, jax.random.key(seed)))
        exists, kept = batch.graph.bonds[..., 0] > 0, view.graph.bonds[..., 0] > 0
        assert not (kept & ~exists).any()
        padding = batch.segment_ids == 0
        np.testing.assert_array_equal(view.tokens[padding], batch.tokens[padding])
        for row, slot in np.argwhere(batch.examples >= 0):
            atoms = np.flatnonzero(batch.segment_ids[row] == slot + 1)
            own = exists[row] & np.isin(batch.graph.edges[row, :, 1], atoms)
            changed = view.tokens[row, atoms] != batch.tokens[row, atoms]
            assert (view.tokens[row, atoms][changed] == MASK).all()
            found[int(batch.examples[row, slot])] = changed, ~kept[row, own]
    assert len(found) == len(GRAPHS)
    return found


def test_a_quarter_of_the_atoms_is_masked():
    for number, (masked, deleted) in views(ATOMS, packed_graphs(GRAPHS)).items():
        size = len(GRAPHS[number])
        assert masked.sum() == min(max(1, size // 4), size - 1) and not deleted.any()


def test_a_quarter_of_the_bonds_is_deleted_in_both_directions():
    for number, (masked, deleted) in views(EDGES, packed_graphs(GRAPHS)).items():
        bonds = len(GRAPHS[number].edges) // 2
        assert not masked.any() and deleted.sum() == 2 * (bonds // 4)
        np.testing.assert_array_equal(deleted[::2], deleted[1::2])


def test_a_subgraph_is_the_nearest_atoms_of_one_and_has_no_bonds_left():
    sizes = set()
    for number, (masked, deleted) in views(PART, packed_graphs(GRAPHS)).items():
        graph = GRAPHS[number]
        assert masked.sum() == len(graph) // 4
        sizes.add(int(masked.sum()))
        np.testing.assert_array_equal(deleted, masked[graph.edges].any(1))
        assert not masked.any() or any(
            nearest(graph, origin, masked) for origin in np.flatnonzero(masked)
        )
    assert max(sizes) >= 3


def nearest(graph, origin: int, masked) -> bool:
    """Whether no atom that is not masked is nearer to the origin than one that is."""
    distance = {int(origin): 0}
    queue = [int(origin)]
    for atom in queue:
        for sender, receiver in graph.edges.tolist():
            if sender == atom and receiver not in distance:
                distance[receiver] = distance[atom] + 1
                queue.append(receiver)
    inside = [distance[atom] for atom in np.flatnonzero(masked)]
    outside = [distance[atom] for atom in np.flatnonzero(~masked)]
    return max(inside) <= min(outside, default=99)


def test_views_do_not_depend_on_packing_but_on_the_key():
    spec = MolCLR()
    one = views(spec, packed_graphs(GRAPHS))
    for rows, tokens, slots in ((3, 16, 1), (2, 64, 12)):
        other = views(spec, packed_graphs(GRAPHS, rows, tokens, slots))
        for number in one:
            for a, b in zip(one[number], other[number], strict=True):
                np.testing.assert_array_equal(a, b)
    again = views(spec, packed_graphs(GRAPHS), seed=1)
    assert any(not np.array_equal(one[n][0], again[n][0]) for n in one)


def test_an_ion_beside_a_molecule_takes_the_search_no_further():
    """Two components: removal from the ion ends with the ion."""
    graph = GRAPHS[int(np.argmax([len(graph) for graph in GRAPHS]))]
    apart = np.ones(len(graph.edges), bool)
    apart[(graph.edges == len(graph) - 1).any(1)] = False
    salt = dataclasses.replace(graph, edges=graph.edges[apart], bonds=graph.bonds[apart])
    (batch,) = packed_graphs([salt])
    draw = jax.jit(
        lambda key: damaged(PART, MASK, batch, key).tokens, compiler_options=FAST_COMPILE
    )
    taken = set()
    for seed in range(20):
        taken.add(int((np.asarray(draw(jax.random.key(seed))) == MASK).sum()))
    assert taken <= {1, 2, 3, len(graph) // 4} and len(taken) > 1


@pytest.fixture(scope="module")
def losses():
    """(steps, 2) loss and gradient norm of each step, by mesh and microbatches."""
    batch = packed_graphs(GRAPHS, rows=16, tokens=16, slots=3)[0]
    model, objective = SPEC.build(), MolCLR().build(VOCABULARY)
    params = jax.device_get(jax.jit(model.init)(jax.random.key(0), None))

    @functools.cache
    def program(sizes, accumulate):
        mesh = MeshSpec(*sizes).build(jax.devices()[: int(np.prod(sizes))])
        optimizer = OptimizerSpec(learning_rate=1e-2, schedule="constant", warmup=1)
        built = build_program(
            model, objective, lambda axes: optimizer.build(20, axes), mesh, batch, accumulate
        )
        step = built.step.lower(built.shapes, batch).compile(compiler_options=FAST_COMPILE)
        return mesh, built, step

    def get(sizes=(1, 1, 1, 1), accumulate=1, steps=2):
        mesh, built, step = program(sizes, accumulate)
        state, found = built.adopt(0, params), []
        for _ in range(steps):
            state, metrics = step(state, to_devices(mesh, batch))
            found.append([float(metrics["loss"]), float(metrics["gradient_norm"])])
        return np.array(found)

    single = get()
    assert single[0, 0] != single[1, 0]
    return get, single


@pytest.mark.parametrize(
    "options",
    [{"sizes": (8, 1, 1, 1)}, {"sizes": (2, 2, 2, 1)}, {"accumulate": 4}],
    ids=["data", "mixed", "accumulate"],
)
def test_every_mesh_and_microbatch_trains_as_one_device_does(options, losses):
    get, single = losses
    np.testing.assert_allclose(get(**options), single, rtol=1e-5)


def test_a_model_learns_to_tell_molecules(losses):
    get, single = losses
    values = get(steps=40)[:, 0]
    np.testing.assert_array_equal(values[:2], single[:, 0])
    assert np.mean(values[-5:]) < np.mean(values[:5]) - 0.3


def test_what_cannot_be_is_named():
    for spec, field in (
        (MolCLR(0, 0, 0), "all 0"),
        (MolCLR(atoms=1.0), "objective.atoms"),
        (MolCLR(bonds=-0.1), "objective.bonds"),
    ):
        with pytest.raises(UserError, match=field):
            spec.build(VOCABULARY)
    (batch,) = packed_graphs(GRAPHS[:2])
    with pytest.raises(UserError, match="MoleculeGraphData"):
        damaged(MolCLR(), MASK, batch.replace(graph=None), jax.random.key(0))
