"""Model FLOPs: what the mathematics of a training step needs, however it is computed.

A matrix product of (m, k) with (k, n) is 2 m k n FLOPs; the backward pass is twice the forward
pass, so a weight costs 6 FLOPs for every token it meets (Kaplan et al. 2020, arXiv:2001.08361,
section 2.1; attention as in Chowdhery et al. 2022, arXiv:2204.02311, appendix B). Norms,
activations, softmax and the optimizer are not counted, nor is what rematerialisation computes
again: MFU and equal budgets are of model FLOPs.
"""

from typing import TYPE_CHECKING

from biofm_jax.models.dual_encoder import DualEncoderSpec
from biofm_jax.models.encoder_decoder import EncoderDecoderSpec
from biofm_jax.models.graph import GraphSpec
from biofm_jax.models.grover import ContextMotifHead, GroverSpec
from biofm_jax.models.heads import LanguageHead, PredictionHead, ProjectionHead
from biofm_jax.models.pair_transformer import PairTransformerSpec
from biofm_jax.models.relational import RelationalSpec
from biofm_jax.models.spec import ModelSpec
from biofm_jax.models.trial_outcome import TrialOutcomeSpec

if TYPE_CHECKING:
    from biofm_jax.models.transformer import TransformerSpec


def train_flops(
    spec: ModelSpec, attended: float, predicted: float = 0.0, pooled: float = 0.0
) -> float:
    """FLOPs of forward and backward pass for one token.

    For width D, L layers, a feed-forward of F, a vocabulary of V and as many key as query heads
    this is `6 L (4 D^2 + 2 F D) + 12 L D T + 6 (D^2 + V D) predicted`; a gated feed-forward has
    3 F D, and a causal mask halves the attended length T. Of an encoder-decoder a token is one that
    is read and one that is written: the sources are as long as what is written from them. Of two
    towers it is one of each view, as if they were equally long. Of a relational model a token is a
    node with `attended` neighbours, that have as many each: its two layers run once on each
    neighbour and twice on the node. Of a model of trials a token is a word of the criteria, and
    only their encoder is counted.

    Args:
        spec: the architecture.
        attended: T, tokens of the example a token stands in, itself among them: the mean over
            tokens, per document where rows are packed. A causal mask and a window shorten it
            here.
        predicted: share of the tokens whose logits a language head computes.
        pooled: pooled vectors per token (examples of a row / tokens of a row) that another head
            reads.
    """
    if isinstance(spec, EncoderDecoderSpec):
        stacks = (
            train_flops(spec.encoder, attended),
            train_flops(spec.decoder, attended, predicted, pooled),
        )
        return sum(stacks) + 6.0 * spec.decoder.layers * _cross(spec.decoder, attended)
    if isinstance(spec, DualEncoderSpec):
        towers = (spec.first, spec.second)
        return sum(train_flops(tower, attended, predicted, pooled) for tower in towers)
    if isinstance(spec, GraphSpec):  # messages are sums over two or three neighbours
        body = spec.layers * 2 * spec.width * spec.hidden_width
        return 6.0 * (body + _head_weights(spec) * _share(spec, predicted, pooled))
    if isinstance(spec, TrialOutcomeSpec):
        return train_flops(spec.criteria, attended)
    if isinstance(spec, GroverSpec):
        square = spec.width * spec.width
        messages = 3 * square + spec.hops * 3 * spec.width * spec.head_size
        body = messages + square + 2 * spec.width * attended + 3 * spec.width * spec.hidden_width
        weights = _head_weights(spec)
        if isinstance(spec.head, ContextMotifHead):
            return 6.0 * (
                spec.layers * body + weights * predicted + spec.width * spec.head.motifs * pooled
            )
        return 6.0 * (spec.layers * body + weights * _share(spec, predicted, pooled))
    if isinstance(spec, RelationalSpec):
        square, mixed = spec.width * spec.width, spec.bases * spec.width
        body = (attended + 2) * (1 + spec.bases) * square + attended * (attended + 2) * mixed
        return 6.0 * body
    if isinstance(spec, PairTransformerSpec):
        return _pair_flops(spec, attended, predicted, pooled)
    width, head = spec.width, spec.head_size
    projections = width * head * (2 * spec.heads + 2 * spec.key_heads)
    feedforward = (3 if spec.gated else 2) * width * spec.hidden_width
    scores = _scores(spec, attended)
    body = spec.layers * (projections + feedforward + scores)
    return 6.0 * (body + _head_weights(spec) * _share(spec, predicted, pooled))


def _pair_flops(
    spec: PairTransformerSpec, attended: float, predicted: float, pooled: float
) -> float:
    """Each pair's bias beside what a transformer does; the coordinates' heads are left out."""
    width, kernels = spec.width, spec.kernels
    layer = 4 * width * width + 2 * width * spec.hidden_width + 2 * width * attended
    bias = attended * (kernels * kernels + kernels * spec.heads)
    head = _head_weights(spec) * _share(spec, predicted, pooled)
    return 6.0 * (spec.layers * layer + bias + head)


def _cross(spec: "TransformerSpec", attended: float) -> float:
    """Of one block's cross attention: its four projections, and scores with the whole source."""
    projections = spec.width * spec.head_size * (2 * spec.heads + 2 * spec.key_heads)
    return projections + 2 * spec.heads * spec.head_size * attended


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


def _head_weights(spec: "TransformerSpec") -> int:
    """Weights that meet each vector sent to the head."""
    width, head = spec.width, spec.head
    if isinstance(head, LanguageHead):
        return width * spec.vocabulary + (width * width if head.transform else 0)
    if isinstance(head, ContextMotifHead):
        return width * head.contexts
    if isinstance(head, ProjectionHead):
        return width * (width * (head.layers - 1) + head.width)
    return width * head.outputs if isinstance(head, PredictionHead) else 0


def _share(spec: "TransformerSpec", predicted: float, pooled: float) -> float:
    return predicted if isinstance(spec.head, LanguageHead) else pooled
