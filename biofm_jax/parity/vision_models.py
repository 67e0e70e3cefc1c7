"""Small vision transformers by their reference implementation, two shapes or more of each."""

import functools
from collections.abc import Callable
from typing import Any

from biofm_jax.parity.autoencoder_measures import measure_autoencoder
from biofm_jax.parity.compared import Compared
from biofm_jax.parity.references import PAD, VOCABULARY, randomised
from biofm_jax.parity.tower_measures import ROOM, measure_towers
from biofm_jax.parity.vision_measures import (
    kept_patches,
    masked_patches,
    measure_vision,
)
from biofm_jax.zoo.biomedclip import BIOMEDCLIP
from biofm_jax.zoo.clip import CLIP
from biofm_jax.zoo.dinov2 import DINOV2, DINOV2_REGISTERS
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.openai_clip import OPENAI_CLIP
from biofm_jax.zoo.siglip import SIGLIP
from biofm_jax.zoo.timm_vit import TIMM_VIT
from biofm_jax.zoo.vit import VIT, VIT_MAE, VIT_MAE_ENCODER

# Heads and width of the stream: heads of 8 and of 12.
SMALL, WIDE = (4, 32), (2, 24)
LAYERS, FEEDFORWARD = 2, 44


def _build(model: str, config: str, **options) -> Callable[[], Any]:
    def build():
        import transformers

        made = getattr(transformers, config)(**options)
        return randomised(getattr(transformers, model)(made))

    return build


def _sizes(heads: int, width: int, image: int, patch: int) -> dict:
    return dict(
        num_hidden_layers=LAYERS,
        hidden_size=width,
        num_attention_heads=heads,
        image_size=image,
        patch_size=patch,
    )


def _compared(family: Family, variant: str, build: Callable[[], Any], **options) -> Compared:
    measure = functools.partial(measure_vision, build, family, **options)
    return Compared(family.name, variant, family.reference, measure)


def _autoencoder(size: tuple[int, int], masked: float) -> Callable[[], Any]:
    drawing = dict(decoder_num_attention_heads=2, decoder_hidden_size=16,
                   decoder_num_hidden_layers=2, decoder_intermediate_size=36)  # fmt: skip
    options = _sizes(*size, 12, 4) | drawing | {"intermediate_size": FEEDFORWARD}
    return _build("ViTMAEForPreTraining", "ViTMAEConfig", mask_ratio=masked, **options)


def _kept(masked: float) -> Callable:
    return functools.partial(kept_patches, masked=masked)


def vision_comparisons() -> list[Compared]:
    """The references of the families of one image tower."""
    small, wide = _sizes(*SMALL, 16, 4), _sizes(*WIDE, 12, 4)
    feed = dict(intermediate_size=FEEDFORWARD)
    vit, mae = "ViTConfig", ("ViTMAEModel", "ViTMAEConfig")
    dinov2, registers = "Dinov2Config", "Dinov2WithRegistersConfig"
    resampled = dict(other_size=(24, 12))
    return [
        _compared(VIT, "4 heads of 8, pooler, another size",
                  _build("ViTModel", vit, **feed, **small),
                  interpolate_pos_encoding=True, **resampled),
        _compared(VIT, "2 heads of 12, relu, classifier",
                  _build("ViTForImageClassification", vit, hidden_act="relu", qkv_bias=False,
                         num_labels=5, **feed, **wide)),
        _compared(VIT_MAE_ENCODER, "4 heads of 8, a quarter of the patches",
                  _build(*mae, **feed, **small), view=_kept(0.75)),
        _compared(VIT_MAE_ENCODER, "2 heads of 12, half of the patches",
                  _build(*mae, mask_ratio=0.5, **feed, **wide), view=_kept(0.5)),
        *(
            Compared(VIT_MAE.name, f"{size[0]} heads of {size[1] // size[0]}", VIT_MAE.reference,
                     functools.partial(measure_autoencoder, _autoencoder(size, masked), VIT_MAE,
                                       masked))
            for size, masked in ((SMALL, 0.75), (WIDE, 0.5))
        ),
        _compared(DINOV2, "4 heads of 8, masks, another size",
                  _build("Dinov2Model", dinov2, layerscale_value=0.1, **small),
                  view=masked_patches, **resampled),
        _compared(DINOV2, "2 heads of 12, SwiGLU",
                  _build("Dinov2Model", dinov2, use_swiglu_ffn=True, **wide)),
        _compared(DINOV2, "2 heads of 12, classifier",
                  _build("Dinov2ForImageClassification", dinov2, num_labels=5,
                         use_mask_token=False, **wide)),
        _compared(DINOV2_REGISTERS, "4 heads of 8, masks, another size",
                  _build("Dinov2WithRegistersModel", registers, **small),
                  view=masked_patches, **resampled),
        _compared(DINOV2_REGISTERS, "2 heads of 12, SwiGLU",
                  _build("Dinov2WithRegistersModel", registers, use_swiglu_ffn=True,
                         num_register_tokens=3, **wide)),
        *_timm(),
        *_towers(),
        *_authors_towers(),
        *_biomedclip(),
    ]  # fmt: skip


