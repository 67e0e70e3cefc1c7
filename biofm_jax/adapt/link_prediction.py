"""From a pretrained model of a knowledge graph to scores of drugs for diseases: tune and rank."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.data.knowledge_graph import KnowledgeGraph
from biofm_jax.data.links import LinkData
from biofm_jax.data.neighbours import Neighbours
from biofm_jax.errors import UserError
from biofm_jax.models.relational import RelationalSpec, distmult
from biofm_jax.objectives.link_prediction import LinkPrediction
from biofm_jax.train.loop import LoopSpec, fit
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.optimizer import OptimizerSpec

BLOCK = 128  # nodes embedded at a time


@dataclasses.dataclass(frozen=True)
class LinkTuning:
    """How a pretrained model learns the relation that is asked for.

    Attributes:
        optimizer: optimizer and schedule.
        loop: length; batch_size is in facts.
    """

    optimizer: OptimizerSpec = OptimizerSpec(learning_rate=1e-3, warmup=10)
    loop: LoopSpec = LoopSpec(steps=100, batch_size=128)


@dataclasses.dataclass(frozen=True)
class LinkModel:
    """A model of a graph, and how its neighbourhoods are drawn.

    Attributes:
        spec: the architecture.
        data: how facts are drawn.
    """

    spec: RelationalSpec
    data: LinkData


@dataclasses.dataclass(frozen=True)
class Prototypes:
    """Diseases with few drugs lean on similar ones (Huang et al. 2024, equations of "disease
    similarity"; the published code's `all_nodes_profile` and `rarity`).

    h_i = (1 - c) h_i + c * sum over the k most similar diseases of their h, in proportion to
    similarity, with c = rate * exp(-rate * drugs_i) + floor.

    Attributes:
        count: k; 0 for none.
        rate: of the fall with the number of drugs.
        floor: share that every disease takes.
    """

    count: int = 5
    rate: float = 0.7
    floor: float = 0.2

    def mixed(
        self,
        states: Float[np.ndarray, "n d"],
        profiles: Float[np.ndarray, "n p"],
        drugs: Int[np.ndarray, " n"],
    ) -> Float[np.ndarray, "n d"]:
        """The states of n diseases with those of similar ones mixed in.

        Args:
            states: of the diseases.
            profiles: 1 where a disease has a neighbour (gene, symptom, disease); similarity is
                their cosine.
            drugs: known drugs of each; only diseases that have one are leant on.
        """
        if not self.count or not (drugs > 0).any():
            return states
        unit = profiles / np.maximum(np.linalg.norm(profiles, axis=1, keepdims=True), 1e-9)
        alike = unit @ unit.T
        np.fill_diagonal(alike, 0.0)
        alike[:, drugs == 0] = 0.0
        count = min(self.count, len(states))
        least = -np.partition(-alike, count - 1, axis=1)[:, [count - 1]]
        alike = np.where(alike >= least, alike, 0.0)
        total = alike.sum(1, keepdims=True)
        share = self.rate * np.exp(-self.rate * drugs)[:, None] + self.floor
        share = np.where(total > 0, share, 0.0)
        return (1 - share) * states + share * (alike / np.maximum(total, 1e-9)) @ states


@dataclasses.dataclass(frozen=True)
class Repurposing:
    """Scores of every drug for every disease.

    Attributes:
        scores: (drugs, diseases) logits.
        drugs: node numbers of the rows.
        diseases: node numbers of the columns.
    """

    scores: Float[np.ndarray, "c d"]
    drugs: Int[np.ndarray, " c"]
    diseases: Int[np.ndarray, " d"]


def embed_nodes(
    model: LinkModel, graph: KnowledgeGraph, params: Any, nodes: np.ndarray, seed: int = 0
) -> Float[np.ndarray, "n d"]:
    """The states of nodes, each from twice as many sampled neighbours as in training."""
    built, neighbours = model.spec.build(), Neighbours(graph, seed)
    apply = jax.jit(lambda params, around: built.apply(params, around).hidden[:, 0])
    fanouts = 2 * model.data.near, 2 * model.data.far
    states = []
    for start in range(0, len(nodes), BLOCK):
        part = nodes[start : start + BLOCK]
        padded = np.full((BLOCK, 1), part[0], np.int64)
        padded[: len(part), 0] = part
        rng = np.random.default_rng([seed, 2, start])
        around = neighbours.around(padded, fanouts, rng)
        states.append(np.asarray(apply(params, around))[: len(part)])
    return np.concatenate(states)


def score_pairs(
    model: LinkModel,
    graph: KnowledgeGraph,
    params: Any,
    relation: str,
    prototypes: Prototypes = Prototypes(),
    seed: int = 0,
) -> Repurposing:
    """Score every head of a relation's type with every tail.

    Args:
        model: whose `params` these are.
        graph: with the known facts of the relation.
        params: pretrained, or tuned.
        relation: its name, such as "CtD".
        prototypes: how diseases lean on one another.
        seed: of the sampled neighbours.
    """
    number = graph.relation(relation)
    kind = graph.relations[number]
    drugs, diseases = graph.of_type(kind.head), graph.of_type(kind.tail)
    states = embed_nodes(model, graph, params, np.concatenate([drugs, diseases]), seed)
    known = graph.triples[graph.triples[:, 1] == number]
    counts = np.bincount(known[:, 2], minlength=len(graph.ids))[diseases]
    own = states[len(drugs) :]
    tails = prototypes.mixed(own, disease_profiles(graph, diseases, kind.head), counts)
    weights = np.asarray(params["relations"][number])
    scores = distmult(states[: len(drugs), None], weights, tails[None])
    return Repurposing(np.asarray(scores, np.float64), drugs, diseases)


def disease_profiles(
    graph: KnowledgeGraph, diseases: np.ndarray, without: str
) -> Float[np.ndarray, "n p"]:
    """1 where a disease has a neighbour of any type but one (that of the drugs)."""
    place = np.full(len(graph.ids), -1)
    place[diseases] = np.arange(len(diseases))
    profiles = np.zeros((len(diseases), len(graph.ids)), np.float32)
    left_out = graph.types.index(without)
    for own, other in ((0, 2), (2, 0)):
        ends = graph.triples[:, [own, other]]
        used = (place[ends[:, 0]] >= 0) & (graph.node_type[ends[:, 1]] != left_out)
        profiles[place[ends[used, 0]], ends[used, 1]] = 1.0
    return profiles[:, profiles.any(0)]


def tuned_on(
    model: LinkModel,
    graph: KnowledgeGraph,
    relation: str,
    pairs: Int[np.ndarray, "k 2"],
    params: Any,
    tuning: LinkTuning,
    seed: int,
) -> tuple[KnowledgeGraph, Any]:
    """Add known pairs to a graph as facts and tune on them, with the one trainer.

    Args:
        model: to tune.
        graph: without facts of the relation.
        relation: its name.
        pairs: node numbers of heads and tails.
        params: pretrained, or None for random ones.
        tuning: how to.
        seed: of the tuning.

    Returns:
        The graph with the pairs, and the tuned parameters as numpy arrays.
    """
    number = graph.relation(relation)
    facts = np.insert(np.asarray(pairs, np.int32), 1, number, axis=1)
    joined = graph.with_facts(facts)
    data = dataclasses.replace(model.data, relations=(relation,), holdout=0.0)
    loop = dataclasses.replace(tuning.loop, seed=seed)
    done = fit(
        model.spec.build(),
        LinkPrediction().build(),
        data.batches(joined, batch_size=loop.batch_size, seed=seed),
        optimizer=tuning.optimizer,
        mesh=MeshSpec(data=1).build(jax.devices()[:1]),
        loop=loop,
        params=params,
        show=False,
    )
    return joined, jax.device_get(done.state.params)


def link_adapter(
    model: LinkModel,
    graph: KnowledgeGraph,
    relation: str,
    tuning: LinkTuning,
    params: Callable[[int], Any],
    prototypes: Prototypes = Prototypes(),
):
    """An `Adapter` for items "head tail": tuned on the positive training pairs.

    Args:
        model: to tune.
        graph: without the answers, as `data.knowledge_graph.answers_removed` leaves it.
        relation: the one to predict.
        tuning: how to tune on the training pairs.
        params: seed -> pretrained parameters, or None for random ones (the control).
        prototypes: how diseases lean on one another.

    Raises:
        UserError: the graph holds facts of the relation already.
    """
    if (graph.triples[:, 1] == graph.relation(relation)).any():
        raise UserError(f"the graph holds {relation} facts: they are the answers; remove them")

    def numbers(part: Labelled) -> np.ndarray:
        return np.array([[graph.index[node] for node in text.split(" ")] for text in part.texts])

    def adapter(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
        pairs = numbers(train)[train.targets[:, 0] == 1]
        joined, tuned = tuned_on(model, graph, relation, pairs, params(seed), tuning, seed)
        found = score_pairs(model, joined, tuned, relation, prototypes, seed)
        asked = numbers(test)
        row, column = (
            np.searchsorted(found.drugs, asked[:, 0]),
            np.searchsorted(found.diseases, asked[:, 1]),
        )
        logits = found.scores[row, column]
        return (1 / (1 + np.exp(-logits)))[:, None]

    return adapter
