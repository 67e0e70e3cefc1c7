"""BERT and its relatives: BioBERT, ProtBERT, DNABERT, Geneformer; RoBERTa; Megatron-BERT.

Sources: Devlin et al. 2019, arXiv 1810.04805 (BERT); Liu et al. 2019, arXiv 1907.11692 (RoBERTa);
Shoeybi et al. 2019, arXiv 1909.08053 (Megatron-LM, whose BERT has its norms before the branches).
Tensor names and `config.json` are those of transformers' `bert`, `roberta` and `megatron_bert`.
"""

from collections.abc import Iterator

from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.positions import Learned
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.zoo.config import activation, published_activation, refuse_other, untied
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.tensors import Flat, Tensor, dense, norm

# RoBERTa's padding has id 1, and positions count from the id after it.
ROBERTA_OFFSET = 2


def body(root: str, norms: dict[str, str]) -> list[Tensor]:
    """Embeddings and blocks; `norms` has the two norms' names within a layer, by ours."""
    layer = f"{root}.encoder.layer.{{i}}"
    table = [
        Tensor(f"{root}.embeddings.word_embeddings.weight", "embed/tokens", Flat(1)),
        Tensor(f"{root}.embeddings.position_embeddings.weight", "embed/positions", Flat(1)),
        Tensor(f"{root}.embeddings.token_type_embeddings.weight", "embed/types", Flat(1)),
    ]
    for place, part in enumerate(("query", "key", "value")):
        name = f"{layer}.attention.self.{part}"
        table += dense(name, "blocks/attention/qkv", part=(None, place))
    for ours, theirs in norms.items():
        table += norm(f"{layer}.{theirs}", f"blocks/{ours}")
    return [
        *table,
        *dense(f"{layer}.attention.output.dense", "blocks/attention/out", inputs=2),
        *dense(f"{layer}.intermediate.dense", "blocks/feedforward/up"),
        *dense(f"{layer}.output.dense", "blocks/feedforward/down"),
    ]


POST = {
    "attention_norm": "attention.output.LayerNorm",
    "feedforward_norm": "output.LayerNorm",
}
PRE = {"attention_norm": "attention.ln", "feedforward_norm": "ln"}


def _bert_head(spec: TransformerSpec) -> Iterator[Tensor]:
    if spec.head is None:
        return
    yield from dense("cls.predictions.transform.dense", "head/transform")
    yield from norm("cls.predictions.transform.LayerNorm", "head/norm")
    yield from _decoder(spec, "cls.predictions")


def _decoder(spec: TransformerSpec, name: str) -> list[Tensor]:
    """Output weights and bias; an untied decoder has its own, and `NAME.bias` goes unused."""
    if spec.head.tied:
        return [Tensor(f"{name}.bias", "head/bias")]
    return [*untied(spec, f"{name}.decoder.weight"), Tensor(f"{name}.decoder.bias", "head/bias")]


def bert_tensors(spec: TransformerSpec) -> list[Tensor]:
    """The table of `BertForMaskedLM`."""
    embedding_norm = norm("bert.embeddings.LayerNorm", "embed/norm")
    return [*body("bert", POST), *embedding_norm, *_bert_head(spec)]


def megatron_tensors(spec: TransformerSpec) -> list[Tensor]:
    """The table of `MegatronBertForMaskedLM`."""
    return [*body("bert", PRE), *norm("bert.encoder.ln", "final_norm"), *_bert_head(spec)]


def roberta_tensors(spec: TransformerSpec) -> list[Tensor]:
    """The table of `RobertaForMaskedLM`."""
    table = [*body("roberta", POST), *norm("roberta.embeddings.LayerNorm", "embed/norm")]
    if spec.head is not None:
        table += [
            *dense("lm_head.dense", "head/transform"),
            *norm("lm_head.layer_norm", "head/norm"),
            *_decoder(spec, "lm_head"),
        ]
    return table


