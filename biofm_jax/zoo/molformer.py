"""MoLFormer: a masked model of SMILES with linear attention.

Source: Ross et al. 2022, doi 10.1038/s42256-022-00580-7. Tensor names and `config.json` are those
of the published ibm/MoLFormer-XL-both-10pct, whose random features lie beside the weights. Its
configuration draws them anew for every batch, in evaluation too (`deterministic_eval` false), so
that no two runs agree; here evaluation uses those of the checkpoint, as with `deterministic_eval`.
"""

from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.linear_attention import LinearAttention
from biofm_jax.models.positions import Rotary
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.zoo.bert import POST
from biofm_jax.zoo.config import activation, published_activation, refuse_other, untied
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.tensors import Flat, Tensor, dense, norm

TOKENS = 202  # of a row in pretraining; rotary angles have no limit


def tensors(spec: TransformerSpec) -> list[Tensor]:
    """The table of `MolformerForMaskedLM`."""
    layer = "molformer.encoder.layer.{i}"
    table = [Tensor("molformer.embeddings.word_embeddings.weight", "embed/tokens", Flat(1))]
    for place, part in enumerate(("query", "key", "value")):
        name = f"{layer}.attention.self.{part}"
        table += dense(name, "blocks/attention/qkv", part=(None, place))
    for ours, theirs in POST.items():
        table += norm(f"{layer}.{theirs}", f"blocks/{ours}")
    features = f"{layer}.attention.self.feature_map.weight"
    table += [
        Tensor(features, "blocks/attention/random_features", Flat(1)),
        *dense(f"{layer}.attention.output.dense", "blocks/attention/out", inputs=2),
        *dense(f"{layer}.intermediate.dense", "blocks/feedforward/up"),
        *dense(f"{layer}.output.dense", "blocks/feedforward/down"),
        *norm("molformer.LayerNorm", "final_norm"),
    ]
    if spec.head is not None:
        table += [
            *dense("lm_head.transform.dense", "head/transform"),
            *norm("lm_head.transform.LayerNorm", "head/norm"),
            *untied(spec, "lm_head.decoder.weight"),
        ]
    return table


def spec_of(config: dict) -> TransformerSpec:
    """The architecture that a `config.json` describes."""
    refuse_other(
        config,
        feature_map_kernel=("relu", None),
        is_decoder=(False, None),
        add_cross_attention=(False, None),
    )
    return TransformerSpec(
        vocabulary=config["vocab_size"],
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        feedforward=config["intermediate_size"],
        norm_position="post",
        norm_epsilon=config["layer_norm_eps"],
        activation=activation(config["hidden_act"]),
        positions=Rotary(),
        linear=LinearAttention(
            features=config["num_random_features"], epsilon=config["linear_attention_eps"]
        ),
        dropout=config.get("hidden_dropout_prob", 0.1),
        head=LanguageHead(
            activation=activation(config["hidden_act"]),
            bias=False,
            tied=config.get("tie_word_embeddings", True),
        ),
        init_std=config.get("initializer_range", 0.02),
    )


def config_of(spec: TransformerSpec) -> dict:
    """The `config.json` of an architecture."""
    return {
        "model_type": "molformer",
        "architectures": ["MolformerForMaskedLM"],
        "vocab_size": spec.vocabulary,
        "num_hidden_layers": spec.layers,
        "hidden_size": spec.width,
        "num_attention_heads": spec.heads,
        "intermediate_size": spec.hidden_width,
        "hidden_act": published_activation(spec.activation),
        "layer_norm_eps": spec.norm_epsilon,
        "linear_attention_eps": spec.linear.epsilon,
        "num_random_features": spec.linear.features,
        "feature_map_kernel": "relu",
        "deterministic_eval": True,
        "max_position_embeddings": TOKENS,
        "hidden_dropout_prob": spec.dropout,
        "embedding_dropout_prob": spec.dropout,
        "initializer_range": spec.init_std,
        "tie_word_embeddings": spec.head is None or spec.head.tied,
    }


MOLFORMER = Family(
    name="molformer",
    tensors=tensors,
    spec_of=spec_of,
    config_of=config_of,
    prefix="molformer.",
    head=("lm_head.",),
    copies={"lm_head.decoder.weight": "molformer.embeddings.word_embeddings.weight"},
    left_out=(r"rotary_embeddings\.(inv_freq|cos_cached|sin_cached)$",),  # computed
    mean_of_all=True,
    reference="written: biofm_jax/parity/molformer.py",
)
