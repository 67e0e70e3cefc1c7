"""Vision transformers in the layout of timm: UNI, Virchow, Prov-GigaPath, H-optimus, RETFound.

Sources: Chen et al. 2024, doi 10.1038/s41591-024-02857-3 (UNI); Vorontsov et al. 2024, doi
10.1038/s41591-024-03141-0 (Virchow); Xu et al. 2024, doi 10.1038/s41586-024-07441-w
(Prov-GigaPath); Zhou et al. 2023, doi 10.1038/s41586-023-06555-x (RETFound, in the layout of
masked autoencoders, whose encoder has the same names). Tensor names and `config.json` are those of
timm (github.com/huggingface/pytorch-image-models, `vision_transformer.py`).
"""

import dataclasses
from collections.abc import Callable

from biofm_jax.errors import UserError
from biofm_jax.models.heads import PredictionHead
from biofm_jax.models.transformer import Biases
from biofm_jax.models.vision import VisionSpec
from biofm_jax.zoo.config import refuse_other
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.tensors import Linear, OneBatch, Tensor, dense, norm
from biofm_jax.zoo.vision_layout import IMAGENET, patch_projection, sides, written

_DINOV2 = dict(patch_size=14, img_size=518, init_values=1e-5)
_GIANT = dict(embed_dim=1536, depth=40, num_heads=24, mlp_ratio=2.66667 * 2,
              mlp_layer="SwiGLUPacked", act_layer="SiLU")  # fmt: skip
_SIZES = {
    "small": dict(embed_dim=384, depth=12, num_heads=6),
    "base": dict(embed_dim=768, depth=12, num_heads=12),
    "large": dict(embed_dim=1024, depth=24, num_heads=16),
}
# timm's names of architectures; a `config.json` says in `model_args` what differs.
ARCHITECTURES: dict[str, dict] = {
    **{f"vit_{size}_patch16_224": args for size, args in _SIZES.items()},
    **{f"vit_{size}_patch14_dinov2": args | _DINOV2 for size, args in _SIZES.items()},
    "vit_base_patch8_224": _SIZES["base"] | dict(patch_size=8),
    "vit_large_patch14_224": _SIZES["large"] | dict(patch_size=14),
    "vit_huge_patch14_224": dict(embed_dim=1280, depth=32, num_heads=16, patch_size=14),
    "vit_giant_patch14_224": dict(
        embed_dim=1408, depth=40, num_heads=16, patch_size=14, mlp_ratio=48 / 11
    ),
    "vit_giant_patch14_dinov2": _GIANT | _DINOV2,
}
ARCHITECTURES |= {
    name.replace("_dinov2", "_reg4_dinov2"): args | dict(reg_tokens=4, no_embed_class=True)
    for name, args in ARCHITECTURES.items()
    if name.endswith("_dinov2")
}
KNOWN = {"img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "qkv_bias",
         "init_values", "reg_tokens", "no_embed_class", "mlp_layer", "act_layer", "num_classes",
         "in_chans", "global_pool", "dynamic_img_size"}  # fmt: skip


def tensors(spec: VisionSpec) -> list[Tensor]:
    """The table of timm's `VisionTransformer`."""
    return [*trunk_tensors(spec), *(dense("head", "head/out") if spec.head is not None else ())]


def trunk_tensors(spec: VisionSpec, root: str = "", ours: str = "") -> list[Tensor]:
    """The same without a head.

    Args:
        spec: the model's.
        root: of the published names, with a dot at its end, or nothing.
        ours: of our paths, with a slash at its end, or nothing.
    """
    layer, blocks = f"{root}blocks.{{i}}", f"{ours}blocks"
    table = [
        Tensor(f"{root}cls_token", f"{ours}embed/class", OneBatch()),
        Tensor(f"{root}pos_embed", f"{ours}embed/positions", OneBatch()),
        *patch_projection(spec, f"{root}patch_embed.proj", f"{ours}embed/patches"),
        *norm(f"{layer}.norm1", f"{blocks}/attention_norm"),
        Tensor(f"{layer}.attn.qkv.weight", f"{blocks}/attention/qkv/kernel", Linear()),
        *dense(f"{layer}.attn.proj", f"{blocks}/attention/out", 2),
        *norm(f"{layer}.norm2", f"{blocks}/feedforward_norm"),
        *dense(f"{layer}.mlp.fc1", f"{blocks}/feedforward/up"),
        *dense(f"{layer}.mlp.fc2", f"{blocks}/feedforward/down"),
        *norm(f"{root}norm", f"{ours}final_norm"),
    ]
    if spec.biases.qkv:
        table.append(Tensor(f"{layer}.attn.qkv.bias", f"{blocks}/attention/qkv/bias"))
    if spec.layer_scale is not None:
        table.append(Tensor(f"{layer}.ls1.gamma", f"{blocks}/attention_scale"))
        table.append(Tensor(f"{layer}.ls2.gamma", f"{blocks}/feedforward_scale"))
    if spec.registers:
        table.append(Tensor(f"{root}reg_token", f"{ours}embed/registers", OneBatch()))
    return table


