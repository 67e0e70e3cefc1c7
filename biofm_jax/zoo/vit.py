"""ViT and the masked autoencoder's encoder: google/vit, Phikon, RETFound.

Sources: Dosovitskiy et al. 2021, arXiv:2010.11929 (ViT); He et al. 2022, arXiv:2111.06377 (MAE);
Zhou et al. 2023, doi 10.1038/s41586-023-06555-x (RETFound). Tensor names and `config.json` are
those of transformers' `vit` and `vit_mae`.
"""

import dataclasses
from collections.abc import Iterator

from biofm_jax.models.heads import PoolerHead, PredictionHead
from biofm_jax.models.masked_autoencoder import MaskedAutoencoderSpec, PixelDecoder
from biofm_jax.models.transformer import Biases
from biofm_jax.models.vision import VisionSpec
from biofm_jax.zoo.config import activation, published_activation, refuse_other
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.tensors import Flat, OneBatch, Tensor, dense, norm
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


def _blocks(layer: str, root: str, qkv_bias: bool) -> Iterator[Tensor]:
    """The blocks of a stack.

    Args:
        layer: published name, with `{i}` for the layer.
        root: of our paths, with a slash at its end, or nothing.
        qkv_bias: whether queries, keys and values have biases.
    """
    attention, path = f"{layer}.attention", f"{root}blocks"
    names = {name[0]: f"{attention}.attention.{name}" for name in ("query", "key", "value")}
    yield from split_attention(names | {"out": f"{attention}.output.dense"}, root, qkv_bias)
    yield from norm(f"{layer}.layernorm_before", f"{path}/attention_norm")
    yield from norm(f"{layer}.layernorm_after", f"{path}/feedforward_norm")
    yield from dense(f"{layer}.intermediate.dense", f"{path}/feedforward/up")
    yield from dense(f"{layer}.output.dense", f"{path}/feedforward/down")


def encoder_tensors(spec: VisionSpec) -> list[Tensor]:
    """The table of `ViTModel` without its pooler, and of `ViTMAEModel`."""
    return [
        Tensor("vit.embeddings.cls_token", "embed/class", OneBatch()),
        Tensor("vit.embeddings.position_embeddings", "embed/positions", OneBatch()),
        *patch_projection(spec, "vit.embeddings.patch_embeddings.projection"),
        *_blocks("vit.encoder.layer.{i}", "", spec.biases.qkv),
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
    head = None
    if config.get("add_pooling_layer", True):
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
    else:
        config["add_pooling_layer"] = False  # as the argument of `ViTModel`
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


def autoencoder_tensors(spec: MaskedAutoencoderSpec) -> list[Tensor]:
    """The table of `ViTMAEForPreTraining`."""
    encoder = [
        dataclasses.replace(tensor, path=f"encoder/{tensor.path}")
        for tensor in encoder_tensors(spec.encoder)
    ]
    drawing = "decoder"
    return [
        *encoder,
        *dense(f"{drawing}.decoder_embed", "decoder/embed/project"),
        Tensor(f"{drawing}.mask_token", "decoder/embed/mask", OneBatch(2)),
        Tensor(f"{drawing}.decoder_pos_embed", "decoder/embed/positions", OneBatch()),
        *_blocks("decoder.decoder_encoder.layer.{i}", "decoder/", spec.encoder.biases.qkv),
        *norm(f"{drawing}.decoder_norm", "decoder/final_norm"),
        Tensor(f"{drawing}.decoder_pred.weight", "decoder/head/tokens", Flat(1)),
        Tensor(f"{drawing}.decoder_pred.bias", "decoder/head/bias"),
    ]


def autoencoder_spec_of(config: dict) -> MaskedAutoencoderSpec:
    """The masked autoencoder that a `config.json` describes; what it leaves out is as published."""
    decoder = PixelDecoder(
        layers=config.get("decoder_num_hidden_layers", 8),
        width=config.get("decoder_hidden_size", 512),
        heads=config.get("decoder_num_attention_heads", 16),
        feedforward=config.get("decoder_intermediate_size", 2048),
    )
    return MaskedAutoencoderSpec(encoder_spec_of(config), decoder)


def autoencoder_config_of(spec: MaskedAutoencoderSpec) -> dict:
    """The `config.json` of a masked autoencoder."""
    decoder = spec.decoder
    return encoder_config_of(spec.encoder) | {
        "architectures": ["ViTMAEForPreTraining"],
        "decoder_num_hidden_layers": decoder.layers,
        "decoder_hidden_size": decoder.width,
        "decoder_num_attention_heads": decoder.heads,
        "decoder_intermediate_size": (
            4 * decoder.width if decoder.feedforward is None else decoder.feedforward
        ),
    }


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
VIT_MAE = Family(
    name="vit_mae",
    tensors=autoencoder_tensors,
    spec_of=autoencoder_spec_of,
    config_of=autoencoder_config_of,
    prefix="",
    head=(),
    reference="transformers ViTMAEForPreTraining",
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
