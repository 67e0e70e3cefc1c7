import jax
import numpy as np
import pytest
from toy_graph import toy_graph

from biofm_jax.data.links import LinkData, held_out
from biofm_jax.data.neighbours import Neighbours
from biofm_jax.errors import UserError

GRAPH = toy_graph()
R = len(GRAPH.relations)


def expected(graph):
    """node -> set of (neighbour, relation), the slow way."""
    around = {node: set() for node in range(len(graph.ids))}
    for head, relation, tail in graph.triples.tolist():
        back = relation if graph.relations[relation].symmetric else relation + R
        around[head].add((tail, relation))
        around[tail].add((head, back))
    return around


def found(neighbours, nodes, fanout, seed=0):
    other, relation = neighbours.sample(np.array(nodes), fanout, np.random.default_rng(seed))
    assert other.shape == relation.shape == (*np.shape(nodes), fanout)
    assert (other[relation < 0] == 0).all() and other.dtype == relation.dtype == np.int32
    return [
        [pair for pair in zip(o, r) if pair[1] >= 0]
        for o, r in zip(other.tolist(), relation.tolist())
    ]


def test_large_fanouts_hold_the_whole_neighbourhood_once():
    around = expected(GRAPH)
    for node, pairs in enumerate(found(Neighbours(GRAPH), range(len(GRAPH.ids)), 200)):
        assert len(pairs) == len(set(pairs)) and set(pairs) == around[node]