def spec_of(config: dict) -> VisionSpec:
    """The architecture that a `config.json` of timm describes.

    Raises:
        UserError: an architecture or an argument that has no counterpart here.
    """
    name = config["architecture"].partition(".")[0]
    if name not in ARCHITECTURES:
        raise UserError(
            f"config.json: architecture is {name!r}; this package reads {', '.join(ARCHITECTURES)}"
        )
    given = {k: v for k, v in config.get("model_args", {}).items() if v is not None}
    if unknown := sorted(given.keys() - KNOWN):
        raise UserError(f"config.json: model_args has {', '.join(unknown)}, unknown here")
    args = dict(patch_size=16, img_size=224, mlp_ratio=4.0, qkv_bias=True) | ARCHITECTURES[name]
    args |= given
    refuse_other(args, mlp_layer=(None, "Mlp", "SwiGLUPacked"), act_layer=(None, "GELU", "SiLU"),
                 global_pool=(None, "token", ""))  # fmt: skip
    gated = args.get("mlp_layer") == "SwiGLUPacked"
    hidden, registers = int(args["embed_dim"] * args["mlp_ratio"]), args.get("reg_tokens", 0)
    bare = bool(args.get("no_embed_class", False))
    classes = args.get("num_classes", config.get("num_classes", 0))
    said = config.get("pretrained_cfg", {})
    return VisionSpec(
        layers=args["depth"],
        width=args["embed_dim"],
        heads=args["num_heads"],
        feedforward=hidden // 2 if gated else hidden,
        gated=gated,
        activation="silu" if args.get("act_layer") == "SiLU" else "gelu",
        biases=Biases(qkv=args["qkv_bias"]),
        layer_scale=args.get("init_values"),
        image=sides(args["img_size"]),
        patch=sides(args["patch_size"]),
        channels=args.get("in_chans", 3),
        mean=tuple(said.get("mean", IMAGENET[0])),
        deviation=tuple(said.get("std", IMAGENET[1])),
        antialias=True,
        class_position=not bare,
        registers=registers,
        register_positions=registers > 0 and not bare,
        pooling=config.get("pooling", "first"),
        head=PredictionHead(classes) if classes else None,
    )


def config_of(spec: VisionSpec) -> dict:
    """The `config.json` of an architecture, all arguments written out."""
    hidden = spec.hidden_width * (2 if spec.gated else 1)
    ratio = hidden / spec.width
    while int(spec.width * ratio) < hidden:  # rounded down
        ratio += 1e-9
    args = dict(
        img_size=written(spec.image),
        patch_size=written(spec.patch),
        embed_dim=spec.width,
        depth=spec.layers,
        num_heads=spec.heads,
        mlp_ratio=ratio,
        qkv_bias=spec.biases.qkv,
        init_values=spec.layer_scale,
        reg_tokens=spec.registers,
        no_embed_class=not spec.class_position,
        in_chans=spec.channels,
    )
    if spec.gated:
        args["mlp_layer"] = "SwiGLUPacked"
    if spec.activation == "silu":
        args["act_layer"] = "SiLU"
    return {
        "architecture": "vit_base_patch16_224",
        "num_classes": 0 if spec.head is None else spec.head.outputs,
        "model_args": args,
        "pooling": spec.pooling,
        "pretrained_cfg": {"mean": list(spec.mean), "std": list(spec.deviation)},
    }


def settle(spec: VisionSpec, matching: Callable[[str], list]) -> VisionSpec:
    """What a configuration leaves to the call of `create_model`, and the tensors tell."""
    up, down = matching(r"^blocks\.0\.mlp\.fc1\.bias$"), matching(r"^blocks\.0\.mlp\.fc2\.weight$")
    if up and down and len(up[0]) == 2 * down[0].shape[1] and not spec.gated:
        spec = dataclasses.replace(
            spec, gated=True, activation="silu", feedforward=down[0].shape[1]
        )
    scaled = bool(matching(r"^blocks\.0\.ls1\.gamma$"))
    if scaled != (spec.layer_scale is not None):
        spec = dataclasses.replace(spec, layer_scale=1e-5 if scaled else None)
    if registers := matching(r"^reg_token$"):
        spec = dataclasses.replace(spec, registers=registers[0].shape[1])
    if table := matching(r"^pos_embed$"):
        patches = spec.position_grid[0] * spec.position_grid[1]
        before = table[0].shape[1] - patches
        if before in (0, 1, 1 + spec.registers):
            more = spec.registers > 0 and before == 1 + spec.registers
            spec = dataclasses.replace(spec, class_position=before > 0, register_positions=more)
    return spec


TIMM_VIT = Family(
    name="timm_vit",
    tensors=tensors,
    spec_of=spec_of,
    config_of=config_of,
    prefix="",
    head=("head.",),
    ignored=(r"^decoder_", r"^mask_token$"),  # of a masked autoencoder
    settle=settle,
    reference="written: biofm_jax/parity/timm_vit.py",
)
