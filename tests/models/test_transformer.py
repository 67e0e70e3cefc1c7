"""What must always be true of the stack, whatever its options."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transformer_examples import BASE, POSITIONS, jit, jitted_apply, pack, sequences, variant

from biofm_jax.errors import UserError
from biofm_jax.models.api import partitioned
from biofm_jax.models.heads import LanguageHead, PredictionHead, ProjectionHead
from biofm_jax.models.transformer import Biases

KINDS = [
    *(pytest.param(dict(positions=p), id=name) for name, p in POSITIONS.items()),
    *(
        pytest.param(dict(positions=p, causal=True), id=f"causal_{name}")
        for name, p in POSITIONS.items()
    ),
    pytest.param(dict(window=3), id="window"),
    pytest.param(dict(pooling="first", token_dropout=None, kv_heads=2), id="first_grouped"),
]


def parameters(model):
    """Random parameters of the model's shapes, with norms away from 1 and biases from 0."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        offset = float(path[-1].key == "scale")
        return jnp.asarray(offset + 0.3 * rng.normal(size=leaf.shape), jnp.float32)

    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), None))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def run(spec, params, batch, rngs=None, **options):
    return jitted_apply(spec, **options)(params, batch, rngs)


def gradient(spec, params, batch, **options):
    model = spec.build()

    def loss(params):
        out = model.apply(params, batch, **options)
        return jnp.sum(jnp.sin(out.logits)) + jnp.sum(out.pooled**2)

    return jit(jax.grad(loss))(params)


def close(ours, theirs, atol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), ours, theirs)


@pytest.mark.parametrize("changes", KINDS)
def test_packed_equals_alone(changes):
    """Also: no example sees its neighbours, whatever their number or the padding's."""
    spec = variant(**changes)
    first, second, third, fourth = examples = sequences()
    params = parameters(spec.build())
    packed = run(spec, params, pack([[first, second, third], [fourth], [], [third]], 32, 3))
    alone = run(spec, params, pack([[e] for e in examples], 32, 3))
    start = 0
    for slot, example in enumerate((first, second, third)):
        part = slice(start, start + len(example))
        close(packed.hidden[0, part], alone.hidden[slot, : len(example)])
        close(packed.logits[0, part], alone.logits[slot, : len(example)])
        close(packed.pooled[0, slot], alone.pooled[slot, 0])
        start = part.stop
    close(packed.hidden[1, : len(fourth)], alone.hidden[3, : len(fourth)])
    assert np.all(np.asarray(packed.pooled[1, 1:]) == 0.0)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(packed))


def test_neighbours_reach_nothing():
    """The gradient of one example's outputs by another's embeddings is exactly zero."""
    first, second, third, _ = sequences()
    spec = variant(layers=2, token_dropout=None, head=LanguageHead(tied=False))
    model, params = spec.build(), parameters(spec.build())
    batch = pack([[first, second, third]], 32, 3)

    def of_second(table):
        embed = {**params["embed"], "tokens": table}
        out = model.apply({**params, "embed": embed}, shifted)
        return jnp.sum(jnp.sin(out.hidden[0, 9 : 9 + len(second)]))

    # Every position gets a vocabulary id of its own, so that rows of the table are positions.
    table = params["embed"]["tokens"][batch.tokens[0]]
    spec = dataclasses.replace(spec, vocabulary=32, special=())
    model = spec.build()
    params["head"]["tokens"] = jnp.zeros((32, spec.width))
    params["head"]["bias"] = jnp.zeros(32)
    shifted = batch.replace(tokens=np.arange(32, dtype=np.int32)[None])
    by_position = np.abs(np.asarray(jax.grad(of_second)(table))).sum(1)
    assert np.all(by_position[9:23] > 0)
    assert np.all(by_position[:9] == 0) and np.all(by_position[23:] == 0)


