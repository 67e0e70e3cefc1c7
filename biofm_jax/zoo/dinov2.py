"""DINOv2, with and without registers.

Sources: Oquab et al. 2024, arXiv:2304.07193; Darcet et al. 2024, arXiv:2309.16588 (registers).
Tensor names and `config.json` are those of transformers' `dinov2` and `dinov2_with_registers`.
"""

from biofm_jax.models.heads import PredictionHead
from biofm_jax.models.transformer import Biases
from biofm_jax.models.vision import VisionSpec
from biofm_jax.zoo.config import activation, published_activation
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.tensors import OneBatch, Tensor, dense, norm
from biofm_jax.zoo.vision_layout import (
    IMAGENET,
    class_count,
    image_config,
    image_fields,
    patch_projection,
    sides,
    split_attention,
    written,
)

# Pixels of the crops that the published models embed, of which the table of positions has more.
CROP = 224


def _tensors(spec: VisionSpec, root: str) -> list[Tensor]:
    layer, embeddings = f"{root}.encoder.layer.{{i}}", f"{root}.embeddings"
    attention = f"{layer}.attention"
    names = {name[0]: f"{attention}.attention.{name}" for name in ("query", "key", "value")}
    table = [
        Tensor(f"{embeddings}.cls_token", "embed/class", OneBatch()),
        Tensor(f"{embeddings}.position_embeddings", "embed/positions", OneBatch()),
        *patch_projection(spec, f"{embeddings}.patch_embeddings.projection"),
        *split_attention(names | {"out": f"{attention}.output.dense"}, bias=spec.biases.qkv),
        *norm(f"{layer}.norm1", "blocks/attention_norm"),
        *norm(f"{layer}.norm2", "blocks/feedforward_norm"),
        Tensor(f"{layer}.layer_scale1.lambda1", "blocks/attention_scale"),
        Tensor(f"{layer}.layer_scale2.lambda1", "blocks/feedforward_scale"),
        *norm(f"{root}.layernorm", "final_norm"),
    ]
    # Of the gated one the gate comes first, in one tensor with what it multiplies.
    up, down = ("weights_in", "weights_out") if spec.gated else ("fc1", "fc2")
    table += dense(f"{layer}.mlp.{up}", "blocks/feedforward/up")
    table += dense(f"{layer}.mlp.{down}", "blocks/feedforward/down")
    if spec.mask_vector:
        table.append(Tensor(f"{embeddings}.mask_token", "embed/mask", OneBatch()))
    if spec.registers:
        table.append(Tensor(f"{embeddings}.register_tokens", "embed/registers", OneBatch()))
    if spec.head is not None:
        table += dense("classifier", "head/out")
    return table


def gated_width(width: int, ratio: float) -> int:
    """Of SwiGLU, which keeps two thirds, in multiples of 8."""
    return (int(int(width * ratio) * 2 / 3) + 7) // 8 * 8


