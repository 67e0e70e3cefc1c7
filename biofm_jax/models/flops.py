"""Model FLOPs: what the mathematics of a training step needs, however it is computed.

A matrix product of (m, k) with (k, n) is 2 m k n FLOPs; the backward pass is twice the forward
pass, so a weight costs 6 FLOPs for every token it meets (Kaplan et al. 2020, arXiv:2001.08361,
section 2.1; attention as in Chowdhery et al. 2022, arXiv:2204.02311, appendix B). Norms,
activations, softmax and the optimizer are not counted, nor is what rematerialisation computes
again: MFU and equal budgets are of model FLOPs.
"""

from itertools import pairwise
from typing import TYPE_CHECKING

from biofm_jax.models.heads import LanguageHead, PredictionHead, ProjectionHead

if TYPE_CHECKING:
    from biofm_jax.models.transformer import TransformerSpec


def transformer_flops(
    spec: "TransformerSpec", attended: float, predicted: float, pooled: float
) -> float:
    """FLOPs of forward and backward pass for one token, as `ModelSpec.train_flops`.

    For width D, L layers, a feed-forward of F, a vocabulary of V and as many key as query heads
    this is `6 L (4 D^2 + 2 F D) + 12 L D T + 6 (D^2 + V D) predicted`; a gated feed-forward has
    3 F D, and a causal mask halves the attended length T. A causal mask and a window shorten it.
    """
    width, head = spec.width, spec.head_size
    projections = width * head * (2 * spec.heads + 2 * spec.key_heads)
    feedforward = (3 if spec.gated else 2) * width * spec.hidden_width
    body = spec.layers * (projections + feedforward + _scores(spec, attended))
    return 6.0 * (body + head_weights(spec, predicted, pooled))


def cross_flops(spec: "TransformerSpec", attended: float) -> float:
    """Of the cross attention of all blocks: four projections, and scores with the whole source."""
    projections = spec.width * spec.head_size * (2 * spec.heads + 2 * spec.key_heads)
    return 6.0 * spec.layers * (projections + 2 * spec.heads * spec.head_size * attended)


def head_weights(spec, predicted: float, pooled: float) -> float:
    """Weights of a head that meet a token, the mean over tokens.

    Args:
        spec: has `width`, `vocabulary` and `head`.
        predicted: share of the tokens whose logits a language head computes.
        pooled: pooled vectors per token that another head reads.
    """
    width, head = spec.width, spec.head
    if isinstance(head, LanguageHead):
        return (width * spec.vocabulary + (width * width if head.transform else 0)) * predicted
    if isinstance(head, ProjectionHead):
        return sum(a * b for a, b in pairwise(head.widths(width))) * pooled
    return width * head.outputs * pooled if isinstance(head, PredictionHead) else 0.0


def _scores(spec: "TransformerSpec", attended: float) -> float:
    """Of one block: queries times keys, and the weights times values."""
    if spec.linear is not None:  # features of q and k, their sums with v, and those for a query
        return 4 * spec.heads * spec.head_size * spec.linear.features
    return 2 * spec.heads * spec.head_size * _seen(spec, attended)


def _seen(spec: "TransformerSpec", attended: float) -> float:
    """The mean number of keys that a query sees."""
    seen = attended / 2 if spec.causal else attended

    def within(window: int | None) -> float:
        if window is None:
            return seen
        return min(seen, window + 1 if spec.causal else 2 * window + 1)

    if spec.local is None:
        return within(spec.window)
    whole = -(-spec.layers // spec.local.every) / spec.layers
    return whole * seen + (1 - whole) * within(spec.local.window)
