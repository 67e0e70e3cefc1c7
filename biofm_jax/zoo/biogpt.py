"""BioGPT: a causal model of biomedical abstracts.

Source: Luo et al. 2022, doi 10.1093/bib/bbac409; licence of code and weights: MIT. Tensor names
and `config.json` are those of transformers' `biogpt`.
"""

from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.positions import Learned
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.zoo.config import activation, published_activation, refuse_other, untied
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.tensors import Flat, Tensor, dense, norm

OFFSET = 2  # as fairseq's learned positions, which count from the padding id


def tensors(spec: TransformerSpec) -> list[Tensor]:
    """The table of `BioGptForCausalLM`."""
    layer = "biogpt.layers.{i}"
    table = [
        Tensor("biogpt.embed_tokens.weight", "embed/tokens", Flat(1)),
        Tensor("biogpt.embed_positions.weight", "embed/positions", Flat(1)),
        *norm(f"{layer}.self_attn_layer_norm", "blocks/attention_norm"),
        *norm(f"{layer}.final_layer_norm", "blocks/feedforward_norm"),
        *dense(f"{layer}.self_attn.out_proj", "blocks/attention/out", 2),
        *dense(f"{layer}.fc1", "blocks/feedforward/up"),
        *dense(f"{layer}.fc2", "blocks/feedforward/down"),
        *norm("biogpt.layer_norm", "final_norm"),
        *untied(spec, "output_projection.weight"),
    ]
    for place, part in enumerate(("q_proj", "k_proj", "v_proj")):
        table += dense(f"{layer}.self_attn.{part}", "blocks/attention/qkv", part=(None, place))
    return table


def spec_of(config: dict) -> TransformerSpec:
    """The architecture that a `config.json` describes."""
    refuse_other(config, is_decoder=(True, False, None), add_cross_attention=(False, None))
    width = config["hidden_size"]
    return TransformerSpec(
        vocabulary=config["vocab_size"],
        layers=config["num_hidden_layers"],
        width=width,
        heads=config["num_attention_heads"],
        feedforward=config["intermediate_size"],
        causal=True,
        # The reference's norms take their default, whatever `layer_norm_eps` says.
        norm_epsilon=1e-5,
        activation=activation(config["hidden_act"]),
        positions=Learned(config["max_position_embeddings"], OFFSET),
        embedding_scale=width**0.5 if config["scale_embedding"] else 1.0,
        dropout=config.get("hidden_dropout_prob", 0.1),
        attention_dropout=config.get("attention_probs_dropout_prob", 0.1),
        head=LanguageHead(
            transform=False, bias=False, tied=config.get("tie_word_embeddings", True)
        ),
        init_std=config.get("initializer_range", 0.02),
    )


def config_of(spec: TransformerSpec) -> dict:
    """The `config.json` of an architecture."""
    return {
        "model_type": "biogpt",
        "architectures": ["BioGptForCausalLM"],
        "vocab_size": spec.vocabulary,
        "num_hidden_layers": spec.layers,
        "hidden_size": spec.width,
        "num_attention_heads": spec.heads,
        "intermediate_size": spec.hidden_width,
        "hidden_act": published_activation(spec.activation),
        "max_position_embeddings": spec.positions.maximum,
        "scale_embedding": spec.embedding_scale != 1.0,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 1,
        "hidden_dropout_prob": spec.dropout,
        "attention_probs_dropout_prob": spec.attention_dropout,
        "initializer_range": spec.init_std,
        "tie_word_embeddings": spec.head is None or spec.head.tied,
    }


BIOGPT = Family(
    name="biogpt",
    tensors=tensors,
    spec_of=spec_of,
    config_of=config_of,
    prefix="biogpt.",
    head=("output_projection.",),
    copies={"output_projection.weight": "biogpt.embed_tokens.weight"},
    reference="transformers BioGptForCausalLM",
)