@pytest.mark.parametrize("name", POSITIONS)
def test_causal_never_sees_the_future(name):
    spec = variant(causal=True, positions=POSITIONS[name], token_dropout=None)
    params, (tokens,) = parameters(spec.build()), sequences((20,))
    changed = tokens.copy()
    changed[12] = tokens[12] % 8 + 5
    before = run(spec, params, pack([[tokens]], 20, 1)).logits[0]
    after = run(spec, params, pack([[changed]], 20, 1)).logits[0]
    close(before[:12], after[:12], atol=1e-6)
    assert np.all(np.abs(before[12:] - after[12:]).max(1) > 1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        dict(dropout=0.2, attention_dropout=0.1),
        dict(positions=POSITIONS["relative"], norm_position="post", norm="rms", gated=True),
        dict(parallel="shared", layer_scale=0.5, qk_norm="width", kv_heads=2),
    ],
)
def test_scan_equals_loop_and_remat_changes_nothing(changes):
    spec = variant(**changes)
    params, batch = parameters(spec.build()), pack([sequences()], 50, 4)
    options = dict(train=True, rngs=jax.random.key(5))
    collect = ("attentions", "layers")
    looped = dataclasses.replace(spec, scan=False)
    ours, theirs = (run(s, params, batch, collect=collect, **options) for s in (spec, looped))
    close(ours, theirs)
    expected = gradient(looped, params, batch, **options)
    scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    for remat in ("none", "attention", "dots", "full"):
        got = gradient(dataclasses.replace(spec, remat=remat), params, batch, **options)
        close(got, expected, atol=1e-5 * scale)


def test_collected_layers_and_attentions_are_those_of_the_run():
    spec = variant()
    params, batch = parameters(spec.build()), pack([sequences()], 50, 4)
    plain = run(spec, params, batch)
    out = run(spec, params, batch, collect=("attentions", "layers"))
    close(out.hidden, plain.hidden)
    assert out.attentions.shape == (3, 1, 4, 50, 50) and out.layers.shape == (4, 1, 50, 16)
    np.testing.assert_allclose(out.attentions.sum(-1), 1.0, atol=1e-5)
    other = batch.segment_ids[:, :, None] != batch.segment_ids[:, None, :]
    assert np.all(np.asarray(out.attentions)[:, :, 0][:, other] == 0.0)


def test_dropout_is_the_same_in_microbatches_and_off_in_evaluation():
    spec = variant(dropout=0.3, attention_dropout=0.2)
    params = parameters(spec.build())
    batch = pack([[e] for e in sequences()], 32, 1)
    options = dict(train=True, rngs=jax.random.key(5))
    whole = run(spec, params, batch, **options)
    halves = [
        run(spec, params, jax.tree.map(lambda x: x[part], batch), **options)  # noqa: B023
        for part in (slice(0, 2), slice(2, 4))
    ]
    close(whole, jax.tree.map(lambda *x: jnp.concatenate(x), *halves))
    still = run(spec, params, batch)
    assert not np.allclose(whole.pooled, still.pooled, atol=1e-2)
    close(still, run(variant(), params, batch))
    other = run(spec, params, batch, train=True, rngs=jax.random.key(6))
    assert not np.allclose(whole.pooled, other.pooled, atol=1e-2)
    with pytest.raises(UserError, match="rngs=key"):
        run(spec, params, batch, train=True)


def test_grouped_heads_equal_repeated_heads():
    grouped, full = variant(kv_heads=2), variant()
    params, batch = parameters(grouped.build()), pack([sequences()], 50, 4)
    attention = dict(params["blocks"]["attention"])
    q, kv = attention.pop("q"), attention.pop("kv")

    def whole(name, axis):
        repeated = jnp.repeat(kv[name], 2, axis=axis + 1)
        return jnp.concatenate([jnp.expand_dims(q[name], axis), repeated], axis)

    attention["qkv"] = {"kernel": whole("kernel", 2), "bias": whole("bias", 1)}
    repeated = {**params, "blocks": {**params["blocks"], "attention": attention}}
    close(run(grouped, params, batch), run(full, repeated, batch))


