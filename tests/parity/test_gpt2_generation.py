"""Whole generations of a small random GPT-2: greedy and beam search give transformers' tokens."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from biofm_jax.adapt.beam import Beams
from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.generate import generate
from biofm_jax.adapt.sampling import Sampling
from biofm_jax.data.protein import ProteinData
from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.positions import Learned
from biofm_jax.models.transformer import TransformerSpec

SIZE, WIDTH, HEADS, LAYERS, POSITIONS = 29, 24, 3, 2, 40
STOP, NEW = 16, 14
SPEC = TransformerSpec(
    vocabulary=SIZE,
    layers=LAYERS,
    width=WIDTH,
    heads=HEADS,
    causal=True,
    activation="gelu_tanh",
    positions=Learned(maximum=POSITIONS),
    head=LanguageHead(transform=False, bias=False, tied=True),
)
PROMPTS = ([4, 9, 7, 3, 12], [8], [5, 5, 20])


def reference():
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=SIZE,
        n_positions=POSITIONS,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        bos_token_id=0,
        eos_token_id=STOP,
        pad_token_id=STOP,
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            offset = float("ln_" in name and name.endswith("weight"))
            parameter.copy_(offset + 0.25 * torch.randn_like(parameter))
    return model


def converted(model):
    """GPT-2's weights, (input, output) in its own layout, as this stack's parameters."""
    weights = {name: p.numpy() for name, p in model.transformer.state_dict().items()}

    def layers(name, *shape):
        parts = [weights[f"h.{i}.{name}"] for i in range(LAYERS)]
        return jnp.asarray(np.stack(parts).reshape(LAYERS, *shape))

    def dense(name, *shape, outputs):
        return {
            "kernel": layers(f"{name}.weight", *shape),
            "bias": layers(f"{name}.bias", *outputs),
        }

    def norm(name):
        return {"scale": layers(f"{name}.weight", WIDTH), "bias": layers(f"{name}.bias", WIDTH)}

    head = WIDTH // HEADS
    joint = (3, HEADS, head)
    return {
        "embed": {"tokens": weights["wte.weight"], "positions": weights["wpe.weight"]},
        "blocks": {
            "attention_norm": norm("ln_1"),
            "attention": {
                "qkv": dense("attn.c_attn", WIDTH, *joint, outputs=joint),
                "out": dense("attn.c_proj", HEADS, head, WIDTH, outputs=(WIDTH,)),
            },
            "feedforward_norm": norm("ln_2"),
            "feedforward": {
                "up": dense("mlp.c_fc", WIDTH, 4 * WIDTH, outputs=(4 * WIDTH,)),
                "down": dense("mlp.c_proj", 4 * WIDTH, WIDTH, outputs=(WIDTH,)),
            },
        },
        "final_norm": {"scale": weights["ln_f.weight"], "bias": weights["ln_f.bias"]},
        "head": {},
    }


def padded():
    """Prompts as transformers wants them: padding before, and a mask."""
    longest = max(map(len, PROMPTS))
    ids = [[STOP] * (longest - len(prompt)) + prompt for prompt in PROMPTS]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in PROMPTS]
    return torch.tensor(ids), torch.tensor(mask)


@pytest.mark.parametrize("width", [1, 4])
def test_tokens_and_scores_are_those_of_transformers(width):
    model = reference()
    ids, mask = padded()
    out = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=NEW,
        do_sample=False,
        num_beams=width,
        num_return_sequences=width,
        return_dict_in_generate=True,
        output_scores=True,
    )
    theirs = out.sequences[:, ids.shape[1] :].numpy().reshape(len(PROMPTS), width, -1)
    encoder = Encoder("gpt2", SPEC, ProteinData(), converted(model))
    prompts = [np.array(prompt, np.int32) for prompt in PROMPTS]
    sampling = Sampling(temperature=0.0, max_tokens=NEW, stop=(STOP,))
    beams = Beams(width) if width > 1 else None
    (found,) = generate(encoder, prompts, sampling, beams)
    for several, tokens in zip(found, theirs, strict=True):
        assert len(several) == width
        for each, want in zip(several, tokens, strict=True):
            assert each.tokens.tolist() == want[: len(each.tokens)].tolist()
            assert (want[len(each.tokens) :] == STOP).all()
    if width > 1:
        scores = [each.score for several in found for each in several]
        np.testing.assert_allclose(scores, out.sequences_scores.numpy(), rtol=1e-5)
    assert len({len(each.tokens) for several in found for each in several}) > 1
