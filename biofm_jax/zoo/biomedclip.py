"""BiomedCLIP: a vision transformer of timm and PubMedBERT in one space, in open_clip's layout.

Source: Zhang et al. 2023, arXiv:2303.00915. Tensor names and `open_clip_config.json` are those of
open_clip (github.com/mlfoundations/open_clip: `timm_model.py`, `hf_model.py`). That file names the
towers and not their sizes; for towers of other sizes `timm_model_args` and `hf_model_config`, which
are this package's, hold what timm's `model_args` and BERT's `config.json` do.
"""

import dataclasses

from biofm_jax.errors import UserError
from biofm_jax.models.dual_encoder import DualEncoderSpec, SharedSpace
from biofm_jax.models.heads import MlpProjectionHead, ProjectionHead
from biofm_jax.zoo import timm_vit
from biofm_jax.zoo.bert import POST, bert_config_of, bert_spec_of, body
from biofm_jax.zoo.config import refuse_other
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.tensors import OneBatch, Tensor, dense, norm
from biofm_jax.zoo.vision_layout import OPENAI, written

BASE = dict(vocab_size=30522, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
            num_attention_heads=12, max_position_embeddings=512, type_vocab_size=2,
            layer_norm_eps=1e-12, hidden_act="gelu", initializer_range=0.02)  # fmt: skip
# PubMedBERT by its old and its present name.
BERTS = {
    f"microsoft/BiomedNLP-{name}-base-uncased-abstract{of}": BASE
    for name in ("PubMedBERT", "BiomedBERT")
    for of in ("", "-fulltext")
}


def tensors(spec: DualEncoderSpec) -> list[Tensor]:
    """The table of open_clip's `CustomTextCLIP` with these towers."""
    text = [
        *body("text.transformer", POST),
        *norm("text.transformer.embeddings.LayerNorm", "embed/norm"),
    ]
    layers = spec.second.head.layers
    for i in range(layers):  # in a sequence activations stand between them
        name = "text.proj" if layers == 1 else f"text.proj.{2 * i}"
        text += dense(name, f"head/dense_{i}", bias=False)
    return [
        Tensor("logit_scale", "space/scale", OneBatch(0)),
        *timm_vit.trunk_tensors(spec.first, "visual.trunk.", "first/"),
        *dense("visual.head.proj", "first/head/dense_0", bias=False),
        *(dataclasses.replace(tensor, path=f"second/{tensor.path}") for tensor in text),
    ]


def spec_of(config: dict) -> DualEncoderSpec:
    """The architecture that an `open_clip_config.json` describes.

    Raises:
        UserError: towers, poolings or projections that have no counterpart here.
    """
    model, images = config["model_cfg"], config.get("preprocess_cfg", {})
    vision, text = model["vision_cfg"], model["text_cfg"]
    # What open_clip takes for a field that is left out; an empty pool is the tower's own.
    refuse_other({"timm_pool": "avg"} | vision, timm_pool=("", "token"))
    refuse_other(vision, timm_proj=("linear",), timm_proj_bias=(False, None))
    pooler = text.get("hf_pooler_type", text.get("pooler_type"))  # the older name
    refuse_other({"hf_pooler_type": pooler}, hf_pooler_type=("cls_last_hidden_state_pooler",))
    kind = text.get("hf_proj_type", text.get("proj"))
    refuse_other({"hf_proj_type": kind}, hf_proj_type=("mlp", "linear"))
    width = model["embed_dim"]
    first = timm_vit.spec_of(
        {
            "architecture": vision["timm_model_name"],
            "model_args": {"img_size": vision.get("image_size", 224)}
            | vision.get("timm_model_args", {}),
            "pretrained_cfg": {
                "mean": images.get("mean", OPENAI[0]),
                "std": images.get("std", OPENAI[1]),
            },
        }
    )
    bert = bert_spec_of(_bert(text))
    linear = {"width": width, "bias": False}
    head = ProjectionHead(layers=1, **linear)
    inner = MlpProjectionHead(hidden=(bert.width + width) // 2, **linear)
    return DualEncoderSpec(
        first.replaced(head=head),
        bert.replaced(head=inner if kind == "mlp" else head, pooling="first"),
        SharedSpace(0.07),
    )


def _bert(text: dict) -> dict:
    if "hf_model_config" in text:
        return BASE | text["hf_model_config"]
    if (name := text["hf_model_name"]) not in BERTS:
        raise UserError(
            f"open_clip_config.json: hf_model_name is {name!r}, whose sizes are not known here; "
            'give them in text_cfg as "hf_model_config": the content of its config.json'
        )
    return BERTS[name]


def config_of(spec: DualEncoderSpec) -> dict:
    """The `open_clip_config.json` of an architecture.

    The sizes of a tower are written out where they are not those of its name, for open_clip refuses
    a file with fields of others.
    """
    known = next(iter(BERTS))
    image, bert = _image_args(spec), _bert_config(spec)
    vision = {
        "timm_model_name": "vit_base_patch16_224",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": written(spec.first.image),
    }
    text = {
        "hf_model_name": known,
        "hf_tokenizer_name": known,
        "hf_proj_type": "linear" if spec.second.head.layers == 1 else "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": 256,
    }
    model = {"embed_dim": spec.first.head.width, "vision_cfg": vision, "text_cfg": text}
    images = {"mean": list(spec.first.mean), "std": list(spec.first.deviation)}
    plain = spec_of({"model_cfg": model, "preprocess_cfg": images})
    if image != _image_args(plain):
        vision["timm_model_args"] = image
    if bert != _bert_config(plain):
        text["hf_model_config"] = bert
    return {"model_cfg": model, "preprocess_cfg": images}


def _image_args(spec: DualEncoderSpec) -> dict:
    return timm_vit.config_of(spec.first.replaced(head=None))["model_args"]


def _bert_config(spec: DualEncoderSpec) -> dict:
    return bert_config_of(spec.second.replaced(head=None))


BIOMEDCLIP = Family(
    name="biomedclip",
    tensors=tensors,
    spec_of=spec_of,
    config_of=config_of,
    prefix="",
    head=(),
    left_out=(r"embeddings\.position_ids$",),
    config="open_clip_config.json",
    weights="open_clip_model.safetensors",
    cropped=True,
    reference="transformers BertModel, and written: biofm_jax/parity/timm_vit.py",
)