def _timm() -> list[Compared]:
    """As UNI, as UNI2-h (registers without positions) and as Virchow 2 (with them)."""
    packed = dict(mlp_layer="SwiGLUPacked", act_layer="SiLU", mlp_ratio=2.66667 * 2)
    found = []
    for variant, (heads, width), args in (
        ("4 heads of 8, layer scale, another size", SMALL, dict(init_values=1e-5)),
        ("2 heads of 12, SwiGLU, registers", WIDE,
         packed | dict(init_values=1e-5, reg_tokens=3, no_embed_class=True)),
        ("4 heads of 8, SwiGLU, registers with positions", SMALL, packed | dict(reg_tokens=2)),
    ):  # fmt: skip
        sizes = dict(img_size=12, patch_size=4, embed_dim=width, depth=LAYERS, num_heads=heads)
        config = dict(architecture="vit_base_patch16_224", num_classes=0, model_args=sizes | args)
        resampled = {"other_size": (24, 12)} if "another" in variant else {}
        found.append(_compared(TIMM_VIT, variant, _timm_build(config), **resampled))
    return found


def _timm_build(config: dict) -> Callable[[], Any]:
    def build():
        from biofm_jax.parity.timm_vit import TimmVit

        return randomised(TimmVit(config))

    return build


def _authors_towers() -> list[Compared]:
    """CLIP in its authors' layout; the text's tower is the narrower one, then the wider."""
    found = []
    for (heads, width), other, act in ((SMALL, WIDE, "quick_gelu"), (WIDE, SMALL, "gelu")):
        feed = dict(intermediate_size=FEEDFORWARD, hidden_act=act)
        config = dict(
            model_type="clip",
            projection_dim=20,
            vision_config=_sizes(heads, width, 12, 4) | feed,
            text_config=feed
            | dict(vocab_size=VOCABULARY, num_hidden_layers=1, max_position_embeddings=ROOM)
            | dict(num_attention_heads=other[0], hidden_size=other[1]),
        )
        measure = functools.partial(measure_towers, _authors_build(config), OPENAI_CLIP)
        variant = f"{heads} heads of {width // heads}"
        found.append(Compared(OPENAI_CLIP.name, variant, OPENAI_CLIP.reference, measure))
    return found


def _authors_build(config: dict) -> Callable[[], Any]:
    def build():
        from biofm_jax.parity.openai_clip import OpenaiClip

        return randomised(OpenaiClip(config))

    return build


def _towers() -> list[Compared]:
    """CLIP and SigLIP; the towers have other widths in CLIP, and one in SigLIP."""
    text = dict(
        intermediate_size=FEEDFORWARD,
        vocab_size=VOCABULARY,
        num_hidden_layers=1,
        max_position_embeddings=ROOM,
        bos_token_id=2,
        eos_token_id=2,
        pad_token_id=PAD,
    )
    found = []
    for (heads, width), other in ((SMALL, WIDE), (WIDE, SMALL)):
        vision = _sizes(heads, width, 12, 4) | dict(intermediate_size=FEEDFORWARD)
        shape = f"{heads} heads of {width // heads}"
        act = "quick_gelu" if width == SMALL[1] else "gelu"
        clip = dict(
            projection_dim=20,
            vision_config=vision | dict(hidden_act=act),
            text_config=text | dict(num_attention_heads=other[0], hidden_size=other[1]),
        )
        siglip = dict(
            vision_config=vision,
            text_config=text | dict(num_attention_heads=heads, hidden_size=width),
        )
        for family, model, config, options in (
            (CLIP, "CLIPModel", "CLIPConfig", clip),
            (SIGLIP, "SiglipModel", "SiglipConfig", siglip),
        ):
            measure = functools.partial(measure_towers, _build(model, config, **options), family)
            found.append(Compared(family.name, shape, family.reference, measure))
    return found


def _biomedclip() -> list[Compared]:
    """As published, and with a linear projection of texts."""
    found = []
    for (heads, width), other, kind in ((SMALL, WIDE, "mlp"), (WIDE, SMALL, "linear")):
        sizes = dict(patch_size=4, embed_dim=width, depth=LAYERS, num_heads=heads)
        image = dict(timm_model_name="vit_base_patch16_224", timm_pool="", timm_proj="linear",
                     image_size=12, timm_model_args=sizes)  # fmt: skip
        bert = dict(num_attention_heads=other[0], hidden_size=other[1], num_hidden_layers=LAYERS,
                    intermediate_size=FEEDFORWARD, vocab_size=VOCABULARY,
                    max_position_embeddings=ROOM)  # fmt: skip
        words = dict(hf_model_config=bert, hf_proj_type=kind,
                     hf_pooler_type="cls_last_hidden_state_pooler")  # fmt: skip
        model = dict(embed_dim=20, vision_cfg=image, text_cfg=words)
        build = functools.partial(_biomedclip_build, dict(model_cfg=model))
        shape = f"{heads} heads of {width // heads}, {kind}"
        measure = functools.partial(measure_towers, build, BIOMEDCLIP)
        found.append(Compared(BIOMEDCLIP.name, shape, BIOMEDCLIP.reference, measure))
    return found


def _biomedclip_build(config: dict) -> Any:
    from biofm_jax.parity.biomedclip import BiomedClip

    return randomised(BiomedClip(config))