def test_predict_gathers_before_the_head():
    params, batch = parameters(BASE.build()), pack([[e] for e in sequences()], 32, 1)
    predict = np.asarray([[3, 1], [0, 8], [4, 4], [19, 2]], np.int32)
    everywhere = run(BASE, params, batch).logits
    some = run(BASE, params, batch.replace(predict=predict)).logits
    close(some, np.take_along_axis(np.asarray(everywhere), predict[:, :, None], 1))


@pytest.mark.parametrize("head, width", [(ProjectionHead(5, 3), 5), (PredictionHead(2), 2)])
def test_pooled_heads(head, width):
    spec = variant(head=head)
    out = run(spec, parameters(spec.build()), pack([sequences()], 50, 4))
    assert out.logits.shape == (1, 4, width) and out.logits.dtype == jnp.float32


def test_bfloat16_computes_in_it_and_keeps_float32_parameters():
    spec = variant(dtype="bfloat16", init_std=0.1)
    params, batch = parameters(spec.build()), pack([sequences()], 50, 4)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    low, high = run(spec, params, batch), run(variant(init_std=0.1), params, batch)
    assert low.hidden.dtype == jnp.bfloat16
    assert low.logits.dtype == low.pooled.dtype == jnp.float32
    error = np.linalg.norm(low.logits - high.logits) / np.linalg.norm(high.logits)
    assert 1e-5 < error < 0.05
    dtypes = {x.dtype for x in jax.tree.leaves(gradient(spec, params, batch))}
    assert dtypes == {jnp.dtype("float32")}


def test_axes_name_every_dimension():
    spec = variant(kv_heads=2, positions=POSITIONS["relative"], biases=Biases(qk_norm=True))
    model = dataclasses.replace(spec, qk_norm="width", token_types=2).build()
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), None))
    jax.tree.map(
        lambda p, names: (p.ndim == len(names)) or pytest.fail(), params, model.axes(params)
    )
    names = model.axes(params)
    assert names["blocks"]["attention"]["kv"]["kernel"] == (
        "layers", "embed", None, "heads", None
    )  # fmt: skip
    assert names["embed"]["tokens"] == ("vocab", "embed")


def test_partitioner_sees_activations_and_gathers_each_layer():
    """A partitioner that lays nothing out gives the same numbers, and is asked for all."""
    seen = []

    class Recorder:
        devices, platform = 2, "cpu"  # as on a mesh: with a single device some axes are merged

        def constrain(self, x, names):
            assert x.ndim == len(names)
            seen.append(names)
            return x

        def gather(self, param, names, dtype):
            assert param.ndim == len(names)
            seen.append("gather")
            return param.astype(dtype)

        def per_shard(self, function, inputs, output):
            return function

        def parts(self, name, size):
            return 1

    params, batch = parameters(BASE.build()), pack([sequences()], 50, 4)
    expected = run(BASE, params, batch)
    model = BASE.build()
    with partitioned(Recorder()):
        close(jit(lambda p, b: model.apply(p, b))(params, batch), expected)
    assert seen.count("gather") == len(jax.tree.leaves(params))
    for names in (("width",), ("heads", None), ("mlp",), ("vocab",)):
        assert ("batch", "tokens", *names) in seen


def test_program_does_not_grow_with_depth():
    def lines(layers):
        model = variant(layers=layers, remat="full").build()
        params = jax.eval_shape(lambda: model.init(jax.random.key(0), None))
        batch = pack([sequences()], 50, 4)
        loss = jax.grad(lambda p: model.apply(p, batch).logits.sum())
        return jax.jit(loss).lower(params).compile().as_text().count("\n")

    assert lines(6) == lines(48)


def test_longer_rows_change_nothing():
    params, examples = parameters(BASE.build()), [[e] for e in sequences()]
    short, long = (run(BASE, params, pack(examples, length, 1)) for length in (20, 37))
    real = pack(examples, 20, 1).segment_ids > 0
    close(short.logits[real], long.logits[:, :20][real])
    close(short.pooled, long.pooled)