def test_relations_take_turns_and_nothing_repeats():
    around = expected(GRAPH)
    neighbours = Neighbours(GRAPH)
    for node, pairs in enumerate(found(neighbours, range(len(GRAPH.ids)), 6)):
        kinds = {relation for _, relation in around[node]}
        assert set(pairs) <= around[node] and len(pairs) == len(set(pairs))
        counts = [sum(r == kind for _, r in pairs) for kind in kinds]
        assert max(counts) <= -(-6 // len(kinds))
    assert found(neighbours, [3, 30], 6) == found(neighbours, [3, 30], 6)
    seen = {tuple(found(neighbours, [3], 2, seed)[0]) for seed in range(20)}
    assert len(seen) > 3


def test_no_node_has_no_neighbours():
    other, relation = Neighbours(GRAPH).sample(np.array([[-1, 0]]), 4, np.random.default_rng(0))
    assert (relation[0, 0] == -1).all() and (other[0, 0] == 0).all() and relation[0, 1].max() >= 0


def batches(size=32, **options):
    data = LinkData(near=200, far=3, negatives=2, **options)
    return data.batches(GRAPH, batch_size=size, seed=1)


def test_the_fact_to_predict_is_not_in_sight():
    """Under any relation: a drug that treats and palliates a disease shows neither."""
    shared = 0
    for _, batch in zip(range(8), batches()):
        around = batch.around
        for i in range(32):
            head, tail = around.nodes[i, :2]
            there = around.near_relation[i] >= 0
            assert tail not in around.near[i, 0][there[0]]
            assert head not in around.near[i, 1][there[1]]
            shared += there[0].sum()
    assert shared > 1000


def test_corruptions_are_of_the_relation_and_weighed_by_truth():
    facts = set(map(tuple, GRAPH.triples.tolist()))
    facts |= {(t, r, h) for h, r, t in facts if GRAPH.relations[r].symmetric}
    refused = 0
    for _, batch in zip(range(8), batches()):
        assert batch.weights[:, 0].tolist() == [1.0] * 32
        for nodes, relation, weights in zip(batch.around.nodes, batch.relation, batch.weights):
            head, tail, *others = nodes.tolist()
            assert (head, int(relation), tail) in facts
            pairs = [(head, o) for o in others[:2]] + [(o, tail) for o in others[2:]]
            for (h, t), weight in zip(pairs, weights[1:]):
                kind = GRAPH.relations[relation]
                assert GRAPH.types[GRAPH.node_type[h]] == kind.head
                assert GRAPH.types[GRAPH.node_type[t]] == kind.tail
                known = (h, int(relation), t) in facts
                assert weight == (0 if known else 0.25)
                refused += known
    assert refused


@pytest.mark.parametrize("every", [False, True])
def test_corruptions_are_drawn_among_linked_nodes_or_all_of_the_type(every):
    number = GRAPH.relation("CtD")
    one = GRAPH.without((GRAPH.triples[:, 1] == number) & (GRAPH.triples[:, 0] > 2))
    data = LinkData(relations=("CtD",), every_node=every)
    stream = data.batches(one, batch_size=64, seed=1)
    drawn = {head for _, batch in zip(range(4), stream) for head in batch.around.nodes[:, 3]}
    assert drawn <= set(range(24)) and (len(drawn) > 20) == every and (drawn <= {0, 1, 2}) != every


def test_an_epoch_has_every_fact_once_and_goes_on_exactly():
    spec = LinkData(relations=("CtD",))
    total = GRAPH.counts()["CtD (Compound -> Disease)"]
    stream = spec.batches(GRAPH, batch_size=total, seed=3)
    first, second = next(stream), next(stream)
    assert len(set(first.examples.ravel().tolist())) == total
    assert first.examples.tolist() != second.examples.tolist()
    assert sorted(first.examples.tolist()) == sorted(second.examples.tolist())
    again = spec.batches(GRAPH, batch_size=total, seed=3)
    again.restore({"next": 1, "seed": 3, "facts": total})
    np.testing.assert_array_equal(next(again).around.far, second.around.far)
    assert again.names(second)[0].split()[1] == "CtD"
    with pytest.raises(UserError, match="had seed = 4, now it is 3"):
        again.restore({"next": 1, "seed": 4, "facts": total})


def test_what_cannot_be_drawn_is_refused():
    empty = GRAPH.without(GRAPH.between("Compound", "Disease"))
    with pytest.raises(UserError, match="no fact of CtD"):
        LinkData(relations=("CtD",)).batches(empty, batch_size=4, seed=0)
    with pytest.raises(UserError, match="1 or more"):
        LinkData(near=0)
    with pytest.raises(UserError, match="two node types"):
        LinkData(answers=("Compound",))
    with pytest.raises(UserError, match="batch size"):
        LinkData().batches(GRAPH, batch_size=0, seed=0)


def test_shapes_are_those_of_a_batch():
    data = LinkData(near=3, far=5, negatives=2)
    batch = next(data.batches(GRAPH, batch_size=7, seed=0))
    made = jax.tree.map(lambda x: (x.shape, str(x.dtype)), batch)
    told = jax.tree.map(lambda x: (x.shape, str(x.dtype)), data.shapes(7))
    assert jax.tree.leaves(made) == jax.tree.leaves(told)


def test_hosts_have_disjoint_rows_of_the_same_batch():
    data = LinkData(near=3, far=2)
    whole = next(data.batches(GRAPH, batch_size=6, seed=2))
    for rows in (np.array([0, 2, 4]), np.array([1, 3, 5])):
        part = next(data.batches(GRAPH, batch_size=6, seed=2, share=rows))
        for own, of_all in zip(jax.tree.leaves(part), jax.tree.leaves(whole), strict=True):
            np.testing.assert_array_equal(own, of_all[rows])


def test_facts_that_are_held_out_are_seen_once_and_pass_no_message():
    data = LinkData(near=200, far=1, holdout=0.2)
    held = held_out(GRAPH, 0.2)
    assert 0.1 < held.mean() < 0.3
    kept = {(int(h), int(t)) for h, _, t in GRAPH.triples[~held]}
    kept |= {(t, h) for h, t in kept}
    size = int(held.sum()) - 3
    first, second = data.batches(GRAPH, batch_size=size, seed=0, holdout=True)
    numbers = np.concatenate([first.examples, second.examples]).ravel()
    assert numbers[numbers >= 0].tolist() == np.flatnonzero(held).tolist()
    assert (second.weights[3:] == 0).all() and len(data.batches(
        GRAPH, batch_size=size, seed=0, holdout=True).names(second)) == 3  # fmt: skip
    for batch in (first, next(data.batches(GRAPH, batch_size=64, seed=0))):
        around = batch.around
        for node, near, relation in zip(around.nodes, around.near, around.near_relation):
            for one, others, kinds in zip(node, near, relation):
                assert all((int(one), int(other)) in kept for other in others[kinds >= 0])
    train = np.concatenate([
        batch.examples for batch in data.batches(GRAPH, batch_size=64, seed=0, epochs=1)
    ]).ravel()  # fmt: skip
    assert sorted(train[train >= 0].tolist()) == np.flatnonzero(~held).tolist()
