"""LLaMA's family: PMC-LLaMA, Me-LLaMA, OpenGenome2-Llama; Mistral: BioMistral.

Sources: Touvron et al. 2023, arXiv 2302.13971 (LLaMA); Jiang et al. 2023, arXiv 2310.06825
(Mistral). Tensor names and `config.json` are those of transformers' `llama` and `mistral`.
"""

import dataclasses
import functools
from collections.abc import Iterator

from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.positions import LongerContext, Rotary
from biofm_jax.models.transformer import Biases, TransformerSpec
from biofm_jax.zoo.config import activation, published_activation, refuse_other, untied
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.tensors import Flat, Tensor, dense, norm

NO_BIASES = Biases(qkv=False, out=False, up=False, down=False)


def gated_blocks(layer: str, spec: TransformerSpec, norm_bias: bool) -> Iterator[Tensor]:
    """The blocks of LLaMA, whose names ESM C takes over; none of their products has a bias."""
    attention = "blocks/attention"
    if spec.key_heads == spec.heads:
        shares = {"q_proj": ("qkv", 0), "k_proj": ("qkv", 1), "v_proj": ("qkv", 2)}
    else:
        shares = {"q_proj": ("q", None), "k_proj": ("kv", 0), "v_proj": ("kv", 1)}
    for name, (path, place) in shares.items():
        part = () if place is None else (None, place)
        yield from dense(f"{layer}.self_attn.{name}", f"{attention}/{path}", bias=False, part=part)
    yield from dense(f"{layer}.self_attn.o_proj", f"{attention}/out", 2, bias=False)
    for place, name in enumerate(("gate_proj", "up_proj")):
        path = "blocks/feedforward/up"
        yield from dense(f"{layer}.mlp.{name}", path, bias=False, part=(None, place))
    yield from dense(f"{layer}.mlp.down_proj", "blocks/feedforward/down", bias=False)
    yield from norm(f"{layer}.input_layernorm", "blocks/attention_norm", norm_bias)
    yield from norm(f"{layer}.post_attention_layernorm", "blocks/feedforward_norm", norm_bias)


def tensors(spec: TransformerSpec) -> list[Tensor]:
    """The table of `LlamaForCausalLM`."""
    return [
        Tensor("model.embed_tokens.weight", "embed/tokens", Flat(1)),
        *gated_blocks("model.layers.{i}", spec, norm_bias=False),
        *norm("model.norm", "final_norm", bias=False),
        *untied(spec, "lm_head.weight"),
    ]


def rotary(config: dict, kinds: tuple[str, ...] = ("default", "llama3")) -> Rotary:
    """The angles, as transformers 5 writes them (`rope_parameters`) or as earlier ones did.

    Args:
        config: the content of a `config.json`.
        kinds: of `rope_type` that are understood, the first where it names none.

    Raises:
        UserError: another `rope_type` (yarn, linear, dynamic), or a part of each head is rotated.
    """
    rope = dict(config.get("rope_scaling") or {})
    rope |= config.get("rope_parameters") or {}
    base = rope.get("rope_theta", config.get("rope_theta", 10_000.0))
    kind = rope.get("rope_type", rope.get("type", kinds[0]))
    refuse_other({"rope_type": kind}, rope_type=kinds)
    refuse_other(config | rope, partial_rotary_factor=(1.0, None))
    if kind == "default":
        return Rotary(base=float(base))
    longer = LongerContext(
        factor=rope["factor"],
        low=rope["low_freq_factor"],
        high=rope["high_freq_factor"],
        original=rope["original_max_position_embeddings"],
    )
    return Rotary(base=float(base), longer=longer)


def _rope_parameters(rotary: Rotary) -> dict:
    if rotary.longer is None:
        return {"rope_type": "default", "rope_theta": rotary.base}
    return {
        "rope_type": "llama3",
        "rope_theta": rotary.base,
        "factor": rotary.longer.factor,
        "low_freq_factor": rotary.longer.low,
        "high_freq_factor": rotary.longer.high,
        "original_max_position_embeddings": rotary.longer.original,
    }


def spec_of(config: dict) -> TransformerSpec:
    """The architecture that a `config.json` describes; the reference reads no window in it."""
    refuse_other(config, attention_bias=(False, None), mlp_bias=(False, None))
    heads = config["num_attention_heads"]
    return TransformerSpec(
        vocabulary=config["vocab_size"],
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_width=config.get("head_dim") or config["hidden_size"] // heads,
        feedforward=config["intermediate_size"],
        causal=True,
        norm="rms",
        norm_epsilon=config["rms_norm_eps"],
        activation=activation(config["hidden_act"]),
        gated=True,
        biases=NO_BIASES,
        positions=rotary(config),
        attention_dropout=config.get("attention_dropout", 0.0),
        head=LanguageHead(
            transform=False, bias=False, tied=config.get("tie_word_embeddings", False)
        ),
        init_std=config.get("initializer_range", 0.02),
    )


def mistral_spec_of(config: dict) -> TransformerSpec:
    """The architecture that a `config.json` describes; without a word on it, the window is 4096."""
    window = config.get("sliding_window", 4096)
    # A query counts itself in its window.
    return dataclasses.replace(spec_of(config), window=None if window is None else window - 1)


def config_of(spec: TransformerSpec, kind: str, architecture: str) -> dict:
    """The `config.json` of an architecture.

    Args:
        spec: the architecture.
        kind: "llama" or "mistral".
        architecture: the class that transformers loads it with.
    """
    return {
        "model_type": kind,
        "architectures": [architecture],
        "vocab_size": spec.vocabulary,
        "num_hidden_layers": spec.layers,
        "hidden_size": spec.width,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.key_heads,
        "head_dim": spec.head_size,
        "intermediate_size": spec.hidden_width,
        "rms_norm_eps": spec.norm_epsilon,
        "hidden_act": published_activation(spec.activation),
        "rope_parameters": _rope_parameters(spec.positions),
        "attention_dropout": spec.attention_dropout,
        "initializer_range": spec.init_std,
        "tie_word_embeddings": spec.head is None or spec.head.tied,
    } | ({} if kind == "llama" else {
        "sliding_window": None if spec.window is None else spec.window + 1
    })  # fmt: skip


_SHARED = dict(
    tensors=tensors,
    prefix="model.",
    head=("lm_head.",),
    copies={"lm_head.weight": "model.embed_tokens.weight"},
    left_out=(r"rotary_emb\.(original_)?inv_freq$",),  # computed
)
LLAMA = Family(
    name="llama",
    spec_of=spec_of,
    config_of=functools.partial(config_of, kind="llama", architecture="LlamaForCausalLM"),
    reference="transformers LlamaForCausalLM",
    **_SHARED,
)
MISTRAL = Family(
    name="mistral",
    spec_of=mistral_spec_of,
    config_of=functools.partial(config_of, kind="mistral", architecture="MistralForCausalLM"),
    reference="transformers MistralForCausalLM",
    **_SHARED,
)
