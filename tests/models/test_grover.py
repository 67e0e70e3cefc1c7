"""GROVER's network: against loops over atoms, and independent of how graphs are packed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_graph import by_example, compiled, parameters
from toy_batches import FAST_COMPILE
from toy_graphs import BONDS, FEATURES, VOCABULARY, packed_graphs, toy_graphs

from biofm_jax.errors import UserError
from biofm_jax.models.grover import ContextMotifHead, GroverSpec
from biofm_jax.models.grover_stack import rounds_of
from biofm_jax.models.heads import PredictionHead

SPEC = GroverSpec(
    vocabulary=VOCABULARY.size,
    features=FEATURES,
    bonds=BONDS,
    layers=2,
    width=8,
    heads=2,
    hops=3,
    mask=VOCABULARY.mask,
    head=PredictionHead(2),
    init_std=0.5,
)
GRAPHS = toy_graphs(12)


def normalised(x, norm):
    x = x - x.mean(1, keepdims=True)
    x = x / np.sqrt((x**2).mean(1, keepdims=True) + SPEC.norm_epsilon)
    return x * norm["scale"] + norm["bias"]


def loops(params, graph) -> np.ndarray:
    """(t, d) the same in float64, atom by atom, edge by edge and head by head."""
    params = jax.tree.map(np.float64, params)
    starts, size = np.cumsum([0, *FEATURES]), SPEC.head_size
    first = params["embed"]["tokens"][graph.ids]
    for column, start in enumerate(starts[:-1]):
        first = first + params["embed"]["features"][start + graph.features[:, column]]
    x = first

    def heard(z, bonds=None):
        total = np.zeros_like(z)
        for (sender, receiver), kinds in zip(graph.edges, graph.bonds):
            total[receiver] += z[sender]
            if bonds is not None:
                total[receiver] += bonds[kinds[0] - 1] + bonds[BONDS[0] + kinds[1] - 1]
        return total

    for layer in range(SPEC.layers):
        block = jax.tree.map(lambda leaf, layer=layer: leaf[layer], params["blocks"])
        said, project = block["messages"], block["messages"]["project"]
        read = np.zeros((len(x), SPEC.heads, size))
        for head in range(SPEC.heads):
            qkv = []
            for i in range(3):
                z = start = x @ project["kernel"][:, i, head] + project["bias"][i, head]
                for _ in range(SPEC.hops):
                    m = heard(z, said["bonds"][:, i, head])
                    z = np.maximum(start + m @ said["mix"][i, head], 0)
                qkv.append(z)
            scores = np.exp(qkv[0] @ qkv[1].T / np.sqrt(size))
            read[:, head] = scores / scores.sum(1, keepdims=True) @ qkv[2]
        y = np.einsum("thw,hwd->td", read, block["out"]["kernel"]) + block["out"]["bias"]
        y = np.concatenate([first, heard(normalised(y, block["attention_norm"]))], 1)
        up, down = block["feedforward"]["up"], block["feedforward"]["down"]
        y = np.maximum(y @ up["kernel"] + up["bias"], 0) @ down["kernel"] + down["bias"]
        x = normalised(y, block["norm"])
    return x


def test_packed_graphs_are_loops_over_atoms_and_are_alone():
    together = by_example(SPEC, packed_graphs(GRAPHS))
    apart = by_example(SPEC, packed_graphs(GRAPHS, 4, 16, 1))
    assert len(together) == len(GRAPHS)
    for number, graph in enumerate(GRAPHS):
        np.testing.assert_allclose(together[number][0], loops(parameters(SPEC), graph), atol=5e-5)
        for one, other in zip(together[number], apart[number], strict=True):
            np.testing.assert_allclose(one, other, atol=2e-6, rtol=1e-5)


def test_scan_loop_and_remat_give_the_same_numbers():
    (batch,) = packed_graphs(GRAPHS[:6])
    params = parameters(SPEC)

    def gradients(spec):
        def loss(params):
            out = spec.build().apply(params, batch, rngs=jax.random.key(2), train=True)
            return jnp.sum(out.logits**2)

        return jax.jit(jax.value_and_grad(loss), compiler_options=FAST_COMPILE)(params)

    first = gradients(SPEC)
    for change in ({"scan": False}, {"remat": "full"}):
        other = gradients(dataclasses.replace(SPEC, **change))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 2e-4, 1e-5), first, other)


def test_rounds_are_drawn_by_row_in_training_alone():
    spec = dataclasses.replace(SPEC, hops=6)
    keys = jax.random.split(jax.random.key(0), 4000)
    rounds, most = rounds_of(spec, 4000, keys)
    assert most == 9 and rounds.min() >= 3 and rounds.max() <= 8
    assert abs(float(rounds.mean()) - 5.5) < 0.05  # rounded down, as published
    np.testing.assert_array_equal(rounds_of(spec, 4, None)[0], 6)
    assert rounds_of(dataclasses.replace(spec, spread=0.0), 4, keys[:4])[1] == 6


def test_its_head_reads_chosen_atoms_and_whole_molecules():
    spec = dataclasses.replace(SPEC, head=ContextMotifHead(contexts=11, motifs=5))
    (batch,) = packed_graphs(GRAPHS[:6])
    predict = np.array([[2, 0, 1]] * 4, np.int32)
    out = compiled(spec)(parameters(spec), batch.replace(predict=predict))
    whole = compiled(spec)(parameters(spec), batch)
    assert out.logits.shape == (4, 3, 11) and out.pooled_logits.shape == (4, 4, 5)
    np.testing.assert_allclose(out.logits, whole.logits[:, [2, 0, 1]], atol=1e-6)


def test_what_does_not_fit_is_named():
    for change in ({"heads": 3}, {"hops": 0}, {"spread": -1.0}, {"bonds": ()}):
        with pytest.raises(UserError, match=f"GroverSpec.{next(iter(change))}"):
            dataclasses.replace(SPEC, **change).build()
