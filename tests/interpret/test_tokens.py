import dataclasses

import jax
import numpy as np
import pytest
from toy_batches import TINY, packed, parameters

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.data.protein import ProteinData
from biofm_jax.errors import UserError
from biofm_jax.interpret.tokens import (
    attentions_of,
    log_likelihood,
    read_text,
    token_attributions,
)
from biofm_jax.models.embedding import TokenDropout

SPEC = dataclasses.replace(TINY, dropout=0.0)
SPECS = {
    "masked": SPEC,
    "causal": dataclasses.replace(SPEC, causal=True),
    "token dropout": dataclasses.replace(SPEC, token_dropout=TokenDropout()),
}
SEQUENCE = "MKTAYIAKQRQISFV"


def encoder(name="masked"):
    spec = SPECS[name]
    return Encoder("toy", spec, ProteinData(max_tokens=64, segments=4), parameters(spec))


@pytest.mark.parametrize("name", SPECS)
def test_the_models_own_embeddings_give_its_own_outputs(name):
    model, params, batch = SPECS[name].build(), parameters(SPECS[name]), packed(rows=2)
    plain = model.apply(params, batch, collect=("layers",))
    again = model.apply(params, batch, embedded=plain.layers[0])
    np.testing.assert_allclose(again.logits, plain.logits, rtol=1e-6, atol=1e-6)


def test_a_text_knows_its_special_tokens():
    text = read_text(encoder(), SEQUENCE)
    assert text.tokens[0] == "<cls>" and text.tokens[-1] == "<eos>"
    assert "".join(np.array(text.tokens)[text.regular]) == SEQUENCE


def test_attention_rows_sum_to_one():
    found = attentions_of(encoder(), read_text(encoder(), SEQUENCE))
    assert found.shape == (SPEC.layers, SPEC.heads, 17, 17)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", SPECS)
def test_attributions_sum_to_the_difference_of_outputs(name):
    of = encoder(name)
    text = read_text(of, SEQUENCE)
    found, gap = token_attributions(of, text, log_likelihood(of, text))
    masked = dataclasses.replace(
        text, ids=np.where(text.regular, of.data.tokenizer().vocabulary.mask, text.ids)
    )
    model = of.spec.build()

    def output(ids):
        batch = jax.tree.map(lambda leaf: leaf[:1, : len(ids)], packed())
        ones = np.ones((1, len(ids)), np.int32)
        positions = np.arange(len(ids), dtype=np.int32)[None]
        batch = batch.replace(
            tokens=np.asarray(ids, np.int32)[None], segment_ids=ones, positions=positions
        )
        return float(log_likelihood(of, text)(model.apply(of.params, batch)))

    difference = output(text.ids) - output(masked.ids)
    if name != "token dropout":  # which scales a row by its share of masks
        assert found.sum() == pytest.approx(difference, rel=0.02, abs=1e-3)
    assert abs(gap) < 0.02 * abs(difference) + 1e-3
    assert found.shape == (17,)
    np.testing.assert_allclose(found[[0, -1]], 0, atol=1e-6)  # cls and eos stay as they are


def test_what_an_output_cannot_see_gets_nothing():
    """A causal model's state at the fourth token knows nothing of the fifth."""
    of = encoder("causal")
    text = read_text(of, SEQUENCE)
    found, _ = token_attributions(of, text, lambda outputs: outputs.hidden[0, 4].sum())
    assert np.abs(found[1:5]).min() > 0
    np.testing.assert_array_equal(found[5:], 0)


def test_a_text_too_long_for_the_model_is_refused():
    with pytest.raises(UserError, match="has 102 tokens, and the rows of toy hold 64"):
        read_text(encoder(), "A" * 100)
