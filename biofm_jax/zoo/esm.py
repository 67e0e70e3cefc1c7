"""The ESM family: ESM-2, ESM-1b and 1v of proteins, the Nucleotide Transformer v1 of DNA.

Sources: Lin et al. 2023, "Evolutionary-scale prediction of atomic-level protein structure with a
language model", doi 10.1126/science.ade2574; Rives et al. 2021, doi 10.1073/pnas.2016239118
(ESM-1b); Meier et al. 2021, doi 10.1101/2021.07.09.450648 (ESM-1v); Dalla-Torre et al. 2024, doi
10.1038/s41592-024-02523-z (Nucleotide Transformer). Tensor names and `config.json` are those of
transformers' `esm`.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from biofm_jax.errors import UserError
from biofm_jax.models.embedding import TokenDropout
from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.positions import Learned, Rotary
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.zoo.config import refuse_other, untied
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.tensors import Flat, Tensor, dense, norm

# Ids of the alphabet of ESM-1b and ESM-2.
CLS, PAD, EOS, MASK = 0, 1, 2, 32
# The unused vectors before the first position: those of the padding id and of ids below it.
OFFSET = 2


def _esm2(layers: int, width: int, heads: int) -> TransformerSpec:
    return TransformerSpec(
        vocabulary=33,
        layers=layers,
        width=width,
        heads=heads,
        token_dropout=TokenDropout(mask=MASK),
        special=(CLS, PAD, EOS),
    )


# For experiments; `published.json` has the same shapes for imports.
ESM2: dict[str, TransformerSpec] = {
    "8M": _esm2(6, 320, 20),
    "35M": _esm2(12, 480, 20),
    "150M": _esm2(30, 640, 20),
    "650M": _esm2(33, 1280, 20),
    "3B": _esm2(36, 2560, 40),
    "15B": _esm2(48, 5120, 40),
}


def tensors(spec: TransformerSpec) -> list[Tensor]:
    """The table of `EsmForMaskedLM`."""
    layer, block = "esm.encoder.layer.{i}", "blocks"
    table = [Tensor("esm.embeddings.word_embeddings.weight", "embed/tokens", Flat(1))]
    if isinstance(spec.positions, Learned):
        name = "esm.embeddings.position_embeddings.weight"
        table.append(Tensor(name, "embed/positions", Flat(1)))
    if spec.embedding_norm:
        table += norm("esm.embeddings.layer_norm", "embed/norm")
    for place, part in enumerate(("query", "key", "value")):
        name = f"{layer}.attention.self.{part}"
        table += dense(name, f"{block}/attention/qkv", part=(None, place))
    table += [
        *norm(f"{layer}.attention.LayerNorm", f"{block}/attention_norm"),
        *dense(f"{layer}.attention.output.dense", f"{block}/attention/out", inputs=2),
        *norm(f"{layer}.LayerNorm", f"{block}/feedforward_norm"),
        *dense(f"{layer}.intermediate.dense", f"{block}/feedforward/up"),
        *dense(f"{layer}.output.dense", f"{block}/feedforward/down"),
        *norm("esm.encoder.emb_layer_norm_after", "final_norm"),
    ]
    if spec.head is not None:
        table += [
            *dense("lm_head.dense", "head/transform"),
            *norm("lm_head.layer_norm", "head/norm"),
            Tensor("lm_head.bias", "head/bias"),
            *untied(spec, "lm_head.decoder.weight"),
        ]
    return table


def spec_of(config: dict) -> TransformerSpec:
    """The architecture that a `config.json` describes."""
    refuse_other(
        config,
        hidden_act=("gelu", None),
        is_folding_model=(False, None),
        is_decoder=(False, None),
        add_cross_attention=(False, None),
        position_embedding_type=("rotary", "absolute"),
    )
    positions = Rotary(base=config.get("rope_theta", 10_000.0))
    if config["position_embedding_type"] == "absolute":
        refuse_other(config, pad_token_id=(PAD,))  # positions count from the id after it
        positions = Learned(config["max_position_embeddings"] - OFFSET, OFFSET)
    return TransformerSpec(
        vocabulary=config["vocab_size"],
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        feedforward=config["intermediate_size"],
        norm_epsilon=config["layer_norm_eps"],
        positions=positions,
        embedding_norm=bool(config.get("emb_layer_norm_before")),
        token_dropout=TokenDropout(config["mask_token_id"]) if config["token_dropout"] else None,
        head=LanguageHead(tied=config.get("tie_word_embeddings", True)),
        init_std=config.get("initializer_range", 0.02),
    )


def config_of(spec: TransformerSpec) -> dict:
    """The `config.json` of an architecture."""
    learned = isinstance(spec.positions, Learned)
    return {
        "model_type": "esm",
        "architectures": ["EsmForMaskedLM"],
        "vocab_size": spec.vocabulary,
        "num_hidden_layers": spec.layers,
        "hidden_size": spec.width,
        "num_attention_heads": spec.heads,
        "intermediate_size": spec.hidden_width,
        "layer_norm_eps": spec.norm_epsilon,
        "position_embedding_type": "absolute" if learned else "rotary",
        "max_position_embeddings": spec.positions.maximum + OFFSET if learned else 1026,
        "emb_layer_norm_before": spec.embedding_norm,
        "token_dropout": spec.token_dropout is not None,
        "mask_token_id": MASK if spec.token_dropout is None else spec.token_dropout.mask,
        "pad_token_id": PAD,
        "eos_token_id": EOS,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": spec.init_std,
        "tie_word_embeddings": spec.head is None or spec.head.tied,
    }


def settle(spec: TransformerSpec, matching: Callable[[str], list]) -> TransformerSpec:
    """Rotary frequencies as the checkpoint has them: those of ESM-2 were rounded in pretraining.

    Raises:
        UserError: they are of another kind than this package computes.
    """
    if not isinstance(spec.positions, Rotary):
        return spec
    computed = _frequencies(spec)
    for stored in matching(r"rotary_embeddings\.inv_freq$"):
        other_size = stored.shape != computed.shape  # as other tensors will be, which are listed
        if other_size or np.allclose(stored, computed, rtol=1e-6, atol=0):
            continue
        if not np.allclose(stored, computed.astype(np.float16), rtol=1e-6, atol=0):
            raise UserError("rotary_embeddings.inv_freq holds frequencies of another base or width")
        return dataclasses.replace(
            spec, positions=dataclasses.replace(spec.positions, rounded="float16")
        )
    return spec


def _frequencies(spec: TransformerSpec) -> np.ndarray:
    width = spec.head_size
    return 1.0 / spec.positions.base ** (np.arange(0, width, 2, dtype=np.float32) / width)


ESM = Family(
    name="esm",
    tensors=tensors,
    spec_of=spec_of,
    config_of=config_of,
    prefix="esm.",
    head=("lm_head.",),
    copies={
        "lm_head.decoder.weight": "esm.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    left_out=(
        r"rotary_embeddings\.inv_freq$",  # computed; see `settle`
        r"embeddings\.position_ids$",
        r"^esm\.contact_head\.regression\.",  # read by `interpret.contacts`
        r"^esm\.pooler\.",
    ),
    settle=settle,
    reference="transformers EsmForMaskedLM",
)
