"""Why a drug might treat a disease: the paths of a knowledge graph between them.

A path counts for more where few paths compete with it: its score is the product of degree^-w over
the ends of its steps, the path degree product of degree-weighted path counts (Himmelstein &
Baranzini 2015, PLoS Comput Biol 11:e1004259, w = 0.4), the degree being that of the node by the
step's relation. The sum of the paths of one kind is the weighted count of that metapath.
"""

import dataclasses

import numpy as np

from biofm_jax.data.knowledge_graph import KnowledgeGraph

DAMPING = 0.4


@dataclasses.dataclass(frozen=True)
class Path:
    """A path of two or three steps.

    Attributes:
        nodes: node numbers from the drug to the disease.
        relations: relation numbers of the steps; r + R is relation r backwards.
        score: path degree product.
    """

    nodes: tuple[int, ...]
    relations: tuple[int, ...]
    score: float

    def text(self, graph: KnowledgeGraph) -> str:
        """Names of nodes and relations: `Aspirin -CbG- PTGS2 -DaG(back)- gout`."""
        words = [graph.names[self.nodes[0]]]
        for relation, node in zip(self.relations, self.nodes[1:]):
            back = relation >= len(graph.relations)
            name = graph.relations[relation % len(graph.relations)].name
            words += [f"<-{name}-" if back else f"-{name}->", graph.names[node]]
        return " ".join(words)

    def kind(self, graph: KnowledgeGraph) -> str:
        """The metapath: the types and relations without the names of nodes."""
        types = dataclasses.replace(
            graph, names=tuple(graph.types[kind] for kind in graph.node_type.tolist())
        )
        return self.text(types)


class Paths:
    """The steps of a graph in both directions, with their weights.

    Args:
        graph: known treatments in it may be steps, but for the pair that is asked about.
    """

    def __init__(self, graph: KnowledgeGraph):
        head, relation, tail = graph.triples.T.astype(np.int64)
        both = np.array([r.symmetric for r in graph.relations], bool)
        back = np.where(both[relation], relation, relation + len(graph.relations))
        self._kinds = 2 * len(graph.relations)
        start, kind, end = (
            np.concatenate(pair) for pair in ((head, tail), (relation, back), (tail, head))
        )
        order = np.lexsort((end, kind, start))
        self._start, self._kind, self._end = start[order], kind[order], end[order]
        self._offsets = np.searchsorted(self._start, np.arange(len(graph.ids) + 1))
        key = self._start * self._kinds + self._kind
        _, place, size = np.unique(key, return_inverse=True, return_counts=True)
        degree = size[place]
        self._turned = np.where(
            both[self._kind % len(both)],
            self._kind,
            (self._kind + len(graph.relations)) % self._kinds,
        )
        degrees = dict(zip(key.tolist(), degree.tolist()))
        other = [degrees[k] for k in (self._end * self._kinds + self._turned).tolist()]
        self._weight = (degree * np.array(other, np.float64)) ** -DAMPING

    def between(self, drug: int, disease: int, most: int = 5) -> list[Path]:
        """The best paths of two and three steps that visit no node twice.

        Args:
            drug: node number of the first node.
            disease: of the last.
            most: paths to return, best first; of equals that with lower node numbers.
        """
        first, last = self._steps(drug, disease), self._steps(disease, drug)
        arrive: dict[int, list[int]] = {}
        for step in last.tolist():
            arrive.setdefault(int(self._end[step]), []).append(step)
        found = []
        for step in first.tolist():
            middle = int(self._end[step])
            for final in arrive.get(middle, ()):
                found.append(self._path(drug, disease, (step,), final))
            inner = np.arange(self._offsets[middle], self._offsets[middle + 1])
            ends = self._end[inner]
            for second in inner[np.isin(ends, list(arrive)) & (ends != drug)].tolist():
                for final in arrive[int(self._end[second])]:
                    found.append(self._path(drug, disease, (step, second), final))
        found.sort(key=lambda path: (-path.score, path.nodes, path.relations))
        return found[:most]

    def _steps(self, node: int, without: int) -> np.ndarray:
        steps = np.arange(self._offsets[node], self._offsets[node + 1])
        return steps[self._end[steps] != without]

    def _path(self, drug: int, disease: int, steps: tuple[int, ...], final: int) -> Path:
        nodes = (drug, *(int(self._end[step]) for step in steps), disease)
        # The last step was found from the disease: it is walked backwards.
        kinds = (*(int(self._kind[step]) for step in steps), int(self._turned[final]))
        return Path(nodes, kinds, float(np.prod(self._weight[[*steps, final]])))
