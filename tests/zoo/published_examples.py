"""A small published checkpoint, made of numbers alone."""

import dataclasses
import json

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from biofm_jax.zoo.bert import BERT
from biofm_jax.zoo.esm import ESM
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.importing import model_places

ESM_CONFIG = dict(
    model_type="esm", vocab_size=33, num_hidden_layers=2, hidden_size=16, num_attention_heads=2,
    intermediate_size=24, position_embedding_type="rotary", token_dropout=True, mask_token_id=32,
    pad_token_id=1, layer_norm_eps=1e-5, emb_layer_norm_before=False,
)  # fmt: skip
BERT_CONFIG = dict(
    model_type="bert", vocab_size=30, num_hidden_layers=2, hidden_size=16, num_attention_heads=2,
    intermediate_size=24, max_position_embeddings=20, type_vocab_size=2, layer_norm_eps=1e-12,
    hidden_act="gelu",
)  # fmt: skip
CONFIGS: dict[str, tuple[Family, dict]] = {
    "esm": (ESM, ESM_CONFIG),
    "bert": (BERT, BERT_CONFIG),
}


def tensors_of(name: str, dtype=np.float32, **changes) -> dict[str, np.ndarray]:
    """Random tensors of every name in a family's table."""
    family, config = CONFIGS[name]
    spec = family.spec_of(config | changes)
    rng = np.random.default_rng(0)
    return {
        place.name: rng.normal(size=place.published_shape).astype(dtype)
        for place in model_places(family, spec)
    }


def spec_of(name: str, **changes):
    family, config = CONFIGS[name]
    return dataclasses.replace(family.spec_of(config | changes), backend="xla")


def save_published(folder, name: str, tensors, **changes):
    """A folder as it is published: weights, configuration, and ESM's tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIGS[name][1] | changes))
    if name == "esm":
        letters = list("LAGVSERTIDPKQNFYMHWCXBUZO.-")
        words = ["<cls>", "<pad>", "<eos>", "<unk>", *letters, "<null_1>", "<mask>"]
        (folder / "vocab.txt").write_text("\n".join(words))
    return folder


HALVES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
