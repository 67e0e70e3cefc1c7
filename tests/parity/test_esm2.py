"""ESM-2 against transformers' `EsmForMaskedLM`, with random weights, in float32."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import EsmConfig, EsmForMaskedLM

from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.zoo.esm2 import ESM2, MASK, PAD, from_transformers

SPEC = dataclasses.replace(ESM2["8M"], layers=3, width=64, heads=4, backend="xla")
LENGTHS = (37, 24, 9)


def relative_error(ours, theirs) -> float:
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    config = EsmConfig(
        vocab_size=33,
        hidden_size=SPEC.width,
        num_hidden_layers=SPEC.layers,
        num_attention_heads=SPEC.heads,
        intermediate_size=SPEC.hidden_width,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=False,
        mask_token_id=MASK,
        pad_token_id=PAD,
        layer_norm_eps=1e-5,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="sdpa",
    )
    model = EsmForMaskedLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Norms away from 1, biases away from 0: a forgotten one would show.
            offset = float(parameter.ndim == 1 and parameter.mean() > 0.5)
            parameter.copy_(offset + 0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def tokens():
    rng = np.random.default_rng(0)
    tokens = np.full((len(LENGTHS), max(LENGTHS)), PAD, np.int32)
    for row, length in zip(tokens, LENGTHS, strict=True):
        row[:length] = rng.integers(4, 24, length)
        row[0], row[length - 1] = 0, 2
        row[1 : length - 1][rng.random(length - 2) < 0.2] = MASK
    return tokens


def as_batch(tokens) -> Batch:
    real = (tokens != PAD).astype(np.int32)
    positions = np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)
    examples = np.arange(len(tokens), dtype=np.int32)[:, None]
    return Batch(tokens=tokens, segment_ids=real, positions=positions, examples=examples)


def state_of(model) -> dict:
    return {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}


def test_hidden_logits_and_gradients(reference, tokens):
    batch = as_batch(tokens)
    real = tokens != PAD
    weight = np.random.default_rng(1).normal(size=(*tokens.shape, 33)).astype(np.float32)
    weight *= real[:, :, None]

    ids = torch.from_numpy(tokens.astype(np.int64))
    mask = torch.from_numpy(real.astype(np.int64))
    theirs = reference(ids, attention_mask=mask, output_hidden_states=True)
    reference.zero_grad()
    (theirs.logits * torch.from_numpy(weight)).sum().backward()

    model = SPEC.build()
    params = from_transformers(state_of(reference), SPEC)

    def loss(params):
        out = model.apply(params, batch, collect=("layers",))
        return jnp.sum(out.logits * weight), out

    gradients, ours = jax.jit(jax.grad(loss, has_aux=True))(params)
    last = theirs.hidden_states[-1].detach().numpy()
    assert relative_error(np.asarray(ours.hidden)[real], last[real]) < 1e-5
    assert relative_error(np.asarray(ours.logits)[real], theirs.logits.detach()[real]) < 1e-5
    for mine, other in zip(ours.layers[:-1], theirs.hidden_states[:-1], strict=True):
        assert relative_error(np.asarray(mine)[real], other.detach().numpy()[real]) < 1e-5

    theirs_gradients = {
        name: parameter.grad.numpy()
        for name, parameter in reference.named_parameters()
        if parameter.grad is not None
    }
    theirs_gradients["lm_head.decoder.weight"] = theirs_gradients[
        "esm.embeddings.word_embeddings.weight"
    ]
    expected = from_transformers(theirs_gradients, SPEC)
    errors = jax.tree.map(relative_error, gradients, expected)
    assert max(jax.tree.leaves(errors)) < 1e-4, errors


@pytest.mark.parametrize("change", ["missing", "unused", "shape", "untied"])
def test_import_is_strict(reference, change):
    state = state_of(reference)
    name = "esm.encoder.layer.1.output.dense.bias"
    if change == "missing":
        del state[name]
    elif change == "unused":
        name = "esm.encoder.layer.3.output.dense.bias"
        state[name] = np.zeros(SPEC.width, np.float32)
    elif change == "shape":
        state[name] = state[name][:-1]
    else:
        name = "lm_head.decoder.weight"
        state[name] = state[name] + 1.0
    with pytest.raises(UserError, match=name):
        from_transformers(state, SPEC)
