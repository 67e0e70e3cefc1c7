"""Every field of the spec does something, and what cannot be built is refused."""

import dataclasses

import jax
import numpy as np
import pytest
from transformer_examples import BASE, jit, pack, sequences, variant

from biofm_jax.errors import UserError
from biofm_jax.models.embedding import TokenDropout
from biofm_jax.models.heads import LanguageHead, PredictionHead, ProjectionHead
from biofm_jax.models.linear_attention import LinearAttention
from biofm_jax.models.positions import (
    Alibi,
    Learned,
    LocalLayers,
    LongerContext,
    NoPositions,
    Relative,
    Rotary,
)
from biofm_jax.models.transformer import Biases, TransformerSpec
from biofm_jax.zoo.esm import ESM2

SMALL = variant(layers=2, qk_norm="head", dropout=0.1)
RELATIVE = variant(layers=2, positions=Relative(8, 16))
LEARNED = variant(layers=2, positions=Learned(64))

# Each change, with the spec it is made to where that is not SMALL.
CHANGES = [
    dict(vocabulary=17),
    dict(layers=3),
    dict(width=32),
    dict(heads=2),
    dict(kv_heads=2),
    dict(head_width=8),
    dict(feedforward=24),
    dict(causal=True),
    dict(norm="rms"),
    dict(norm_position="post"),
    dict(norm_epsilon=1e-2),
    dict(final_norm=False),
    *(dict(activation=a) for a in ("gelu_tanh", "quick_gelu", "relu", "silu")),
    dict(gated=True),
    *(
        dict(biases=dataclasses.replace(Biases(), **{f.name: not f.default}))
        for f in dataclasses.fields(Biases)
    ),
    *(
        dict(positions=p)
        for p in (
            Learned(64),
            Rotary(base=100.0),
            Rotary(fraction=0.5),
            Rotary(interleaved=True),
            Rotary(longer=LongerContext(original=8)),
            Rotary(rounded="float16"),
            Alibi(),
            Relative(8, 16),
            NoPositions(),
        )
    ),
    dict(qk_norm="none"),
    dict(qk_norm="width"),
    dict(parallel="shared"),
    dict(parallel="separate"),
    dict(window=2),
    dict(linear=LinearAttention(features=6)),
    dict(local=LocalLayers(window=2, every=2)),
    dict(local=LocalLayers(window=64, base=100.0, every=2)),
    dict(first_norm=False),
    dict(attention_by_depth=True),
    dict(attention_scale=1.0),
    dict(embedding_norm=True),
    dict(embedding_scale=3.0),
    dict(token_types=2),
    dict(token_dropout=None),
    dict(token_dropout=TokenDropout(mask=4)),
    dict(token_dropout=TokenDropout(mask=3, ratio=0.3)),
    dict(layer_scale=0.5),
    dict(residual_scale=0.5),
    dict(dropout=0.3),
    dict(attention_dropout=0.3),
    dict(pooling="first"),
    dict(special=()),
    *(
        dict(head=h)
        for h in (
            LanguageHead(transform=False),
            LanguageHead(activation="relu"),
            LanguageHead(bias=False),
            LanguageHead(tied=False),
            LanguageHead(transform_bias=False),
            LanguageHead(scale=0.5),
            ProjectionHead(8, 2),
            PredictionHead(3),
            None,
        )
    ),
    dict(init_std=0.1),
    dict(init_by_depth=True),
    dict(dtype="bfloat16"),
    (RELATIVE, dict(positions=Relative(4, 16))),
    (RELATIVE, dict(positions=Relative(8, 9))),
    (LEARNED, dict(positions=Learned(32))),
    (LEARNED, dict(positions=Learned(64, offset=2))),
    (variant(layers=2, head=ProjectionHead(8, 2)), dict(head=ProjectionHead(8, 3))),
    (variant(layers=2, head=ProjectionHead(8, 2)), dict(head=ProjectionHead(4, 2))),
]

# Fields that choose how to compute, not what; test_transformer and test_attention hold them.
HOW = {"backend", "scan", "remat"}