def _spec_of(config: dict, classifier: str, **more) -> VisionSpec:
    width, gated = config["hidden_size"], config.get("use_swiglu_ffn", False)
    ratio = config.get("mlp_ratio", 4)
    images = image_fields(config, IMAGENET)
    # The table of positions is of the size of the last steps of pretraining.
    table = tuple(pixels // patch for pixels, patch in zip(images["image"], images["patch"]))
    crop = sides(config.get("crop_size") or _crop(images["image"], images["patch"]))
    classes = {}
    if config.get("architectures") == [classifier]:
        classes = {"head": PredictionHead(class_count(config)), "pooling": "first+mean"}
    return VisionSpec(
        layers=config["num_hidden_layers"],
        width=width,
        heads=config["num_attention_heads"],
        feedforward=gated_width(width, ratio) if gated else int(width * ratio),
        gated=gated,
        activation="silu" if gated else activation(config.get("hidden_act", "gelu")),
        norm_epsilon=config.get("layer_norm_eps", 1e-6),
        biases=Biases(qkv=config.get("qkv_bias", True)),
        layer_scale=float(config.get("layerscale_value", 1.0)),
        dropout=config.get("hidden_dropout_prob", 0.0),
        attention_dropout=config.get("attention_probs_dropout_prob", 0.0),
        init_std=config.get("initializer_range", 0.02),
        **images | {"image": crop, "grid": None if crop == images["image"] else table},
        **classes,
        **more,
    )


def _crop(image: tuple[int, ...], patch: tuple[int, ...]) -> tuple[int, ...]:
    """`CROP`, or less where the table has less; a multiple of the patches."""
    return tuple(min(pixels, CROP // step * step) for pixels, step in zip(image, patch))


def _config_of(spec: VisionSpec, kind: str, classifier: str) -> dict:
    images = image_config(spec, IMAGENET)
    image = tuple(n * patch for n, patch in zip(spec.position_grid, spec.patch))
    images["image_size"] = written(image)
    if spec.image != _crop(image, spec.patch):
        images["crop_size"] = written(spec.image)
    ratio = spec.hidden_width / spec.width
    if spec.gated:
        ratio = 4 if gated_width(spec.width, 4) == spec.hidden_width else 1.5 * ratio
    classes = {"architectures": [classifier.replace("ForImageClassification", "Model")]}
    if spec.head is not None:
        classes = {"architectures": [classifier], "num_labels": spec.head.outputs}
    return {
        "model_type": kind,
        **classes,
        "num_hidden_layers": spec.layers,
        "hidden_size": spec.width,
        "num_attention_heads": spec.heads,
        "mlp_ratio": int(ratio) if ratio == int(ratio) else ratio,
        "use_swiglu_ffn": spec.gated,
        "hidden_act": "gelu" if spec.gated else published_activation(spec.activation),
        "layer_norm_eps": spec.norm_epsilon,
        "qkv_bias": spec.biases.qkv,
        "layerscale_value": spec.layer_scale,
        "hidden_dropout_prob": spec.dropout,
        "attention_probs_dropout_prob": spec.attention_dropout,
        "initializer_range": spec.init_std,
        **images,
    }


PLAIN, REGISTERS = "Dinov2ForImageClassification", "Dinov2WithRegistersForImageClassification"


def tensors(spec: VisionSpec) -> list[Tensor]:
    """The table of `Dinov2Model`, or of `Dinov2ForImageClassification`."""
    return _tensors(spec, "dinov2")


def registers_tensors(spec: VisionSpec) -> list[Tensor]:
    """The same with registers."""
    return _tensors(spec, "dinov2_with_registers")


def spec_of(config: dict) -> VisionSpec:
    """The architecture that a `config.json` describes."""
    return _spec_of(config, PLAIN, mask_vector=config.get("use_mask_token", True))


def registers_spec_of(config: dict) -> VisionSpec:
    """The same with registers."""
    more = {"registers": config.get("num_register_tokens", 4), "mask_vector": True}
    return _spec_of(config, REGISTERS, antialias=True, **more)


def config_of(spec: VisionSpec) -> dict:
    """The `config.json` of an architecture."""
    return _config_of(spec, "dinov2", PLAIN) | {"use_mask_token": spec.mask_vector}


def registers_config_of(spec: VisionSpec) -> dict:
    """The same with registers."""
    config = _config_of(spec, "dinov2_with_registers", REGISTERS)
    return config | {"num_register_tokens": spec.registers}


DINOV2 = Family(
    name="dinov2",
    tensors=tensors,
    spec_of=spec_of,
    config_of=config_of,
    prefix="dinov2.",
    head=("classifier.",),
    cropped=True,
    reference="transformers Dinov2Model, Dinov2ForImageClassification",
)
DINOV2_REGISTERS = Family(
    name="dinov2_with_registers",
    tensors=registers_tensors,
    spec_of=registers_spec_of,
    config_of=registers_config_of,
    prefix="dinov2_with_registers.",
    head=("classifier.",),
    cropped=True,
    reference="transformers Dinov2WithRegistersModel",
)
