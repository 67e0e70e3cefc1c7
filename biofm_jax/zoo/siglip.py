"""SigLIP: two towers whose pairs are judged one by one; MedSigLIP.

Sources: Zhai et al. 2023, arXiv:2303.15343 (SigLIP); Sellergren et al. 2025, arXiv:2507.05201
(MedSigLIP). Tensor names and `config.json` are those of transformers' `siglip`.
"""

from biofm_jax.models.dual_encoder import DualEncoderSpec, SharedSpace
from biofm_jax.models.heads import ProjectionHead
from biofm_jax.models.padded_text import PaddedTextSpec
from biofm_jax.models.positions import Learned
from biofm_jax.models.vision import VisionSpec
from biofm_jax.zoo.clip import blocks, text_tensors, tower_config, tower_fields
from biofm_jax.zoo.config import activation, refuse_other
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.tensors import Flat, Linear, OneBatch, Tensor, dense, norm
from biofm_jax.zoo.vision_layout import HALF, image_config, image_fields, patch_projection

VISION = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
              num_attention_heads=12, image_size=224, patch_size=16)  # fmt: skip
TEXT = dict(vocab_size=32000, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
            num_attention_heads=12, max_position_embeddings=64, pad_token_id=1)  # fmt: skip


def tensors(spec: DualEncoderSpec) -> list[Tensor]:
    """The table of `SiglipModel`."""
    embeddings, head, pool = "vision_model.embeddings", "vision_model.head", "first/pool"
    return [
        Tensor("logit_scale", "space/scale"),
        Tensor("logit_bias", "space/bias"),
        Tensor(f"{embeddings}.position_embedding.weight", "first/embed/positions", Flat(1)),
        *patch_projection(spec.first, f"{embeddings}.patch_embedding", "first/embed/patches"),
        *blocks("vision_model", "first/"),
        *norm("vision_model.post_layernorm", "first/final_norm"),
        Tensor(f"{head}.probe", f"{pool}/query", OneBatch()),
        *attention_in(f"{head}.attention.in_proj", f"{pool}/qkv"),
        *dense(f"{head}.attention.out_proj", f"{pool}/out", 2),
        *norm(f"{head}.layernorm", f"{pool}/norm"),
        *dense(f"{head}.mlp.fc1", f"{pool}/feedforward/up"),
        *dense(f"{head}.mlp.fc2", f"{pool}/feedforward/down"),
        *text_tensors(),
        *dense("text_model.head", "second/head/dense_0"),
    ]


def attention_in(name: str, path: str) -> list[Tensor]:
    """Queries, keys and values of `torch.nn.MultiheadAttention`, in one tensor."""
    return [
        Tensor(f"{name}_weight", f"{path}/kernel", Linear()),
        Tensor(f"{name}_bias", f"{path}/bias"),
    ]


def _kind(config: dict) -> dict:
    return dict(
        activation=activation(config.get("hidden_act", "gelu_pytorch_tanh")),
        norm_epsilon=config.get("layer_norm_eps", 1e-6),
    )


def spec_of(config: dict) -> DualEncoderSpec:
    """The architecture that a `config.json` describes; what it leaves out is as in ViT-B/16."""
    vision, text = VISION | config["vision_config"], TEXT | config["text_config"]
    refuse_other(vision, vision_use_head=(True, None))
    norms = {name: config[name] for name in ("image_mean", "image_std") if name in config}
    width = text.get("projection_size") or text["hidden_size"]
    return DualEncoderSpec(
        VisionSpec(
            **tower_fields(vision),
            **_kind(vision),
            **image_fields(vision | norms, HALF),
            class_token=False,
            class_position=False,
            pooling="attention",
        ),
        PaddedTextSpec(
            vocabulary=text["vocab_size"],
            **tower_fields(text),
            **_kind(text),
            positions=Learned(text["max_position_embeddings"]),
            padding=text["pad_token_id"],
            pooling="last",
            head=ProjectionHead(width, layers=1),
        ),
        # Where training starts (section 4 of the paper); a checkpoint has its own.
        SharedSpace(0.1, bias=-10.0),
    )


def config_of(spec: DualEncoderSpec) -> dict:
    """The `config.json` of an architecture."""
    images = image_config(spec.first, HALF)
    norms = {name: images.pop(name) for name in ("image_mean", "image_std") if name in images}
    return {
        "model_type": "siglip",
        "architectures": ["SiglipModel"],
        "vision_config": {
            "model_type": "siglip_vision_model",
            **tower_config(spec.first),
            **images,
        },
        "text_config": {
            "model_type": "siglip_text_model",
            "vocab_size": spec.second.vocabulary,
            "max_position_embeddings": spec.second.positions.maximum,
            "pad_token_id": spec.second.padding,
            "projection_size": spec.second.head.width,
            **tower_config(spec.second),
        },
        **norms,
    }


SIGLIP = Family(
    name="siglip",
    tensors=tensors,
    spec_of=spec_of,
    config_of=config_of,
    prefix="",
    head=(),
    left_out=(r"embeddings\.position_ids$",),
    reference="transformers SiglipModel",
)
