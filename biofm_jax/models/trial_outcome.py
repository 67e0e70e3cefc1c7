"""Outcome of a clinical trial from its molecules, diseases and eligibility criteria (HINT)."""

import dataclasses

import jax
import jax.numpy as jnp

from biofm_jax.array_types import PyTree
from biofm_jax.data.batch import Batch
from biofm_jax.data.molecule_graph import ATOM_FEATURES, BOND_FEATURES
from biofm_jax.data.trial_batches import TrialBatch, TrialData
from biofm_jax.errors import UserError
from biofm_jax.models import code_attention as codes
from biofm_jax.models.api import Model, Outputs, constrain, gather
from biofm_jax.models.dropout import dropout, fold, row_keys
from biofm_jax.models.graph import GraphSpec
from biofm_jax.models.heads import PredictionHead
from biofm_jax.models.interaction_graph import (
    ADMET,
    dense,
    init_dense,
    init_messages,
    init_node,
    messages,
    node,
)
from biofm_jax.models.spec import ModelSpec, check_tokens
from biofm_jax.models.transformer import TransformerSpec

SIDES = 2  # inclusion and exclusion
ENCODERS = ("molecule", "criteria")


@dataclasses.dataclass(frozen=True)
class TrialOutcomeSpec(ModelSpec):
    """HINT (Fu et al. 2022, Patterns 3:100445; its code has width 50, two highway layers).

    A trial's molecules are the mean of their vectors, its diseases that of their codes, its
    criteria those of the inclusion and of the exclusion sentences side by side. What a trial
    lacks has a learned vector in its place. Of molecules alone (a `Batch` with a graph) the model
    says the labels that the ADMET nodes are pretrained on.

    Attributes:
        nodes: rows of the table of codes: at least as many as the hierarchy of the data has.
        width: of all nodes of the interaction graph.
        molecule: encoder of molecules, without a head.
        criteria: encoder of sentences, without a head.
        highway: layers behind the dense layer of a node.
        gate: width of the hidden layer of an edge's gate.
        layers: of messages.
        admet: number of labels of each of the five ADMET nodes.
        dropout: on the vectors of molecules, diseases and criteria, and behind each layer of
            messages, when training.
        head: of the outcome, from the last node.
    """

    nodes: int = 2560
    width: int = 50
    molecule: GraphSpec = GraphSpec(
        features=ATOM_FEATURES, bonds=BOND_FEATURES, layers=3, width=64, head=None
    )
    criteria: TransformerSpec = TransformerSpec(
        vocabulary=4101, layers=1, width=64, heads=2, head=None, special=(0, 1, 2)
    )
    highway: int = 2
    gate: int = 16
    layers: int = 2
    admet: tuple[int, ...] = (2, 1, 0, 0, 12)
    dropout: float = 0.2

    head: PredictionHead = PredictionHead(1)

    vocabulary_paths = ("model.criteria.vocabulary",)
    # What checks of an experiment ask of a model that reads tokens.
    positions = None

    @property
    def heads(self) -> int:
        """What tensor parallelism cuts here: the heads of the criteria's encoder."""
        return self.criteria.heads

    @property
    def vocabulary(self) -> int:
        """Number of token ids, of the words of the criteria."""
        return self.criteria.vocabulary

    def check(self, data, mesh) -> None:
        """See `ModelSpec`; the data must be trials, and no mesh may cut one."""
        if not isinstance(data, TrialData):
            raise UserError(
                f"TrialOutcomeSpec reads trials, and {type(data).__name__} has none; set "
                "data=TrialData(...), or another model"
            )
        check_tokens(self, data, mesh)
        if mesh[3] > 1:
            raise UserError(
                f"mesh.context is {mesh[3]}, and a trial is not cut; set --mesh.context 1 and put "
                "the devices on data or fsdp"
            )

    def check_opened(self, store) -> None:
        """See `ModelSpec`; a row of the table for each node of the hierarchy."""
        if (count := len(store.hierarchy.nodes)) > self.nodes:
            raise UserError(
                f"model.nodes is {self.nodes}, but the ICD-10 codes of the training trials have "
                f"{count} nodes; set --model.nodes {count} or more"
            )

    def stacks(self):
        """See `ModelSpec`."""
        return {name: getattr(self, name) for name in ENCODERS}

    def train_flops(self, attended, predicted=0.0, pooled=0.0) -> float:
        """See `ModelSpec`: for a word of the criteria; only their encoder is counted."""
        return self.criteria.train_flops(attended)

    def batch_flops(self, batch, attended, predicted=0.0) -> float:
        """See `ModelSpec`: of both encoders."""
        atoms = self.molecule.batch_flops(batch.molecules, attended)
        return atoms + self.criteria.batch_flops(batch.criteria, attended)

    def build(self) -> Model:
        """The pure functions.

        Raises:
            UserError: fields that do not go together; the message names them.
        """
        for name in ("nodes", "width", "gate", "layers"):
            if getattr(self, name) < 1:
                raise UserError(f"model.{name} is {getattr(self, name)}; it must be 1 or more")
        if self.highway < 0 or not 0 <= self.dropout < 1:
            raise UserError("model.highway must be 0 or more, model.dropout in [0, 1)")
        if len(self.admet) != len(ADMET) or min(self.admet) < 0 or not sum(self.admet):
            raise UserError(f"model.admet is {self.admet}; it must be the numbers of five nodes")
        for name in ENCODERS:
            if getattr(self, name).head is not None:
                raise UserError(f"model.{name}.head must be None: its pooled vectors are read")
        encoders = {name: getattr(self, name).build() for name in ENCODERS}

        def init(rng, batch=None) -> PyTree:
            """Float32 parameters; of `batch` nothing is read."""
            return _init(self, encoders, rng)

        def apply(params, batch, *, rngs=None, train=False) -> Outputs:
            keys = None if rngs is None or not train else row_keys(rngs, batch.examples)
            return _apply(self, encoders, params, batch, keys, rngs, train)

        def axes(params) -> PyTree:
            plain = jax.tree.map(lambda leaf: (None,) * leaf.ndim, params)
            plain |= {name: encoders[name].axes(params[name]) for name in ENCODERS}
            return plain | {"codes": codes.AXES}

        return Model(init, apply, axes, self)


