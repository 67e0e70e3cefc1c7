"""What must always be true of an encoder-decoder and of its cross attention."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pair_examples import KINDS, T5_LIKE, packed_pair, pair, parameters, texts
from transformer_examples import FAST_COMPILE, jit, jitted_apply, pack, variant

from biofm_jax.errors import UserError
from biofm_jax.models.cross_attention import cross_attention
from biofm_jax.models.heads import PredictionHead

SOURCES, TARGETS = texts((9, 14, 5, 20)), texts((6, 3, 11, 8), seed=1)


def run(spec, batch, params=None, rngs=None, **options):
    params = parameters(spec) if params is None else params
    return jitted_apply(spec, **options)(params, batch, rngs)


def close(ours, theirs, atol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), ours, theirs)


def together(sources=SOURCES, targets=TARGETS):
    """Three examples in the first row, in the second the fourth and the third."""
    rows = [[[e[0], e[1], e[2]], [e[3], e[2]]] for e in (sources, targets)]
    return packed_pair(*rows)


@pytest.mark.parametrize("name", KINDS)
def test_packed_equals_alone(name):
    spec = pair(**KINDS[name])
    out = run(spec, together())
    alone = run(spec, packed_pair([[e] for e in SOURCES], [[e] for e in TARGETS]))
    for side, lengths in (("encoder", SOURCES), ("decoder", TARGETS)):
        packed, single = (each.source if side == "encoder" else each for each in (out, alone))
        lengths, start = [len(each) for each in lengths], 0
        for number in range(3):
            part = slice(start, start := start + lengths[number])
            close(packed.hidden[0, part], single.hidden[number, : lengths[number]])
            close(packed.pooled[0, number], single.pooled[number, 0])
            if side == "decoder":
                close(packed.logits[0, part], single.logits[number, : lengths[number]])
        close(packed.hidden[1, : lengths[3]], single.hidden[3, : lengths[3]])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((out, alone)))


def test_an_example_reads_its_own_source_and_no_other():
    spec, batch = pair(**T5_LIKE), together()
    before = run(spec, batch).logits[0]
    changed = [each.copy() for each in SOURCES]
    changed[1] = changed[1] % 12 + 4
    after = run(spec, together(changed)).logits[0]
    second = slice(len(TARGETS[0]), len(TARGETS[0]) + len(TARGETS[1]))
    # Every token of it, as the encoder's output is seen whole.
    assert np.all(np.abs(before[second] - after[second]).max(1) > 1e-4)
    others = np.ones(len(before), bool)
    others[second] = False
    np.testing.assert_array_equal(before[others], after[others])


def test_the_decoder_never_sees_its_future():
    spec = pair(**T5_LIKE)
    batch = packed_pair([[SOURCES[3]]], [[TARGETS[2]]])
    changed = batch.tokens.copy()
    changed[0, 7] = changed[0, 7] % 12 + 4
    before, after = (run(spec, each).logits[0] for each in (batch, batch.replace(tokens=changed)))
    np.testing.assert_array_equal(before[:7], after[:7])
    assert np.all(np.abs(before[7:11] - after[7:11]).max(1) > 1e-4)


def test_an_example_without_a_source_sees_nobody_elses():
    """Its cross attention is zero, and so is what it gives to the gradient."""
    spec = pair(**T5_LIKE)
    params = parameters(spec)
    batch = packed_pair([[SOURCES[0]]], [[TARGETS[0], TARGETS[1]]])
    other = batch.replace(source=packed_pair([[SOURCES[3]]], [[]]).source)
    second = slice(6, 9)
    ours, theirs = (run(spec, each, params).logits[0, second] for each in (batch, other))
    np.testing.assert_array_equal(ours, theirs)
    model = spec.build()

    def loss(params):
        return jnp.sum(jnp.sin(model.apply(params, batch).logits[0, second]))

    gradient = jax.jit(jax.grad(loss), compiler_options=FAST_COMPILE)(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    cross = gradient["decoder"]["blocks"]["cross_attention"]
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(cross))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "remats"), [("t5", ("attention", "full")), ("other", ())])
def test_scan_equals_loop_and_remat_changes_nothing(name, remats):
    spec = pair(layers=(2, 2), dropout=0.2, attention_dropout=0.1, **KINDS[name])
    params, batch = parameters(spec), together()

    def gradient(spec):
        model = spec.build()
        options = dict(train=True, rngs=jax.random.key(5), collect=("layers", "attentions"))

        def loss(params):
            out = model.apply(params, batch, **options)
            return jnp.sum(jnp.sin(out.logits)), out

        return jit(jax.grad(loss, has_aux=True))(params)

    expected, theirs = gradient(spec.replaced(scan=False))
    got, ours = gradient(spec)
    close(ours, theirs)
    scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    close(got, expected, atol=1e-5 * scale)
    assert np.abs(ours.logits - run(spec, batch, params).logits).max() > 1e-3  # dropout acts
    for remat in remats:
        close(gradient(spec.replaced(remat=remat))[0], expected, atol=1e-5 * scale)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_blocks_of_queries_equal_the_reference(rate):
    """Rows of more than one block, sources of another length, grouped heads."""
    rng = np.random.default_rng(0)
    shapes = ((2, 70, 4, 6), (2, 90, 2, 6), (2, 90, 2, 6))
    q, k, v = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    ids = np.repeat([[1, 2, 3, 0]], 2, 0).repeat([20, 30, 15, 5], 1).astype(np.int32)
    of_keys = np.repeat([[2, 1, 0]], 2, 0).repeat([40, 25, 25], 1).astype(np.int32)
    keys = jax.random.split(jax.random.key(3), 2)

    def value(backend):
        def loss(q, k, v):
            y, _ = cross_attention(
                q, k, v, ids, of_keys, backend=backend, dropout=rate, keys=keys if rate else None
            )
            return jnp.sum(jnp.sin(y) * (ids > 0)[:, :, None, None]), y

        return jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(q, k, v)

    ((_, ours), mine), ((_, theirs), wanted) = value("xla"), value("reference")
    close(ours, theirs)
    close(mine, wanted)
    assert np.all(np.asarray(ours[:, 50:65]) == 0)  # segment 3 has no key


def test_weights_of_the_reference_backend_sum_to_one_over_the_source():
    rng = np.random.default_rng(0)
    q, k = (rng.normal(size=(1, t, 2, 4)).astype(np.float32) for t in (3, 5))
    ids, of_keys = np.ones((1, 3), np.int32), np.array([[1, 1, 2, 2, 0]], np.int32)
    _, weights = cross_attention(q, k, k, ids, of_keys, backend="reference")
    np.testing.assert_allclose(np.sum(weights[..., :2], -1), 1.0, rtol=1e-6)
    assert np.all(np.asarray(weights[..., 2:]) == 0)


def test_every_parameter_has_names_and_the_table_is_shared():
    spec = pair(**KINDS["other"])
    model = spec.build()
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), None))
    names = model.axes(params)
    jax.tree.map(lambda leaf, axes: (leaf.ndim == len(axes)) or pytest.fail(axes), params, names)
    assert names["decoder"]["blocks"]["cross_attention"]["kv"]["kernel"] == (
        "layers", "embed", None, "heads", None
    )  # fmt: skip
    tables = [leaf for leaf in jax.tree.leaves(params) if leaf.shape == (16, 16)]
    assert len(tables) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(encoder=dict(width=32)), "encoder.width is 32; it must be 16"),
        (dict(encoder=dict(causal=True)), "encoder.causal"),
        (dict(encoder=dict(head=PredictionHead(1))), "encoder.head"),
        (dict(decoder=dict(causal=False)), "decoder.causal"),
        (dict(decoder=dict(head=PredictionHead(1))), "decoder.head"),
        (dict(decoder=dict(parallel="shared")), "decoder.parallel"),
        (dict(decoder=dict(qk_norm="head")), "decoder.qk_norm"),
        (dict(decoder=dict(backend="cudnn")), 'decoder.backend is .cudnn.; it must be "auto"'),
        (dict(decoder=dict(heads=5, head_width=None)), "heads is 5"),
    ],
)
def test_what_cannot_be_built_says_why(changes, words):
    spec = pair(**T5_LIKE)
    stacks = {
        name: dataclasses.replace(getattr(spec, name), **more) for name, more in changes.items()
    }
    with pytest.raises(UserError, match=words):
        dataclasses.replace(spec, **stacks).build()


def test_a_missing_or_unread_source_is_an_error():
    spec, batch = pair(**T5_LIKE), together()
    model = spec.build()
    with pytest.raises(UserError, match="this batch has no source"):
        jax.eval_shape(lambda: model.apply(parameters(spec), batch.replace(source=None)))
    plain = variant(layers=1)
    with pytest.raises(UserError, match="has no encoder to read it"):
        jax.eval_shape(lambda: plain.build().apply(parameters(plain), batch))
    with pytest.raises(UserError, match="has no cross attention"):
        q = jnp.zeros((1, 2, 2, 4))
        ids = pack([[]], 2, 1).tokens
        cross_attention(q, q, q, ids, ids, backend="splash")
