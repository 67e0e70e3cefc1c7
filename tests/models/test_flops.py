"""The FLOP rule against XLA's own count of an unrolled model, and by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from biofm_jax.data.batch import Batch
from biofm_jax.models.encoder_decoder import EncoderDecoderSpec
from biofm_jax.models.heads import LanguageHead, PredictionHead, ProjectionHead
from biofm_jax.models.linear_attention import LinearAttention
from biofm_jax.models.transformer import TransformerSpec

ROWS, TOKENS, SLOTS, PREDICTED = 1, 256, 4, 38
# Plain attention computes every pair of a row, so that the attended length is that of the row.
SPEC = TransformerSpec(layers=2, width=256, heads=4, scan=False, backend="reference")
CASES = {
    "language": {},
    "gated_grouped": {"gated": True, "feedforward": 512, "kv_heads": 1, "head_width": 96},
    "plain_head": {"head": LanguageHead(transform=False, tied=False), "vocabulary": 2048},
    "projection": {"head": ProjectionHead(512, 3)},
    "prediction": {"head": PredictionHead(64)},
}


def counted(spec: TransformerSpec | EncoderDecoderSpec, predict: int | None) -> float:
    """FLOPs of a token by the compiler's count of forward and backward pass."""
    model = spec.build()
    params = jax.eval_shape(model.init, jax.random.key(0), None)
    ids = jax.ShapeDtypeStruct((ROWS, TOKENS), jnp.int32)
    places = None if predict is None else jax.ShapeDtypeStruct((ROWS, predict), jnp.int32)
    slots = jax.ShapeDtypeStruct((ROWS, SLOTS), jnp.int32)

    def loss(params, batch):
        return (model.apply(params, batch).logits.astype(jnp.float32) ** 2).sum()

    batch = Batch(ids, ids, ids, slots, predict=places)
    if isinstance(spec, EncoderDecoderSpec):
        batch = batch.replace(source=Batch(ids, ids, ids, slots))
    lowered = jax.jit(jax.grad(loss)).lower(params, batch)
    fast = {"xla_backend_optimization_level": 0}
    return lowered.compile(compiler_options=fast).cost_analysis()["flops"] / (ROWS * TOKENS)


@pytest.mark.parametrize("name", CASES)
def test_the_rule_is_what_the_compiler_counts(name):
    spec = dataclasses.replace(SPEC, **CASES[name])
    rule = spec.train_flops(TOKENS, predicted=1.0, pooled=SLOTS / TOKENS)
    # The compiler also counts norms, softmax and activations: 1 % at this width.
    assert 1.0 < counted(spec, None) / rule < 1.03


def test_linear_attention_costs_what_so_many_keys_would_whatever_the_length():
    linear = dataclasses.replace(SPEC, linear=LinearAttention(features=32))
    assert linear.train_flops(64) == linear.train_flops(4096) == SPEC.train_flops(2 * 32)


def test_an_encoder_decoder_pays_for_both_stacks_and_the_look_across():
    decoder = dataclasses.replace(SPEC, causal=True, kv_heads=2)
    spec = EncoderDecoderSpec(dataclasses.replace(SPEC, layers=1, head=None), decoder)
    rule = spec.train_flops(TOKENS, predicted=1.0)
    # Plain attention computes the masked half of the decoder's pairs as well.
    rule += 6 * decoder.layers * decoder.width * TOKENS
    assert 1.0 < counted(spec, None) / rule < 1.03


def test_only_predicted_positions_pay_for_the_head():
    spec = dataclasses.replace(SPEC, vocabulary=2048)
    rule = spec.train_flops(TOKENS, predicted=PREDICTED / TOKENS)
    assert 1.0 < counted(spec, PREDICTED) / rule < 1.03
    assert spec.train_flops(TOKENS, predicted=1.0) > 1.2 * rule


def test_the_rule_by_hand():
    layers, d, f, v, t = 3, 64, 256, 33, 50
    spec = TransformerSpec(vocabulary=v, layers=layers, width=d, heads=4)
    head = 6 * (d * d + v * d) * 0.15
    body = 6 * layers * (4 * d * d + 2 * f * d)

    def attention(**changes):
        changed = dataclasses.replace(spec, **changes)
        return changed.train_flops(t, predicted=0.15) - body - head

    assert attention() == pytest.approx(12 * layers * d * t)
    assert attention(causal=True) == pytest.approx(6 * layers * d * t)
    # A window reaches to both sides, and no further than the example.
    assert attention(window=5) == pytest.approx(12 * layers * d * 11)
    assert attention(window=100) == pytest.approx(12 * layers * d * t)
    assert attention(window=5, causal=True) == pytest.approx(12 * layers * d * 6)