def _init(spec: TrialOutcomeSpec, encoders: dict[str, Model], rng: jax.Array) -> PyTree:
    keys = dict(zip((*ENCODERS, "codes", "missing", "nodes", "messages", "out", "admet"),
                    jax.random.split(rng, 8)))  # fmt: skip
    width = spec.width
    inputs = {
        "molecule": spec.molecule.width,
        "criteria": SIDES * spec.criteria.width,
        "interaction": 3 * width,
        "disease_risk": width,
        "augmented_interaction": 2 * width,
        **dict.fromkeys(ADMET, width),
        "pharmacokinetics": len(ADMET) * width,
        "prediction": 2 * width,
    }
    lacking = {"molecule": spec.molecule.width, "disease": width,
               "inclusion": spec.criteria.width, "exclusion": spec.criteria.width}  # fmt: skip
    small = jax.nn.initializers.normal(0.02)
    layers = {name: 0 if name in ENCODERS else spec.highway for name in inputs}
    return {
        **{name: encoders[name].init(keys[name], None) for name in ENCODERS},
        "codes": codes.init_code_attention(keys["codes"], spec.nodes, width),
        "missing": {
            name: small(key, (size,))
            for key, (name, size) in zip(jax.random.split(keys["missing"], 4), lacking.items())
        },
        "nodes": {
            name: init_node(key, size, width, layers[name])
            for key, (name, size) in zip(
                jax.random.split(keys["nodes"], len(inputs)), inputs.items()
            )
        },
        "messages": init_messages(keys["messages"], width, spec.gate, spec.layers),
        "out": init_dense(keys["out"], width, 1, gain=1.0),
        "admet": {
            name: init_dense(key, width, count, gain=1.0)
            for key, name, count in zip(jax.random.split(keys["admet"], 5), ADMET, spec.admet)
            if count
        },
    }


