import dataclasses

import jax
import numpy as np
import pytest
from toy_batches import TINY, compiled_once, parameters

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.data.batch import Batch
from biofm_jax.data.protein import ProteinData
from biofm_jax.errors import UserError

LETTERS = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


def proteins(count=24, seed=0):
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(LETTERS, rng.integers(3, 40))) for _ in range(count)]


@pytest.fixture(scope="module", autouse=True)
def compile_cache(tmp_path_factory):
    with compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def encoder():
    data = ProteinData(max_tokens=128, segments=4)
    return Encoder("toy", TINY, data, parameters(TINY))


@pytest.fixture(scope="module")
def features(encoder):
    return encoder.features(0)


def test_features_do_not_depend_on_neighbours_or_order(features):
    texts = proteins()
    want = features(texts)
    assert want.shape == (24, 32) and want.dtype == np.float32
    order = np.random.default_rng(1).permutation(24)
    np.testing.assert_allclose(features([texts[i] for i in order]), want[order], atol=1e-5)
    few = [3, 17]
    np.testing.assert_allclose(features([texts[i] for i in few]), want[few], atol=1e-5)
    strangers = proteins(seed=5)
    mixed = features([text for pair in zip(texts, strangers, strict=True) for text in pair])
    np.testing.assert_allclose(mixed[::2], want, atol=1e-5)
    assert np.abs(want[0] - want[1]).max() > 1e-2  # they do depend on the sequence


def test_row_length_does_not_change_features(encoder, features):
    """A long neighbour makes the rows longer."""
    texts = proteins(4)
    assert encoder.row_tokens(encoder.tokenize(texts)) == 64
    longer = [*texts, "M" * 100]
    assert encoder.row_tokens(encoder.tokenize(longer)) == 128
    np.testing.assert_allclose(features(longer)[:4], features(texts), atol=1e-5)


def test_rows_are_never_longer_than_in_pretraining(encoder):
    assert encoder.row_tokens(encoder.tokenize(["M" * 900])) == 128


def test_a_trained_model_has_the_same_features_for_every_seed(encoder):
    by_seed = encoder.features_for_seeds()
    assert by_seed(0) is by_seed(1)


def test_the_control_is_random_and_differs_by_seed(encoder, features):
    control = encoder.control()
    assert control.name == "random" and control.spec == encoder.spec
    texts = proteins(4)
    first, again, other = (control.features(seed)(texts) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-2
    trained = dataclasses.replace(encoder, params=parameters(TINY, seed=9))
    assert np.abs(trained.features(0)(texts) - features(texts)).max() > 1e-2


def test_texts_are_cleaned_as_in_pretraining(features):
    np.testing.assert_array_equal(features(["mktay-iak*"]), features(["MKTAYIAK"]))
    assert features([]).shape == (0, 32)


def test_a_text_that_cannot_be_read_is_named(encoder):
    with pytest.raises(UserError, match=r"text 2.*residue"):
        encoder.tokenize(["MKTAYIAK", "MK1"])


def test_any_layer_and_pooling_equals_the_collected_layers(encoder):
    texts = proteins(3)
    tokenizer = encoder.data.tokenizer()
    model = dataclasses.replace(TINY, head=None).build()
    params = {k: v for k, v in encoder.params.items() if k != "head"}
    apply = jax.jit(lambda batch: model.apply(params, batch, collect=("layers",)))
    states = []  # of each text: layer -> (t, d), alone in a row
    for text in texts:
        ids = tokenizer.encode(text)
        row = np.full((1, 64), tokenizer.vocabulary.pad, np.int32)
        row[0, : len(ids)] = ids
        there = (np.arange(64) < len(ids)).astype(np.int32)[None]
        places = np.arange(64, dtype=np.int32)[None] * there
        out = apply(Batch(row, there, places, there[:, :1] - 1))
        layers = {None: out.hidden, **dict(enumerate(out.layers))}
        states.append({k: np.asarray(layer)[0, : len(ids)] for k, layer in layers.items()})
    assert list(states[0]) == [None, 0, 1, 2]
    for layer in states[0]:
        for pooling in ("mean", "cls"):
            got = encoder.features(0, pooling, layer)(texts)
            for row, state in zip(got, states, strict=True):
                want = state[layer].mean(0) if pooling == "mean" else state[layer][0]
                np.testing.assert_allclose(row, want, atol=2e-5)


def test_pooling_and_layer_are_the_models_own_unless_named(encoder, features):
    texts = proteins(4)
    np.testing.assert_array_equal(
        encoder.features_for_seeds(pooling="mean")(0)(texts), features(texts)
    )
    first = dataclasses.replace(encoder, spec=dataclasses.replace(TINY, pooling="first"))
    cls = encoder.features_for_seeds(pooling="cls")(3)
    np.testing.assert_array_equal(first.features(0)(texts), cls(texts))
    control = encoder.control().features_for_seeds(layer=1)
    assert np.abs(control(0)(texts) - control(1)(texts)).max() > 1e-2


def test_special_tokens_and_post_norm_models_are_cut_the_same_way():
    """A mean of a named layer leaves out what the model's own mean leaves out."""
    vocabulary = ProteinData().tokenizer().vocabulary
    spec = dataclasses.replace(
        TINY, special=(vocabulary.cls, vocabulary.eos), norm_position="post", final_norm=False
    )
    encoder = Encoder("toy", spec, ProteinData(max_tokens=128, segments=4), parameters(spec))
    texts = proteins(3)
    # Nothing follows the last block of such a model.
    np.testing.assert_allclose(encoder.features(0, layer=2)(texts), encoder.features(0)(texts))
    # The embeddings of a protein of one residue, all special tokens left out, are that residue's.
    table = np.asarray(encoder.params["embed"]["tokens"])
    alanine = encoder.tokenize(["AAA"])[0][1]
    np.testing.assert_allclose(encoder.features(0, layer=0)(["AAA"])[0], table[alanine], atol=1e-6)


@pytest.mark.parametrize("layer", [-1, 3])
def test_a_layer_that_is_not_there(encoder, layer):
    with pytest.raises(UserError, match=r"layer -?\d is not in 0 \(the embeddings\) to 2"):
        encoder.features_for_seeds(layer=layer)
