"""A toy knowledge graph in which diseases of one group share genes, symptoms and drugs."""

import numpy as np

from biofm_jax.data.knowledge_graph import KnowledgeGraph, Relation, in_order

GROUPS, EACH = 4, 6
RELATIONS = (
    Relation("CbG", "Compound", "Gene"),
    Relation("CpD", "Compound", "Disease"),
    Relation("CtD", "Compound", "Disease"),
    Relation("DaG", "Disease", "Gene"),
    Relation("GiG", "Gene", "Gene", symmetric=True),
)


def toy_graph(seed: int = 0) -> KnowledgeGraph:
    """Compounds 0-23, diseases 24-47, genes 48-71; node i of a type is of group i // 6.

    A compound binds genes of its group and treats diseases of its group, with one exception in
    ten; palliation follows treatment.
    """
    rng = np.random.default_rng(seed)
    n = GROUPS * EACH
    types = ("Compound", "Disease", "Gene")
    start = {name: n * i for i, name in enumerate(types)}
    facts = []
    for number, relation in enumerate(RELATIONS):
        for i in range(n):
            for j in range(n):
                own = i // EACH == j // EACH
                if rng.random() < (0.5 if own else 0.02):
                    head, tail = start[relation.head] + i, start[relation.tail] + j
                    if head != tail:
                        ends = sorted((head, tail)) if relation.symmetric else (head, tail)
                        facts.append((ends[0], number, ends[1]))
    return KnowledgeGraph(
        ids=tuple(f"{name}::{i:02}" for name in types for i in range(n)),
        names=tuple(f"{name.lower()} {i}" for name in types for i in range(n)),
        types=types,
        node_type=np.repeat(np.arange(3, dtype=np.int32), n),
        relations=RELATIONS,
        triples=in_order(np.array(facts)),
    )
