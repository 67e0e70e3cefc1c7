"""CLIP: an image tower and a text tower in one space; PLIP, and others trained from it.

Sources: Radford et al. 2021, arXiv:2103.00020 (CLIP); Huang et al. 2023, doi
10.1038/s41591-023-02504-3 (PLIP). Tensor names and `config.json` are those of transformers' `clip`.
"""

import math
from collections.abc import Iterator

from biofm_jax.models.dual_encoder import DualEncoderSpec, SharedSpace
from biofm_jax.models.heads import ProjectionHead
from biofm_jax.models.positions import Learned
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.models.vision import VisionSpec
from biofm_jax.zoo.config import activation, published_activation, refuse_other
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.tensors import Flat, OneBatch, Tensor, dense, norm
from biofm_jax.zoo.vision_layout import (
    OPENAI,
    image_config,
    image_fields,
    patch_projection,
    split_attention,
)

# The published logarithm of the inverse temperature at the start, that of 0.07 to four digits.
START = 2.6592


def blocks(name: str, root: str) -> Iterator[Tensor]:
    """The blocks of a tower, as CLIP and SigLIP name them.

    Args:
        name: published, of the tower.
        root: of our paths, with a slash at its end.
    """
    layer = f"{name}.encoder.layers.{{i}}"
    names = {share: f"{layer}.self_attn.{share}_proj" for share in ("q", "k", "v", "out")}
    yield from split_attention(names, root)
    yield from norm(f"{layer}.layer_norm1", f"{root}blocks/attention_norm")
    yield from norm(f"{layer}.layer_norm2", f"{root}blocks/feedforward_norm")
    yield from dense(f"{layer}.mlp.fc1", f"{root}blocks/feedforward/up")
    yield from dense(f"{layer}.mlp.fc2", f"{root}blocks/feedforward/down")


def text_tensors() -> Iterator[Tensor]:
    """The text tower but for its projection, as CLIP and SigLIP name it."""
    embeddings = "text_model.embeddings"
    yield Tensor(f"{embeddings}.token_embedding.weight", "second/embed/tokens", Flat(1))
    yield Tensor(f"{embeddings}.position_embedding.weight", "second/embed/positions", Flat(1))
    yield from blocks("text_model", "second/")
    yield from norm("text_model.final_layer_norm", "second/final_norm")


def tensors(spec: DualEncoderSpec) -> list[Tensor]:
    """The table of `CLIPModel`."""
    embeddings = "vision_model.embeddings"
    return [
        Tensor("logit_scale", "space/scale", OneBatch(0)),
        Tensor(f"{embeddings}.class_embedding", "first/embed/class"),
        Tensor(f"{embeddings}.position_embedding.weight", "first/embed/positions", Flat(1)),
        *patch_projection(spec.first, f"{embeddings}.patch_embedding", "first/embed/patches"),
        *norm("vision_model.pre_layrnorm", "first/embed/norm"),
        *blocks("vision_model", "first/"),
        *norm("vision_model.post_layernorm", "first/final_norm"),
        *dense("visual_projection", "first/head/dense_0", bias=False),
        *text_tensors(),
        *dense("text_projection", "second/head/dense_0", bias=False),
    ]


def tower_fields(config: dict) -> dict:
    """Fields that the configurations of both towers of CLIP and SigLIP have."""
    return dict(
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        feedforward=config["intermediate_size"],
        attention_dropout=config.get("attention_dropout", 0.0),
        init_std=config.get("initializer_range", 0.02),
    )


def tower_config(spec: TransformerSpec) -> dict:
    """The inverse of `tower_fields`."""
    return {
        "num_hidden_layers": spec.layers,
        "hidden_size": spec.width,
        "num_attention_heads": spec.heads,
        "intermediate_size": spec.hidden_width,
        "hidden_act": published_activation(spec.activation),
        "layer_norm_eps": spec.norm_epsilon,
        "attention_dropout": spec.attention_dropout,
        "initializer_range": spec.init_std,
    }


# What the classes of transformers take for a field that a configuration leaves out.
VISION = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
              num_attention_heads=12, image_size=224, patch_size=32)  # fmt: skip
TEXT = dict(vocab_size=49408, hidden_size=512, intermediate_size=2048, num_hidden_layers=12,
            num_attention_heads=8, max_position_embeddings=77)  # fmt: skip


def _kind(config: dict) -> dict:
    return dict(
        activation=activation(config.get("hidden_act", "quick_gelu")),
        norm_epsilon=config.get("layer_norm_eps", 1e-5),
    )


def spec_of(config: dict) -> DualEncoderSpec:
    """The architecture that a `config.json` describes; what it leaves out is as in ViT-B/32."""
    vision, text = VISION | config["vision_config"], TEXT | config["text_config"]
    for part in (vision, text):
        refuse_other(part, is_decoder=(False, None), add_cross_attention=(False, None))
    head = ProjectionHead(config.get("projection_dim", 512), layers=1, bias=False)
    norms = {name: config[name] for name in ("image_mean", "image_std") if name in config}
    start = config.get("logit_scale_init_value", START)
    return DualEncoderSpec(
        VisionSpec(
            **tower_fields(vision),
            **_kind(vision),
            **image_fields(vision | norms, OPENAI),
            embedding_norm=True,
            patch_bias=False,
            head=head,
        ),
        TransformerSpec(
            vocabulary=text["vocab_size"],
            **tower_fields(text),
            **_kind(text),
            causal=True,
            positions=Learned(text["max_position_embeddings"]),
            pooling="last",
            head=head,
        ),
        SharedSpace(0.07 if start == START else round(math.exp(-start), 12)),
    )


def config_of(spec: DualEncoderSpec) -> dict:
    """The `config.json` of an architecture."""
    images = image_config(spec.first, OPENAI)
    norms = {name: images.pop(name) for name in ("image_mean", "image_std") if name in images}
    temperature, width = spec.head.temperature, spec.first.head.width
    return {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "projection_dim": width,
        "logit_scale_init_value": START if temperature == 0.07 else -math.log(temperature),
        "vision_config": {
            "model_type": "clip_vision_model",
            "projection_dim": width,
            **tower_config(spec.first),
            **images,
        },
        "text_config": {
            "model_type": "clip_text_model",
            "projection_dim": width,
            "vocab_size": spec.second.vocabulary,
            "max_position_embeddings": spec.second.positions.maximum,
            **tower_config(spec.second),
        },
        **norms,
    }


CLIP = Family(
    name="clip",
    tensors=tensors,
    spec_of=spec_of,
    config_of=config_of,
    prefix="",
    head=(),
    left_out=(r"embeddings\.position_ids$",),
    other_layouts=("openai_clip",),
    cropped=True,
    reference="transformers CLIPModel",
)
