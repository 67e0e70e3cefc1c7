"""GPT-2's family: ProtGPT2 of proteins, BioMedLM of biomedical text.

Source: Radford et al. 2019, "Language models are unsupervised multitask learners". Tensor names and
`config.json` are those of transformers' `gpt2`, whose `Conv1D` stores (inputs, outputs).
"""

from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.positions import Learned
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.zoo.config import activation, published_activation, refuse_other, untied
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.tensors import Flat, Tensor, norm


def tensors(spec: TransformerSpec) -> list[Tensor]:
    """The table of `GPT2LMHeadModel`."""
    layer = "transformer.h.{i}"
    table = [
        Tensor("transformer.wte.weight", "embed/tokens", Flat(1)),
        Tensor("transformer.wpe.weight", "embed/positions", Flat(1)),
        *norm(f"{layer}.ln_1", "blocks/attention_norm"),
        *norm(f"{layer}.ln_2", "blocks/feedforward_norm"),
        *norm("transformer.ln_f", "final_norm"),
        *untied(spec, "lm_head.weight"),
    ]
    for name, path, inputs in (
        ("attn.c_attn", "blocks/attention/qkv", 1),
        ("attn.c_proj", "blocks/attention/out", 2),
        ("mlp.c_fc", "blocks/feedforward/up", 1),
        ("mlp.c_proj", "blocks/feedforward/down", 1),
    ):
        table.append(Tensor(f"{layer}.{name}.weight", f"{path}/kernel", Flat(inputs)))
        table.append(Tensor(f"{layer}.{name}.bias", f"{path}/bias"))
    return table


def spec_of(config: dict) -> TransformerSpec:
    """The architecture that a `config.json` describes."""
    refuse_other(
        config,
        scale_attn_weights=(True, None),
        add_cross_attention=(False, None),
    )
    return TransformerSpec(
        vocabulary=config["vocab_size"],
        layers=config["n_layer"],
        width=config["n_embd"],
        heads=config["n_head"],
        feedforward=config.get("n_inner") or 4 * config["n_embd"],
        causal=True,
        norm_epsilon=config["layer_norm_epsilon"],
        activation=activation(config["activation_function"]),
        positions=Learned(config["n_positions"]),
        attention_by_depth=bool(config.get("scale_attn_by_inverse_layer_idx", False)),
        dropout=config.get("resid_pdrop", 0.1),
        attention_dropout=config.get("attn_pdrop", 0.1),
        head=LanguageHead(
            transform=False, bias=False, tied=config.get("tie_word_embeddings", True)
        ),
        init_std=config.get("initializer_range", 0.02),
        init_by_depth=True,
    )


def config_of(spec: TransformerSpec) -> dict:
    """The `config.json` of an architecture."""
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": spec.vocabulary,
        "n_layer": spec.layers,
        "n_embd": spec.width,
        "n_head": spec.heads,
        "n_inner": spec.hidden_width,
        "n_positions": spec.positions.maximum,
        "layer_norm_epsilon": spec.norm_epsilon,
        "scale_attn_by_inverse_layer_idx": spec.attention_by_depth,
        "activation_function": published_activation(spec.activation),
        "resid_pdrop": spec.dropout,
        "embd_pdrop": spec.dropout,
        "attn_pdrop": spec.attention_dropout,
        "initializer_range": spec.init_std,
        "tie_word_embeddings": spec.head is None or spec.head.tied,
    }


GPT2 = Family(
    name="gpt2",
    tensors=tensors,
    spec_of=spec_of,
    config_of=config_of,
    prefix="transformer.",
    head=("lm_head.",),
    copies={"lm_head.weight": "transformer.wte.weight"},
    left_out=(r"\.attn\.bias$", r"\.attn\.masked_bias$"),  # the causal mask, as a buffer
    reference="transformers GPT2LMHeadModel",
)