def results(spec):
    """What the model makes of a batch with its initial parameters, in training."""
    model = spec.build()
    batch = pack([sequences((9, 14))], 32, 2)

    def run(key):
        params = model.init(key, batch)
        out = model.apply(params, batch, train=True, rngs=key)
        return out.hidden, out.pooled, out.logits

    return jit(run)(jax.random.key(0))


@pytest.fixture(scope="module")
def known():
    cache = {}

    def get(spec):
        if spec not in cache:
            cache[spec] = results(spec)
        return cache[spec]

    return get


def name_of(change):
    change = change[1] if isinstance(change, tuple) else change
    return "-".join(f"{field}={value}" for field, value in change.items())


@pytest.mark.parametrize("change", CHANGES, ids=name_of)
def test_every_option_changes_something(known, change):
    base, change = change if isinstance(change, tuple) else (SMALL, change)
    changed = dataclasses.replace(base, **change)
    shapes = [
        jax.eval_shape(lambda spec=spec: spec.build().init(jax.random.key(0), None))
        for spec in (base, changed)
    ]
    before, after = (jax.tree.map(lambda x: x.shape, tree) for tree in shapes)
    if before != after:
        return
    ours, theirs = known(base), known(changed)
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    assert any(a.shape != b.shape or not np.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in pairs)


def test_every_field_is_among_the_changes():
    changed = {field for c in CHANGES for field in (c[1] if isinstance(c, tuple) else c)}
    assert changed | HOW == {field.name for field in dataclasses.fields(TransformerSpec)}


@pytest.mark.parametrize(
    "size, published",
    [
        ("8M", 7.5e6),
        ("35M", 33.5e6),
        ("150M", 148e6),
        ("650M", 651e6),
        ("3B", 2.84e9),
        ("15B", 15.1e9),
    ],
)
def test_esm2_parameter_counts(size, published):
    """Against the sizes of the released checkpoints, without allocating one."""
    model = ESM2[size].build()
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), None))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize(
    "changes, field",
    [
        (dict(local=LocalLayers(), positions=NoPositions()), "positions"),
        (dict(local=LocalLayers(), window=2), "window"),
        (dict(local=LocalLayers(window=0)), "local.window"),
        (dict(local=LocalLayers(every=0)), "local.every"),
        (dict(local=LocalLayers(), backend="splash"), "backend"),
        (dict(first_norm=False, norm_position="post"), "first_norm"),
        (dict(heads=3), "heads"),
        (dict(kv_heads=3), "kv_heads"),
        (dict(layers=0), "layers"),
        (dict(head_width=0), "head_size"),
        (dict(head_width=5), "positions.fraction"),
        (dict(positions=Rotary(fraction=2.0)), "positions.fraction"),
        (dict(positions=Relative(buckets=3)), "positions.buckets"),
        (dict(positions=Relative(buckets=8, distance=8)), "positions.distance"),
        (dict(positions=Learned(maximum=0)), "positions.maximum"),
        (dict(positions=Alibi(), backend="splash"), "backend"),
        (dict(window=0), "window"),
        (dict(dropout=1.0), "dropout"),
        (dict(parallel="shared", norm_position="post"), "norm_position"),
        (dict(token_dropout=TokenDropout(mask=16)), "token_dropout.mask"),
        (dict(special=(16,)), "special"),
        (dict(head=ProjectionHead(8, 0)), "head.layers"),
    ],
)
def test_impossible_specs_are_refused(changes, field):
    with pytest.raises(UserError, match=rf"TransformerSpec\.{field} is"):
        dataclasses.replace(BASE, **changes).build()


def test_rows_longer_than_learned_positions_are_refused():
    model = variant(positions=Learned(maximum=20)).build()
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), None))
    with pytest.raises(UserError, match=r"32 tokens .* positions\.maximum=20"):
        jax.eval_shape(model.apply, params, pack([sequences((9, 14))], 32, 2))


def test_unknown_collection_is_refused():
    model = BASE.build()
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), None))
    with pytest.raises(UserError, match="attention_weights"):
        model.apply(params, pack([sequences((9, 14))], 32, 2), collect=("attention_weights",))
