import itertools
from collections import Counter

import numpy as np
import pytest
from toy_graph import toy_graph

from biofm_jax.interpret.graph_paths import Paths

GRAPH = toy_graph()
R = len(GRAPH.relations)


def slow(drug, disease):
    """Every path of two or three steps, step by step: {(nodes, relations): score}."""
    steps, degree = {}, Counter()
    for head, relation, tail in GRAPH.triples.tolist():
        back = relation if GRAPH.relations[relation].symmetric else relation + R
        for start, kind, end, turned in (
            (head, relation, tail, back),
            (tail, back, head, relation),
        ):
            steps.setdefault(start, []).append((kind, end, turned))
            degree[start, kind] += 1
    found = {}

    def walk(nodes, kinds, score):
        for kind, end, turned in steps.get(nodes[-1], ()):
            if end in nodes or {nodes[-1], end} == {drug, disease}:
                continue
            now = score * (degree[nodes[-1], kind] * degree[end, turned]) ** -0.4
            if end == disease and len(nodes) > 1:
                found[(*nodes, end), (*kinds, kind)] = now
            elif end != disease and len(nodes) < 3:
                walk((*nodes, end), (*kinds, kind), now)

    walk((drug,), (), 1.0)
    return found


def test_paths_are_those_of_the_slow_search():
    paths, some = Paths(GRAPH), 0
    for drug, disease in itertools.product((0, 7, 20), (24, 33, 47)):
        wanted = slow(drug, disease)
        got = {(p.nodes, p.relations): p.score for p in paths.between(drug, disease, 10**6)}
        assert got.keys() == wanted.keys()
        np.testing.assert_allclose([got[key] for key in wanted], list(wanted.values()))
        some += len(got)
    assert some > 100


def test_the_best_come_first_and_read_well():
    best = Paths(GRAPH).between(0, 24, 5)
    assert len(best) == 5
    assert [path.score for path in best] == sorted((p.score for p in best), reverse=True)
    text = best[0].text(GRAPH)
    assert text.startswith("compound 0 ") and text.endswith(" disease 0")
    words = {"-CbG->", "<-DaG-"} | {f"{a}{r.name}{b}" for r in GRAPH.relations
                                    for a, b in (("-", "->"), ("<-", "-"))}  # fmt: skip
    assert any(word in text for word in words)
    assert best[0].kind(GRAPH).startswith("Compound ")
    assert best == Paths(GRAPH).between(0, 24, 5)


def test_the_pair_itself_is_no_evidence():
    treated = GRAPH.triples[GRAPH.triples[:, 1] == GRAPH.relation("CtD")][0]
    drug, _, disease = treated.tolist()
    for path in Paths(GRAPH).between(drug, disease, 10**6):
        assert len(path.nodes) >= 3 and len(set(path.nodes)) == len(path.nodes)


def test_unconnected_nodes_have_no_path():
    empty = GRAPH.without(np.ones(len(GRAPH.triples), bool))
    assert Paths(empty).between(0, 24) == []


@pytest.mark.parametrize("most", [0, 1])
def test_as_many_as_asked(most):
    assert len(Paths(GRAPH).between(0, 24, most)) == most
