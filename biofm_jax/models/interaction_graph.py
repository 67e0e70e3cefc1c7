"""HINT's interaction graph: what a trial's parts say of one another, as messages among nodes.

Fu et al. 2022, "HINT: Hierarchical interaction network for clinical-trial-outcome prediction",
Patterns 3:100445, section "HINT". Nodes and edges are those of its released code
(github.com/futianfan/clinical-trial-outcome-prediction). Four things differ, all for size or for
a stable scale: a gate has one hidden layer in the place of two highway layers; a node weighs
itself by 1 and its neighbours by gate / number of neighbours; a layer adds to what the node was;
and the outcome is read from the last node by a dense layer.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from biofm_jax.array_types import ArrayLike, PyTree, typed
from biofm_jax.models.dropout import dropout, fold

ADMET = ("absorption", "distribution", "metabolism", "excretion", "toxicity")
NODES = ("molecule", "disease", "criteria", "interaction", "disease_risk",
         "augmented_interaction", *ADMET, "pharmacokinetics", "prediction")  # fmt: skip
_EDGES = (
    ("disease", "molecule"),
    ("disease", "criteria"),
    ("molecule", "criteria"),
    ("disease", "interaction"),
    ("molecule", "interaction"),
    ("criteria", "interaction"),
    ("disease", "disease_risk"),
    ("disease_risk", "augmented_interaction"),
    ("interaction", "augmented_interaction"),
    *(("molecule", name) for name in ADMET),
    *((name, "pharmacokinetics") for name in ADMET),
    ("augmented_interaction", "prediction"),
    ("pharmacokinetics", "prediction"),
)
# Both directions; the message goes from the second node to the first.
EDGES = np.array(
    [
        [NODES.index(x), NODES.index(y)]
        for one, other in _EDGES
        for x, y in ((one, other), (other, one))
    ]
)
DEGREE = np.bincount(EDGES[:, 0], minlength=len(NODES))


def init_dense(rng: jax.Array, inputs: int, outputs: int, gain: float = 2.0) -> PyTree:
    """{kernel (inputs, outputs), bias (outputs,)} of variance gain / inputs (He et al. 2015)."""
    kernel = jax.nn.initializers.variance_scaling(gain, "fan_in", "normal")
    return {"kernel": kernel(rng, (inputs, outputs)), "bias": jnp.zeros(outputs)}


def dense(params: PyTree, x: ArrayLike) -> jax.Array:
    """x W + b over the last axis."""
    return x @ params["kernel"] + params["bias"]


def init_node(rng: jax.Array, inputs: int, width: int, layers: int) -> PyTree:
    """A dense layer to the width of nodes and highway layers behind it."""
    first, *rest = jax.random.split(rng, 1 + 3 * layers)
    keys = iter(rest)
    highway = {
        f"highway_{number}": {
            name: init_dense(next(keys), width, width, gain)
            for name, gain in (("gate", 1.0), ("linear", 1.0), ("nonlinear", 2.0))
        }
        for number in range(layers)
    }
    return {"in": init_dense(first, inputs, width), **highway}


def node(params: PyTree, x: ArrayLike) -> jax.Array:
    """relu(highway(relu(x W + b))), with g = sigmoid of a gate and highway layers
    y = g relu(H x) + (1 - g) L x (Srivastava et al. 2015 with a linear way, as HINT has it)."""
    x = jax.nn.relu(dense(params["in"], x))
    for number in range(len(params) - 1):
        layer = params[f"highway_{number}"]
        gate = jax.nn.sigmoid(dense(layer["gate"], x))
        x = gate * jax.nn.relu(dense(layer["nonlinear"], x)) + (1 - gate) * dense(
            layer["linear"], x
        )
    return jax.nn.relu(x)


def init_messages(rng: jax.Array, width: int, gate: int, layers: int) -> PyTree:
    """Gates of all edges, and the matrices of the layers."""
    first, second, *rest = jax.random.split(rng, 2 + layers)
    count = len(EDGES)
    normal = jax.nn.initializers.normal
    gates = {
        "kernel": normal((2 / (2 * width)) ** 0.5)(first, (count, 2 * width, gate)),
        "bias": jnp.zeros((count, gate)),
        "score": normal(gate**-0.5)(second, (count, gate)),
        "score_bias": jnp.zeros(count),
    }
    return {"gates": gates} | {
        f"layer_{number}": init_dense(key, width, width) for number, key in enumerate(rest)
    }


@typed
def edge_gates(params: PyTree, states: Float[ArrayLike, "b n d"]) -> Float[ArrayLike, "b e"]:
    """g_ij = sigmoid(MLP_ij([v_i; v_j])) of each edge, a network of its own."""
    ends = jnp.concatenate([states[:, EDGES[:, 0]], states[:, EDGES[:, 1]]], axis=-1)
    inner = jax.nn.relu(jnp.einsum("bei,eih->beh", ends, params["kernel"]) + params["bias"])
    return jax.nn.sigmoid(jnp.einsum("beh,eh->be", inner, params["score"]) + params["score_bias"])


@typed
def messages(
    params: PyTree,
    states: Float[ArrayLike, "b n d"],
    rate: float = 0.0,
    keys: jax.Array | None = None,
) -> Float[ArrayLike, "b n d"]:
    """Gated graph convolutions: V <- V + relu((I + A g) V W + b), with g of the first states.

    Args:
        params: as `init_messages` makes them.
        states: V, of `NODES`.
        rate: of dropout behind each layer.
        keys: of the rows; None: nothing is dropped.
    """
    gates = edge_gates(params["gates"], states) / DEGREE[EDGES[:, 0]]
    count = len(NODES)
    mix = jnp.zeros((len(states), count, count)).at[:, EDGES[:, 0], EDGES[:, 1]].set(gates)
    mix = mix + jnp.eye(count)
    for number in range(len(params) - 1):
        new = jax.nn.relu(dense(params[f"layer_{number}"], mix @ states))
        states = states + dropout(new, rate, fold(keys, number), 0)
    return states
