"""ViT and the masked autoencoder's encoder: google/vit, Phikon, RETFound.

Sources: Dosovitskiy et al. 2021, arXiv:2010.11929 (ViT); He et al. 2022, arXiv:2111.06377 (MAE);
Zhou et al. 2023, doi 10.1038/s41586-023-06555-x (RETFound). Tensor names and `config.json` are
those of transformers' `vit` and `vit_mae`.
"""

from biofm_jax.models.heads import PoolerHead, PredictionHead
from biofm_jax.models.transformer import Biases
from biofm_jax.models.vision import VisionSpec
from biofm_jax.zoo.config import activation, published_activation, refuse_other
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.tensors import OneBatch, Tensor, dense, norm
from biofm_jax.zoo.vision_layout import (
    HALF,
    IMAGENET,
    class_count,
    image_config,
    image_fields,
    patch_projection,
    split_attention,
)

CLASSIFIER, MODEL = "ViTForImageClassification", "ViTModel"


def encoder_tensors(spec: VisionSpec) -> list[Tensor]:
    """The table of `ViTModel` without its pooler, and of `ViTMAEModel`."""
    layer = "vit.encoder.layer.{i}"
    attention = f"{layer}.attention"
    names = {name[0]: f"{attention}.attention.{name}" for name in ("query", "key", "value")}
    return [
        Tensor("vit.embeddings.cls_token", "embed/class", OneBatch()),
        Tensor("vit.embeddings.position_embeddings", "embed/positions", OneBatch()),
        *patch_projection(spec, "vit.embeddings.patch_embeddings.projection"),
        *split_attention(names | {"out": f"{attention}.output.dense"}, bias=spec.biases.qkv),
        *norm(f"{layer}.layernorm_before", "blocks/attention_norm"),
        *norm(f"{layer}.layernorm_after", "blocks/feedforward_norm"),
        *dense(f"{layer}.intermediate.dense", "blocks/feedforward/up"),
        *dense(f"{layer}.output.dense", "blocks/feedforward/down"),
        *norm("vit.layernorm", "final_norm"),
    ]


def tensors(spec: VisionSpec) -> list[Tensor]:
    """The table of `ViTForImageClassification`, or of `ViTModel` with its pooler."""
    table = encoder_tensors(spec)
    if isinstance(spec.head, PredictionHead):
        table += dense("classifier", "head/out")
    elif isinstance(spec.head, PoolerHead):
        table += dense("pooler.dense", "head/dense")
    return table


def shared_fields(config: dict) -> dict:
    """Fields of `VisionSpec` that a `config.json` of `vit` or `vit_mae` says, but of images."""
    return dict(
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        feedforward=config["intermediate_size"],
        norm_epsilon=config.get("layer_norm_eps", 1e-12),
        activation=activation(config.get("hidden_act", "gelu")),
        biases=Biases(qkv=config.get("qkv_bias", True)),
        dropout=config.get("hidden_dropout_prob", 0.0),
        attention_dropout=config.get("attention_probs_dropout_prob", 0.0),
        init_std=config.get("initializer_range", 0.02),
    )


def shared_config(spec: VisionSpec) -> dict:
    """The inverse of `shared_fields`."""
    return {
        "num_hidden_layers": spec.layers,
        "hidden_size": spec.width,
        "num_attention_heads": spec.heads,
        "intermediate_size": spec.hidden_width,
        "layer_norm_eps": spec.norm_epsilon,
        "hidden_act": published_activation(spec.activation),
        "qkv_bias": spec.biases.qkv,
        "hidden_dropout_prob": spec.dropout,
        "attention_probs_dropout_prob": spec.attention_dropout,
        "initializer_range": spec.init_std,
    }


def spec_of(config: dict) -> VisionSpec:
    """The architecture that a `config.json` describes."""
    refuse_other(config, pooler_act=("tanh", None))
    width = config["hidden_size"]
    head = PoolerHead(config.get("pooler_output_size") or width)
    if config.get("architectures") == [CLASSIFIER]:
        head = PredictionHead(class_count(config))
    return VisionSpec(**shared_fields(config), **image_fields(config, HALF), head=head)


def config_of(spec: VisionSpec) -> dict:
    """The `config.json` of an architecture."""
    config = {"model_type": "vit", "architectures": [MODEL]}
    if isinstance(spec.head, PredictionHead):
        config |= {"architectures": [CLASSIFIER], "num_labels": spec.head.outputs}
    elif isinstance(spec.head, PoolerHead):
        config["pooler_output_size"] = spec.head.width
    return config | shared_config(spec) | image_config(spec, HALF)


def encoder_spec_of(config: dict) -> VisionSpec:
    """The encoder of the masked autoencoder that a `config.json` describes."""
    return VisionSpec(
        **shared_fields(config), **image_fields(config, IMAGENET), grid_positions="sincos"
    )


def encoder_config_of(spec: VisionSpec) -> dict:
    """The `config.json` of an encoder."""
    config = {"model_type": "vit_mae", "architectures": ["ViTMAEModel"]}
    return config | shared_config(spec) | image_config(spec, IMAGENET)


VIT = Family(
    name="vit",
    tensors=tensors,
    spec_of=spec_of,
    config_of=config_of,
    prefix="vit.",
    head=("classifier.", "pooler."),
    left_out=(r"embeddings\.mask_token$",),  # of masked image modelling
    reference="transformers ViTModel, ViTForImageClassification",
)
VIT_MAE_ENCODER = Family(
    name="vit_mae_encoder",
    tensors=encoder_tensors,
    spec_of=encoder_spec_of,
    config_of=encoder_config_of,
    prefix="vit.",
    head=(),
    ignored=(r"^decoder\.",),
    model_type="vit_mae",
    reference="transformers ViTMAEModel",
)
