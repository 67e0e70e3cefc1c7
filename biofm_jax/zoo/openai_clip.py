"""CLIP in the layout of its authors' code, as CheXzero is published; open_clip's is the same.

Sources: github.com/openai/CLIP, `model.py`; Tiu et al. 2022, doi 10.1038/s41551-022-00936-9
(CheXzero). The files are state dicts without a configuration; a `config.json` beside one, or of the
family, is transformers'.
"""

import dataclasses
from collections.abc import Iterator

from biofm_jax.models.dual_encoder import DualEncoderSpec
from biofm_jax.zoo.clip import CLIP
from biofm_jax.zoo.tensors import Flat, Linear, OneBatch, Tensor, dense, norm
from biofm_jax.zoo.vision_layout import patch_projection


def _blocks(name: str, root: str) -> Iterator[Tensor]:
    layer, blocks = f"{name}.resblocks.{{i}}", f"{root}/blocks"
    yield Tensor(f"{layer}.attn.in_proj_weight", f"{blocks}/attention/qkv/kernel", Linear())
    yield Tensor(f"{layer}.attn.in_proj_bias", f"{blocks}/attention/qkv/bias")
    yield from dense(f"{layer}.attn.out_proj", f"{blocks}/attention/out", 2)
    yield from norm(f"{layer}.ln_1", f"{blocks}/attention_norm")
    yield from norm(f"{layer}.ln_2", f"{blocks}/feedforward_norm")
    yield from dense(f"{layer}.mlp.c_fc", f"{blocks}/feedforward/up")
    yield from dense(f"{layer}.mlp.c_proj", f"{blocks}/feedforward/down")


def tensors(spec: DualEncoderSpec) -> list[Tensor]:
    """The table of the authors' `CLIP`; both projections are (width, shared width)."""
    return [
        Tensor("logit_scale", "space/scale", OneBatch(0)),
        Tensor("visual.class_embedding", "first/embed/class"),
        Tensor("visual.positional_embedding", "first/embed/positions", Flat(1)),
        *patch_projection(spec.first, "visual.conv1", "first/embed/patches"),
        *norm("visual.ln_pre", "first/embed/norm"),
        *_blocks("visual.transformer", "first"),
        *norm("visual.ln_post", "first/final_norm"),
        Tensor("visual.proj", "first/head/dense_0/kernel", Flat(1)),
        Tensor("token_embedding.weight", "second/embed/tokens", Flat(1)),
        Tensor("positional_embedding", "second/embed/positions", Flat(1)),
        *_blocks("transformer", "second"),
        *norm("ln_final", "second/final_norm"),
        Tensor("text_projection", "second/head/dense_0/kernel", Flat(1)),
    ]


OPENAI_CLIP = dataclasses.replace(
    CLIP,
    name="openai_clip",
    tensors=tensors,
    # Integers beside the weights of the scripted files.
    left_out=(r"^(input_resolution|context_length|vocab_size)$",),
    other_layouts=(),
    model_type="clip",
    reference="written: biofm_jax/parity/openai_clip.py",
)
