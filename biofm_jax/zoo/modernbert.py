"""ModernBERT, of which BioClinical ModernBERT is one.

Source: Warner et al. 2024, arXiv 2412.13663. Tensor names and `config.json` are those of
transformers' `modernbert`.
"""

from biofm_jax.errors import UserError
from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.positions import LocalLayers, Rotary
from biofm_jax.models.transformer import Biases, TransformerSpec
from biofm_jax.zoo.config import activation, published_activation, refuse_other, untied
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.tensors import Flat, Tensor, dense, norm

KINDS = ("full_attention", "sliding_attention")  # of layers


def tensors(spec: TransformerSpec) -> list[Tensor]:
    """The table of `ModernBertForMaskedLM`; the first layer has no norm before attention."""
    layer = "model.layers.{i}"
    table = [
        Tensor("model.embeddings.tok_embeddings.weight", "embed/tokens", Flat(1)),
        *norm("model.embeddings.norm", "embed/norm", bias=False),
        *norm(f"{layer}.attn_norm", "blocks/attention_norm", bias=False, first=1),
        *dense(f"{layer}.attn.Wqkv", "blocks/attention/qkv", bias=False),
        *dense(f"{layer}.attn.Wo", "blocks/attention/out", 2, bias=False),
        *norm(f"{layer}.mlp_norm", "blocks/feedforward_norm", bias=False),
        *dense(f"{layer}.mlp.Wi", "blocks/feedforward/up", bias=False),
        *dense(f"{layer}.mlp.Wo", "blocks/feedforward/down", bias=False),
        *norm("model.final_norm", "final_norm", bias=False),
    ]
    if spec.head is not None:
        table += [
            *dense("head.dense", "head/transform", bias=False),
            *norm("head.norm", "head/norm", bias=False),
            Tensor("decoder.bias", "head/bias"),
            *untied(spec, "decoder.weight"),
        ]
    return table


def _local(config: dict) -> LocalLayers:
    kinds = config.get("layer_types")
    if not kinds:
        every = config["global_attn_every_n_layers"]
    else:
        whole = [i for i, kind in enumerate(kinds) if kind == "full_attention"]
        every = whole[1] if len(whole) > 1 else len(kinds)
        if len(kinds) != config["num_hidden_layers"] or set(kinds) - set(KINDS):
            raise UserError(
                f"config.json: layer_types has {len(kinds)} entries, {', '.join(sorted({*kinds}))};"
                f" this package reads one of {' or '.join(KINDS)} for each layer"
            )
        if whole != list(range(0, len(kinds), every)):
            raise UserError(
                f"config.json: layer_types has full attention in the layers {whole}; this "
                "package reads every n-th layer, from the first"
            )
    base = _base(config, "sliding_attention", "local_rope_theta")
    return LocalLayers(window=config["local_attention"] // 2, base=base, every=every)


def _base(config: dict, kind: str, field: str) -> float:
    """The base of the angles of a kind of layers; `field` is its name before transformers 5."""
    rope = (config.get("rope_parameters") or {}).get(kind) or {}
    refuse_other(rope, rope_type=("default", None), partial_rotary_factor=(1.0, None))
    base = rope.get("rope_theta", config.get(field))
    if base is None:
        raise KeyError(field)
    return float(base)


def spec_of(config: dict) -> TransformerSpec:
    """The architecture that a `config.json` describes."""
    refuse_other(
        config,
        attention_bias=(False, None),
        mlp_bias=(False, None),
        norm_bias=(False, None),
        classifier_bias=(False, None),
        decoder_bias=(True, None),
        rope_scaling=(None,),
    )
    return TransformerSpec(
        vocabulary=config["vocab_size"],
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        feedforward=config["intermediate_size"],
        norm_epsilon=config["norm_eps"],
        activation=activation(config["hidden_activation"]),
        gated=True,
        biases=Biases(False, False, False, False, norm=False, final_norm=False),
        positions=Rotary(base=_base(config, "full_attention", "global_rope_theta")),
        local=_local(config),
        first_norm=False,
        embedding_norm=True,
        head=LanguageHead(
            activation=activation(config.get("classifier_activation", "gelu")),
            transform_bias=False,
            tied=config.get("tie_word_embeddings", True),
        ),
        init_std=config.get("initializer_range", 0.02),
    )


def config_of(spec: TransformerSpec) -> dict:
    """The `config.json` of an architecture."""
    head, local = spec.head, spec.local
    kinds = ["sliding_attention" if i % local.every else "full_attention"
             for i in range(spec.layers)]  # fmt: skip
    return {
        "model_type": "modernbert",
        "architectures": ["ModernBertForMaskedLM"],
        "vocab_size": spec.vocabulary,
        "num_hidden_layers": spec.layers,
        "hidden_size": spec.width,
        "num_attention_heads": spec.heads,
        "intermediate_size": spec.hidden_width,
        "hidden_activation": published_activation(spec.activation),
        "norm_eps": spec.norm_epsilon,
        "norm_bias": False,
        "local_attention": 2 * local.window,
        "layer_types": kinds,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": spec.positions.base},
            "sliding_attention": {"rope_type": "default", "rope_theta": local.base},
        },
        "classifier_activation": published_activation(head.activation if head else "gelu"),
        "initializer_range": spec.init_std,
        "tie_word_embeddings": head is None or head.tied,
    }


MODERNBERT = Family(
    name="modernbert",
    tensors=tensors,
    spec_of=spec_of,
    config_of=config_of,
    prefix="model.",
    head=("head.", "decoder."),
    copies={"decoder.weight": "model.embeddings.tok_embeddings.weight"},
    reference="transformers ModernBertForMaskedLM",
)
