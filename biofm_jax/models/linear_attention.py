"""Linear attention with random features, the attention of MoLFormer.

Keys and queries are seen through phi(x) = relu(x W), with m random features W (d, m) of a layer:

    out_i = sum_j (phi(q_i) . phi(k_j)) v_j / max(sum_j phi(q_i) . phi(k_j), epsilon)

over the keys j of the query's own example (Katharopoulos et al. 2020, arXiv 2006.16236; generalised
random features of Choromanski et al. 2021, arXiv 2009.14794; Ross et al. 2022, doi
10.1038/s42256-022-00580-7). The sums over j of phi(k_j) v_j and of phi(k_j) serve every query of an
example, so that the work grows with the length of a row and not with its square.
"""

import dataclasses
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jaxtyping import Float

from biofm_jax.array_types import ArrayLike, Heads, Tokens, typed

if TYPE_CHECKING:
    from biofm_jax.models.transformer import TransformerSpec

Features = Float[ArrayLike, "d m"]


@dataclasses.dataclass(frozen=True)
class LinearAttention:
    """Attention that is linear in the length of a row, through random features.

    Attributes:
        features: m, random features of a layer, shared by its heads.
        epsilon: the least that a query's weights sum up to.
        redraw: training draws the features of every layer anew in each step, from the step's key,
            as the published model was pretrained; evaluation always uses those stored beside the
            parameters, which no optimizer changes (`deterministic_eval` of its configuration).
    """

    features: int = 32
    epsilon: float = 1e-6
    redraw: bool = True


def orthogonal_features(key: jax.Array, shape: tuple[int, int], dtype=jnp.float32) -> Features:
    """Random features (d, m) in orthogonal blocks of d (Yu et al. 2016, arXiv 1610.09072).

    Each column is normal, as long as a vector of d standard normal numbers is; those of a block
    are orthogonal, which makes the estimate of the kernel vary less.
    """
    width, count = shape
    drawn = jax.random.normal(key, (2, -(-count // width), width, width), dtype)
    directions, upper = jnp.linalg.qr(drawn[0])
    # Without the signs of the upper triangle's diagonal no rotation would be as likely as another.
    signs = jnp.sign(jnp.diagonal(upper, axis1=1, axis2=2))
    blocks = directions * (signs * jnp.linalg.norm(drawn[1], axis=1))[:, None, :]
    return jnp.concatenate([*blocks], axis=1)[:, :count]


def redrawn(
    spec: "TransformerSpec", rng: jax.Array | None, train: bool
) -> Float[ArrayLike, "l d m"] | None:
    """A training step's own features of every layer; None where the stored ones are used."""
    if spec.linear is None or not (train and spec.linear.redraw):
        return None
    keys = jax.random.split(jax.random.fold_in(rng, 0), spec.layers)
    shape = (spec.head_size, spec.linear.features)
    return jax.vmap(lambda key: orthogonal_features(key, shape))(keys)


@typed
def linear_attention(
    q: Heads,
    k: Heads,
    v: Heads,
    segment_ids: Tokens,
    features: Features,
    *,
    epsilon: float,
    examples: int | None,
) -> Heads:
    """Linear attention that keeps packed examples apart.

    Args:
        q: (b, t, h, d) queries, rotated where positions are.
        k: (b, t, h, d) keys.
        v: (b, t, h, d) values.
        segment_ids: (b, t) int32; a query sees keys of its own segment. Padding, segment 0, sees
            nothing, and its output is 0.
        features: (d, m).
        epsilon: see `LinearAttention`.
        examples: the most examples in a row, numbered from 1; None: unknown.

    Returns:
        (b, t, h, d) in the type of `q`; sums are float32.
    """
    (_, t, _, d), m = q.shape, features.shape[1]
    # The sums are made for every example of a row: many short ones cost more than their pairs.
    if examples is None or examples * m * d > t * (m + d):
        return reference_linear_attention(q, k, v, segment_ids, features, epsilon=epsilon)[0]
    q, k = phi(q, features), phi(k, features)
    members = segment_ids[:, :, None] == jnp.arange(1, examples + 1)
    members = members.astype(q.dtype)[..., None, None]
    q, k = (x[:, :, None] * members for x in (q, k))  # (b, t, s, h, m)
    exact = dict(preferred_element_type=jnp.float32)
    sums = jnp.einsum("btshm,bthd->bshmd", k, v, **exact).astype(v.dtype)
    totals = k.astype(jnp.float32).sum(1)
    out = jnp.einsum("btshm,bshmd->bthd", q, sums, **exact)
    total = jnp.einsum("btshm,bshm->bth", q, totals, **exact)
    return (out / jnp.maximum(total, epsilon)[..., None]).astype(v.dtype)


def reference_linear_attention(
    q: Heads, k: Heads, v: Heads, segment_ids: Tokens, features: Features, *, epsilon: float
) -> tuple[Heads, Float[ArrayLike, "b h t u"]]:
    """`linear_attention` pair by pair, which also returns its weights, (b, h, t, t) float32."""
    scores = jnp.einsum(
        "bqhm,bkhm->bhqk", phi(q, features), phi(k, features), preferred_element_type=jnp.float32
    )
    seen = (segment_ids[:, :, None] == segment_ids[:, None, :]) & (segment_ids > 0)[:, None, :]
    scores = jnp.where(seen[:, None], scores, 0.0)
    weights = scores / jnp.maximum(scores.sum(-1, keepdims=True), epsilon)
    out = jnp.einsum(
        "bhqk,bkhd->bqhd", weights.astype(v.dtype), v, preferred_element_type=jnp.float32
    )
    return out.astype(v.dtype), weights


def phi(x: Heads, features: Features) -> Float[ArrayLike, "b t h m"]:
    """What queries and keys are seen through."""
    return jax.nn.relu(jnp.einsum("bthd,dm->bthm", x, features.astype(x.dtype)))