def _mean(vectors, there, missing) -> jax.Array:
    """(b, d) mean of those of (b, s, d) vectors that are there (b, s); else the missing one."""
    total = jnp.einsum("bs,bsd->bd", there.astype(vectors.dtype), vectors)
    count = there.sum(1)[:, None]
    return jnp.where(count > 0, total / jnp.maximum(count, 1), missing)


def _encoded(encoders, params, name: str, batch: Batch, numbers, rngs, train) -> jax.Array:
    """(b, s, d) pooled vectors of an encoder; a row draws its dropout by the trial's number."""
    examples = jnp.broadcast_to(numbers, batch.examples.shape)
    rows = batch.replace(examples=examples, targets=None, weights=None)
    found = encoders[name].apply(params[name], rows, rngs=rngs, train=train)
    return found.pooled


def _apply(spec, encoders, params, batch, keys, rngs, train) -> Outputs:
    own = {name: part for name, part in params.items() if name not in ENCODERS}
    names = jax.tree.map(lambda leaf: (None,) * leaf.ndim, own) | {"codes": codes.AXES}
    own = gather(own, names, jnp.float32) | {name: params[name] for name in ENCODERS}
    if not isinstance(batch, TrialBatch):
        return _admet(spec, encoders, own, batch, rngs, train)
    nodes, missing = own["nodes"], own["missing"]

    def encoded(name, rows):
        return _encoded(encoders, own, name, rows, batch.examples, rngs, train)

    there = batch.molecules.examples >= 0
    molecule = _mean(encoded("molecule", batch.molecules), there, missing["molecule"])
    disease = _mean(*codes.code_attention(own["codes"], batch.codes), missing["disease"])
    sentences = encoded("criteria", batch.criteria)
    sides = [
        _mean(sentences, batch.sides == side, missing[name])
        for side, name in enumerate(("inclusion", "exclusion"), 1)
    ]
    drop = [dropout(x, spec.dropout, fold(keys, site), 0) for site, x in
            enumerate((molecule, disease, jnp.concatenate(sides, axis=-1)))]  # fmt: skip
    state = {
        "molecule": node(nodes["molecule"], drop[0]),
        "disease": drop[1],
        "criteria": node(nodes["criteria"], drop[2]),
    }

    def put(name: str, *inputs: str) -> None:
        joined = jnp.concatenate([state[key] for key in inputs], axis=-1)
        state[name] = node(nodes[name], joined)

    put("interaction", "molecule", "disease", "criteria")
    put("disease_risk", "disease")
    put("augmented_interaction", "interaction", "disease_risk")
    for name in ADMET:
        put(name, "molecule")
    put("pharmacokinetics", *ADMET)
    put("prediction", "pharmacokinetics", "augmented_interaction")
    stacked = constrain(jnp.stack(list(state.values()), axis=1), "batch", None, None)
    after = messages(own["messages"], stacked, spec.dropout, fold(keys, 3))
    logits = dense(own["out"], after[:, -1])
    return Outputs(hidden=after, pooled=after[:, -1:], logits=logits)


def _admet(spec, encoders, params, batch: Batch, rngs, train) -> Outputs:
    """(b, s, labels) logits of packed molecules, the nodes' labels one behind the other."""
    pooled = _encoded(encoders, params, "molecule", batch, batch.examples[:, :1], rngs, train)
    molecule = node(params["nodes"]["molecule"], pooled)
    logits = [
        dense(params["admet"][name], node(params["nodes"][name], molecule))
        for name, count in zip(ADMET, spec.admet)
        if count
    ]
    return Outputs(pooled=pooled, logits=jnp.concatenate(logits, axis=-1))
