"""What T5 has besides the figures of the ledger, against transformers' `t5`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers.models.t5.modeling_t5 import T5Attention

from biofm_jax.errors import UserError
from biofm_jax.models import cache as cached
from biofm_jax.models.encoder_decoder import EncoderDecoderSpec
from biofm_jax.models.positions import Relative, relative_buckets
from biofm_jax.parity.references import PAD, random_tokens
from biofm_jax.parity.rows import padded_batch
from biofm_jax.parity.t5_models import t5_references
from biofm_jax.zoo.config import read_config
from biofm_jax.zoo.exporting import published_tensors
from biofm_jax.zoo.importing import params_of, plan_import, read_params
from biofm_jax.zoo.t5 import T5, T5_ENCODER
from biofm_jax.zoo.weights import open_weights

REFERENCES = {f"{each.family.name}: {each.variant}": each for each in t5_references()}
TIED, UNTIED, *_ = REFERENCES


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    @functools.cache
    def get(name):
        """Torch module, checkpoint, configuration, import plan, parameters."""
        reference, folder = REFERENCES[name], tmp_path_factory.mktemp("t5")
        model = reference.build()
        model.save_pretrained(folder)
        config, weights = read_config(folder / "config.json"), open_weights(folder)
        plan = plan_import(weights, reference.family, reference.family.spec_of(config))
        return model, weights, config, plan, read_params(weights, plan)

    return get


@pytest.mark.parametrize("name", REFERENCES)
def test_an_export_is_the_import_to_the_last_bit(name, imported):
    _, weights, config, plan, params = imported(name)
    family = plan.family
    assert family.spec_of(family.config_of(plan.spec)) == plan.spec == family.spec_of(config)
    exported = dict(published_tensors(params, family, plan.spec))
    assert sorted(exported) == sorted(weights.tensors)
    for tensor, array in exported.items():
        np.testing.assert_array_equal(array, weights.read(tensor))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", [(32, 128), (16, 24), (8, 16)])
def test_buckets_at_every_distance(sizes, causal):
    """Float32, as the reference: in float64 distance 64 of (32, 128) is in another bucket."""
    differences = np.arange(-1000, 1001)
    buckets, distance = sizes
    theirs = T5Attention._relative_position_bucket(
        torch.from_numpy(-differences), not causal, buckets, distance
    )
    ours = relative_buckets(differences, Relative(*sizes), causal)
    np.testing.assert_array_equal(ours, theirs.numpy())


def arrays(weights) -> dict:
    return {name: weights.read(name) for name in weights.tensors}


def test_what_a_checkpoint_may_hold_besides(imported):
    """Copies of the shared table, and the table that early checkpoints have and nothing reads."""
    _, weights, config, plan, params = imported(TIED)
    held = arrays(weights)
    for copy in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"):
        held[copy] = held["shared.weight"].copy()
    unread = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    held[unread] = np.ones((16, 4), np.float32)
    again = params_of(held, T5, plan.spec)
    np.testing.assert_array_equal(again["embed"]["tokens"], params["embed"]["tokens"])
    held["encoder.embed_tokens.weight"][0, 0] += 1
    with pytest.raises(UserError, match=r"encoder\.embed_tokens\.weight differs .* one table for"):
        params_of(held, T5, plan.spec)
    held["encoder.embed_tokens.weight"][0, 0] -= 1
    held["lm_head.weight"][0, 0] += 1
    with pytest.raises(UserError, match=r"lm_head\.weight differs .*tie_word_embeddings"):
        params_of(held, T5, plan.spec)
    spec = T5.spec_of({**config, "tie_word_embeddings": False})
    assert not spec.head.tied and spec.head.scale == 1.0
    head = params_of(held, T5, spec)["decoder"]["head"]["tokens"]
    np.testing.assert_array_equal(head, held["lm_head.weight"])


def test_an_encoder_is_read_from_the_whole_model(imported):
    model, weights, config, *_ = imported(TIED)
    spec = T5_ENCODER.spec_of(config)
    assert not isinstance(spec, EncoderDecoderSpec)
    plan = plan_import(weights, T5_ENCODER, spec)
    of_decoder = [name for name in weights.tensors if name.startswith("decoder.")]
    assert plan.ignored == len(of_decoder) > 0 and not plan.left_out
    assert not set(plan.kept().values()) & set(of_decoder)
    params, tokens = read_params(weights, plan), random_tokens()
    ours = spec.build().apply(params, padded_batch(tokens)).hidden
    with torch.no_grad():
        mask = torch.from_numpy((tokens != PAD).astype(np.int64))
        theirs = model.encoder(torch.from_numpy(tokens.astype(np.int64)), mask).last_hidden_state
    np.testing.assert_allclose(ours[tokens != PAD], theirs.numpy()[tokens != PAD], atol=2e-5)


def test_what_does_not_fit_is_listed(imported):
    _, weights, config, plan, _ = imported(UNTIED)
    held = arrays(weights)
    del held["decoder.block.1.layer.1.EncDecAttention.k.weight"]
    held["decoder.block.3.layer.2.layer_norm.weight"] = np.ones(56, np.float32)
    held["shared.weight"] = held["shared.weight"][:, :-1]
    with pytest.raises(UserError) as error:
        params_of(held, T5, plan.spec)
    text = str(error.value)
    assert "missing: decoder.block.1.layer.1.EncDecAttention.k.weight (48, 56)" in text
    assert "shared.weight has shape (47, 55), not (47, 56)" in text
    assert "unused: decoder.block.3.layer.2.layer_norm.weight (56,)" in text
    with pytest.raises(UserError, match="read it as the family t5_encoder"):
        T5.spec_of({**config, "architectures": ["T5EncoderModel"]})
    with pytest.raises(UserError, match="gate is 'half'"):
        T5.spec_of({**config, "feed_forward_proj": "half-gelu"})
    headless = plan_import(weights, T5, plan.spec).spec
    assert headless == plan.spec
    del (held := arrays(weights))["lm_head.weight"]
    assert "head" not in params_of(held, T5, plan.spec)["decoder"]


@pytest.mark.slow
def test_greedy_generation_writes_what_the_reference_writes(imported):
    model, _, _, plan, params = imported(UNTIED)
    source, new = random_tokens(), 12
    real = torch.from_numpy((source != PAD).astype(np.int64))
    theirs = model.generate(
        torch.from_numpy(source.astype(np.int64)),
        attention_mask=real,
        do_sample=False,
        max_new_tokens=new,
        min_new_tokens=new,
    ).numpy()
    ours_model, rows = plan.spec.build(), len(source)
    begin = np.full((rows, 1), PAD, np.int32)  # T5's decoder begins with the padding token

    @jax.jit
    def write(params):
        batch = padded_batch(source)
        size = new + 1
        lengths = jnp.ones(rows, jnp.int32)
        cache, logits = cached.prefill(ours_model, params, begin, lengths, size, batch)

        def step(carry, _):
            cache, logits = carry
            # As min_new_tokens: no end before its time.
            token = jnp.argmax(logits[:, -1].at[:, 2].set(-jnp.inf), -1).astype(jnp.int32)
            cache, logits = cached.extend(ours_model, params, cache, token[:, None])
            return (cache, logits), token

        return jax.lax.scan(step, (cache, logits), length=new)[1]

    ours = np.asarray(write(params)).T
    assert len(np.unique(ours)) > 3  # no fixed point that any model would reach
    np.testing.assert_array_equal(ours, theirs[:, 1:])