def _spec_of(config: dict, offset: int = 0, head_activation: str = "gelu", **more):
    refuse_other(
        config,
        position_embedding_type=("absolute", None),
        is_decoder=(False, None),
        add_cross_attention=(False, None),
    )
    return TransformerSpec(
        vocabulary=config["vocab_size"],
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        feedforward=config["intermediate_size"],
        norm_epsilon=config["layer_norm_eps"],
        activation=activation(config["hidden_act"]),
        positions=Learned(config["max_position_embeddings"] - offset, offset),
        token_types=config["type_vocab_size"],
        dropout=config.get("hidden_dropout_prob", 0.1),
        attention_dropout=config.get("attention_probs_dropout_prob", 0.1),
        head=LanguageHead(activation=head_activation, tied=config.get("tie_word_embeddings", True)),
        init_std=config.get("initializer_range", 0.02),
        **more,
    )


def bert_spec_of(config: dict) -> TransformerSpec:
    """The architecture that a `config.json` describes; its head's activation is the body's."""
    return _spec_of(
        config,
        head_activation=activation(config["hidden_act"]),
        norm_position="post",
        final_norm=False,
        embedding_norm=True,
    )


def roberta_spec_of(config: dict) -> TransformerSpec:
    """The architecture that a `config.json` describes; its head's activation is always gelu."""
    refuse_other(config, pad_token_id=(1,))
    return _spec_of(
        config, ROBERTA_OFFSET, norm_position="post", final_norm=False, embedding_norm=True
    )


def megatron_spec_of(config: dict) -> TransformerSpec:
    """The architecture that a `config.json` describes."""
    return _spec_of(config, head_activation=activation(config["hidden_act"]))


def _config_of(spec: TransformerSpec, kind: str, architecture: str, **more) -> dict:
    return {
        "model_type": kind,
        "architectures": [architecture],
        "vocab_size": spec.vocabulary,
        "num_hidden_layers": spec.layers,
        "hidden_size": spec.width,
        "num_attention_heads": spec.heads,
        "intermediate_size": spec.hidden_width,
        "hidden_act": published_activation(spec.activation),
        "layer_norm_eps": spec.norm_epsilon,
        "max_position_embeddings": spec.positions.maximum + spec.positions.offset,
        "type_vocab_size": spec.token_types,
        "hidden_dropout_prob": spec.dropout,
        "attention_probs_dropout_prob": spec.attention_dropout,
        "initializer_range": spec.init_std,
        "tie_word_embeddings": spec.head is None or spec.head.tied,
        **more,
    }


def bert_config_of(spec: TransformerSpec) -> dict:
    """The `config.json` of an architecture."""
    return _config_of(spec, "bert", "BertForMaskedLM")


def roberta_config_of(spec: TransformerSpec) -> dict:
    """The `config.json` of an architecture."""
    return _config_of(spec, "roberta", "RobertaForMaskedLM", pad_token_id=1)


def megatron_config_of(spec: TransformerSpec) -> dict:
    """The `config.json` of an architecture."""
    return _config_of(spec, "megatron-bert", "MegatronBertForMaskedLM")


_BERT = dict(
    prefix="bert.",
    head=("cls.predictions.",),
    copies={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    left_out=(
        r"embeddings\.position_ids$",
        r"^bert\.pooler\.",  # of the next-sentence task, as is seq_relationship
        r"^cls\.seq_relationship\.",
        r"^cls\.predictions\.bias$",  # of a decoder that is not tied
    ),
)
BERT = Family(
    name="bert",
    tensors=bert_tensors,
    spec_of=bert_spec_of,
    config_of=bert_config_of,
    reference="transformers BertForMaskedLM",
    **_BERT,
)
MEGATRON = Family(
    name="megatron-bert",
    tensors=megatron_tensors,
    spec_of=megatron_spec_of,
    config_of=megatron_config_of,
    reference="transformers MegatronBertForMaskedLM",
    **_BERT,
)
ROBERTA = Family(
    name="roberta",
    tensors=roberta_tensors,
    spec_of=roberta_spec_of,
    config_of=roberta_config_of,
    prefix="roberta.",
    head=("lm_head.",),
    copies={
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    left_out=(r"embeddings\.position_ids$", r"^roberta\.pooler\.", r"^lm_head\.bias$"),
    reference="transformers RobertaForMaskedLM",
)
