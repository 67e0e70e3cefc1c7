"""Codes of a hierarchy by attention over their ancestors (GRAM, Choi et al. 2017, 1611.07012)."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int32

from biofm_jax.array_types import ArrayLike, PyTree, typed

AXES = {
    "table": ("vocab", "embed"),
    "kernel": (None, None),
    "bias": (None,),
    "score": (None,),
}


def init_code_attention(rng: jax.Array, nodes: int, width: int) -> PyTree:
    """Float32 parameters: the table of basic embeddings and the attention's network.

    Args:
        rng: key.
        nodes: of the hierarchy.
        width: d, of the embeddings.
    """
    table, kernel, score = jax.random.split(rng, 3)
    normal = jax.nn.initializers.normal
    return {
        "table": normal(width**-0.5)(table, (nodes, width)),
        "kernel": normal((2 * width) ** -0.5)(kernel, (2 * width, width)),
        "bias": jnp.zeros(width),
        "score": normal(width**-0.5)(score, (width,)),
    }


@typed
def code_attention(
    params: PyTree, paths: Int32[ArrayLike, "b c a"]
) -> tuple[Float[ArrayLike, "b c d"], Bool[ArrayLike, "b c"]]:
    """g_i = sum_j alpha_ij e_j over a code i and its ancestors j (equation 1 of GRAM).

    alpha_ij is the softmax over j of u . tanh(W [e_i; e_j] + b) (equations 2 and 3). A code that
    the hierarchy does not know has its nearest known ancestor in the place of i.

    Args:
        params: as `init_code_attention` makes them.
        paths: numbers of each code and its ancestors, the nearest first; -1 is empty.

    Returns:
        The embeddings, zero where a slot is empty, and which slots are not.
    """
    there = paths >= 0
    each = params["table"][jnp.maximum(paths, 0)]
    own = jnp.broadcast_to(each[:, :, :1], each.shape)
    inner = jnp.concatenate([own, each], axis=-1) @ params["kernel"] + params["bias"]
    scores = jnp.where(there, jnp.tanh(inner) @ params["score"], -jnp.inf)
    filled = there.any(-1)
    alpha = jax.nn.softmax(jnp.where(filled[..., None], scores, 0.0), axis=-1)
    mixed = jnp.einsum("bca,bcad->bcd", jnp.where(there, alpha, 0.0), each)
    return mixed, filled
