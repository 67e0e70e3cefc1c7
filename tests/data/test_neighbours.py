import numpy as np
import pytest
from toy_graph import toy_graph

from biofm_jax.data.links import LinkSpec
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
    return LinkSpec(near=200, far=3, negatives=2, **options).batches(GRAPH, size, seed=1)


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
    stream = LinkSpec(relations=("CtD",), every_node=every).batches(one, 64, seed=1)
    drawn = {head for _, batch in zip(range(4), stream) for head in batch.around.nodes[:, 3]}
    assert drawn <= set(range(24)) and (len(drawn) > 20) == every and (drawn <= {0, 1, 2}) != every


def test_an_epoch_has_every_fact_once_and_goes_on_exactly():
    spec = LinkSpec(relations=("CtD",))
    total = GRAPH.counts()["CtD (Compound -> Disease)"]
    stream = spec.batches(GRAPH, total, seed=3)
    first, second = next(stream), next(stream)
    assert len(set(first.examples.ravel().tolist())) == total
    assert first.examples.tolist() != second.examples.tolist()
    assert sorted(first.examples.tolist()) == sorted(second.examples.tolist())
    again = spec.batches(GRAPH, total, seed=3)
    again.restore({"next": 1, "seed": 3, "facts": total})
    np.testing.assert_array_equal(next(again).around.far, second.around.far)
    assert again.names(second)[0].split()[1] == "CtD"
    with pytest.raises(UserError, match="had seed = 4, now it is 3"):
        again.restore({"next": 1, "seed": 4, "facts": total})


def test_what_cannot_be_drawn_is_refused():
    empty = GRAPH.without(GRAPH.between("Compound", "Disease"))
    with pytest.raises(UserError, match="no fact of CtD"):
        LinkSpec(relations=("CtD",)).batches(empty, 4)
    with pytest.raises(UserError, match="1 or more"):
        LinkSpec(near=0).batches(GRAPH, 4)
