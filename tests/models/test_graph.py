"""A graph network: against loops over atoms, and independent of how graphs are packed."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_batches import FAST_COMPILE
from toy_graphs import BONDS, FEATURES, VOCABULARY, packed_graphs, toy_graph, toy_graphs

from biofm_jax.data.graphs import GraphExample
from biofm_jax.errors import UserError
from biofm_jax.models.graph import GraphSpec
from biofm_jax.models.heads import LanguageHead, PredictionHead

SPEC = GraphSpec(
    vocabulary=VOCABULARY.size,
    features=FEATURES,
    bonds=BONDS,
    layers=3,
    width=8,
    mask=VOCABULARY.mask,
    head=PredictionHead(2),
    init_std=0.5,
)
RELU = dataclasses.replace(SPEC, message="relu")


@functools.cache
def parameters(spec=SPEC):
    params = jax.jit(spec.build().init, compiler_options=FAST_COMPILE)(jax.random.key(0), None)
    # Every bias counts too.
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.device_get(tree.unflatten(moved))


@functools.cache
def compiled(spec):
    run = functools.partial(spec.build().apply, collect=("layers",))
    return jax.jit(run, compiler_options=FAST_COMPILE)


def by_example(spec, batches) -> dict[int, tuple]:
    """record -> (hidden states of its atoms, pooled vector, logits)."""
    found = {}
    for batch in batches:
        out = jax.device_get(compiled(spec)(parameters(spec), batch))
        for row, slot in np.argwhere(batch.examples >= 0):
            atoms = batch.segment_ids[row] == slot + 1
            parts = out.hidden[row, atoms], out.pooled[row, slot], out.logits[row, slot]
            found[int(batch.examples[row, slot])] = parts
    return found


def loops(spec, params, graph) -> np.ndarray:
    """(t, d) the same in float64, atom by atom and edge by edge."""
    params = jax.tree.map(np.float64, params)
    embed, starts = params["embed"], np.cumsum([0, *FEATURES])
    x = embed["tokens"][graph.ids]
    for column, start in enumerate(starts[:-1]):
        x = x + embed["features"][start + graph.features[:, column]]
    for layer in range(spec.layers):
        block = jax.tree.map(lambda leaf, layer=layer: leaf[layer], params["blocks"])
        if layer:
            x = np.maximum(x, 0)
        y = x + (block["self"] if spec.message == "sum" else 0)
        for (sender, receiver), kinds in zip(graph.edges, graph.bonds):
            bond = block["bonds"][kinds[0] - 1] + block["bonds"][BONDS[0] + kinds[1] - 1]
            message = x[sender] + bond
            y[receiver] += message if spec.message == "sum" else np.maximum(message, 0)
        up, down = block["feedforward"]["up"], block["feedforward"]["down"]
        y = np.maximum(y @ up["kernel"] + up["bias"], 0) @ down["kernel"] + down["bias"]
        y = y - y.mean(1, keepdims=True)
        y = y / np.sqrt((y**2).mean(1, keepdims=True) + spec.norm_epsilon)
        x = y * block["norm"]["scale"] + block["norm"]["bias"]
    return x


@pytest.mark.parametrize("spec", [SPEC, RELU], ids=["sum", "relu"])
def test_packed_graphs_are_loops_over_atoms(spec):
    graphs = toy_graphs(20)
    found = by_example(spec, packed_graphs(graphs))
    assert len(found) == 20
    head = parameters(spec)["head"]["out"]
    for number, graph in enumerate(graphs):
        hidden, pooled, logits = found[number]
        expected = loops(spec, parameters(spec), graph)
        np.testing.assert_allclose(hidden, expected, atol=2e-5)
        np.testing.assert_allclose(pooled, expected.mean(0), atol=2e-5)
        wanted = expected.mean(0) @ head["kernel"] + head["bias"]
        np.testing.assert_allclose(logits, wanted, atol=5e-5)


@pytest.mark.parametrize("spec", [SPEC, RELU], ids=["sum", "relu"])
def test_packed_is_alone_and_in_any_batch(spec):
    graphs = toy_graphs(12)
    together = by_example(spec, packed_graphs(graphs))
    for rows, tokens, slots in ((4, 16, 1), (2, 32, 5)):
        apart = by_example(spec, packed_graphs(graphs, rows, tokens, slots))
        for number in range(len(graphs)):
            for one, other in zip(together[number], apart[number], strict=True):
                np.testing.assert_allclose(one, other, atol=1e-6, rtol=1e-6)


def test_the_order_of_atoms_and_edges_does_not_matter():
    rng = np.random.default_rng(3)
    graph = toy_graph(9, rng)
    order = rng.permutation(9)
    place = np.argsort(order)
    bonds = rng.permutation(len(graph.edges) // 2)
    edges = np.stack([2 * bonds, 2 * bonds + 1], 1).ravel()
    moved = GraphExample(
        graph.ids[order],
        graph.features[order],
        place[graph.edges[edges]].astype(np.uint16),
        graph.bonds[edges],
    )
    found = by_example(SPEC, packed_graphs([graph, moved]))
    np.testing.assert_allclose(found[1][0], found[0][0][order], atol=1e-5)
    np.testing.assert_allclose(found[1][1], found[0][1], atol=1e-5)


def test_scan_loop_and_remat_give_the_same_numbers():
    (batch,) = packed_graphs(toy_graphs(6))

    def gradients(spec):
        def loss(params):
            return jnp.sum(spec.build().apply(params, batch).logits ** 2)

        return jax.jit(jax.value_and_grad(loss), compiler_options=FAST_COMPILE)(parameters())

    first = gradients(SPEC)
    for change in ({"scan": False}, {"remat": "full"}):
        other = gradients(dataclasses.replace(SPEC, **change))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-5), first, other)


def test_a_deleted_bond_is_no_bond():
    graph = toy_graph(8, np.random.default_rng(1))
    without = GraphExample(graph.ids, graph.features, graph.edges[2:], graph.bonds[2:])
    (batch,) = packed_graphs([graph])
    bonds = np.array(batch.graph.bonds)
    bonds[0, :2, 0] = 0
    cut = batch.replace(graph=dataclasses.replace(batch.graph, bonds=bonds))
    for spec in (SPEC, RELU):
        one, other = by_example(spec, [cut])[0], by_example(spec, packed_graphs([without]))[0]
        np.testing.assert_allclose(one[0], other[0], atol=1e-6)
        assert not np.allclose(one[0], by_example(spec, [batch])[0][0], atol=1e-3)


def test_the_features_of_a_masked_atom_are_hidden():
    (batch,) = packed_graphs([toy_graph(8, np.random.default_rng(1))])
    tokens = np.array(batch.tokens)
    tokens[0, 2] = VOCABULARY.mask
    features = np.array(batch.graph.features)
    features[0, 2] = (features[0, 2] + 1) % 3
    changed = dataclasses.replace(batch.graph, features=features)
    masked, other = batch.replace(tokens=tokens), batch.replace(tokens=tokens, graph=changed)
    same = [by_example(SPEC, [b])[0][0] for b in (masked, other)]
    np.testing.assert_array_equal(*same)
    seen = [by_example(SPEC, [b])[0][0] for b in (batch, batch.replace(graph=changed))]
    assert not np.allclose(*seen, atol=1e-3)


def test_layers_are_collected_and_a_language_head_reads_atoms():
    spec = dataclasses.replace(SPEC, head=LanguageHead())
    (batch,) = packed_graphs(toy_graphs(6))
    out = compiled(spec)(parameters(spec), batch.replace(predict=np.zeros((4, 3), np.int32)))
    assert out.logits.shape == (4, 3, VOCABULARY.size)
    assert out.layers.shape == (4, 4, 16, 8)
    np.testing.assert_array_equal(out.layers[-1], out.hidden)


def test_what_does_not_fit_is_named():
    (batch,) = packed_graphs(toy_graphs(2))
    apply = SPEC.build().apply
    with pytest.raises(UserError, match="this one has none"):
        apply(parameters(), batch.replace(graph=None))
    with pytest.raises(UserError, match="bonds names 3 features, and the batch has 2"):
        dataclasses.replace(SPEC, bonds=(4, 3, 2)).build().apply(parameters(), batch)
    with pytest.raises(UserError, match="collect"):
        apply(parameters(), batch, collect=("attentions",))
    with pytest.raises(UserError, match="PRNG key"):
        dataclasses.replace(SPEC, dropout=0.1).build().apply(parameters(), batch, train=True)
    for change in ({"mask": 99}, {"layers": 0}, {"bonds": ()}, {"dropout": 1.0}):
        with pytest.raises(UserError, match=f"GraphSpec.{next(iter(change))}"):
            dataclasses.replace(SPEC, **change).build()


def test_an_experiment_needs_graphs_in_whole_rows():
    from biofm_jax.data.molecule import MoleculeData
    from biofm_jax.data.molecule_graph import MoleculeGraphData

    data = MoleculeGraphData()
    spec = dataclasses.replace(SPEC, vocabulary=data.vocabulary.size)
    spec.check(data, (1, 1, 1, 1))
    with pytest.raises(UserError, match="MoleculeGraphData"):
        other = MoleculeData()
        dataclasses.replace(SPEC, vocabulary=other.vocabulary.size).check(other, (1, 1, 1, 1))
    with pytest.raises(UserError, match=r"--mesh\.context 1"):
        spec.check(data, (1, 1, 1, 2))
