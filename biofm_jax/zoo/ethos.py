"""ETHOS: causal models of patients' health timelines.

Sources: Renc et al. 2024, doi 10.1038/s41746-024-01235-0, github.com/ipolharvard/ethos-paper; Renc
et al. 2025, arXiv 2502.06124, github.com/ipolharvard/ethos-ares. The block is GPT-2's, its products
and norms without biases, and tensor names are nearly those of transformers' `gpt2`; but weights lie
as in `torch.nn.Linear`, the other way round. Fields of `config.json`, which the authors do not
publish, are named as in their code: `ModelConfig`, and transformers' `GPT2Config` in the second.

A checkpoint of theirs holds the optimizer and an object of Python beside the weights ("model") and
is refused: save `checkpoint["model"]` alone, with torch.
"""

from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.positions import Learned
from biofm_jax.models.transformer import Biases, TransformerSpec
from biofm_jax.zoo.config import activation, published_activation, refuse_other
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.tensors import Flat, Tensor, dense, norm

NO_BIASES = Biases(qkv=False, out=False, up=False, down=False, norm=False, final_norm=False)


def tensors(spec: TransformerSpec) -> list[Tensor]:
    """The table of an ETHOS checkpoint."""
    layer, bias = "transformer.h.{i}", spec.biases.qkv
    return [
        Tensor("transformer.wte.weight", "embed/tokens", Flat(1)),
        Tensor("transformer.wpe.weight", "embed/positions", Flat(1)),
        *norm(f"{layer}.ln_1", "blocks/attention_norm", bias),
        *dense(f"{layer}.attn.c_attn", "blocks/attention/qkv", bias=bias),
        *dense(f"{layer}.attn.c_proj", "blocks/attention/out", 2, bias=bias),
        *norm(f"{layer}.ln_2", "blocks/feedforward_norm", bias),
        *dense(f"{layer}.mlp.c_fc", "blocks/feedforward/up", bias=bias),
        *dense(f"{layer}.mlp.c_proj", "blocks/feedforward/down", bias=bias),
        *norm("transformer.ln_f", "final_norm", bias),
    ]


def spec_of(config: dict) -> TransformerSpec:
    """The architecture that the fields of the authors' configuration describe."""
    refuse_other(config, bias=(True, False), n_inner=(None, 4 * config["n_embd"]))
    dropout = config.get("dropout", config.get("resid_pdrop", 0.0))
    return TransformerSpec(
        vocabulary=config["vocab_size"],
        layers=config["n_layer"],
        width=config["n_embd"],
        heads=config["n_head"],
        causal=True,
        activation=activation(config.get("activation_function", "gelu")),
        biases=Biases() if config["bias"] else NO_BIASES,
        positions=Learned(config.get("block_size") or config["n_positions"]),
        dropout=dropout,
        attention_dropout=config.get("attn_pdrop", dropout),
        head=LanguageHead(transform=False, bias=False),
        init_by_depth=True,
    )


def config_of(spec: TransformerSpec) -> dict:
    """The fields of an architecture."""
    return {
        "model_type": "ethos",
        "vocab_size": spec.vocabulary,
        "block_size": spec.positions.maximum,
        "n_layer": spec.layers,
        "n_embd": spec.width,
        "n_head": spec.heads,
        "bias": spec.biases.qkv,
        "activation_function": published_activation(spec.activation),
        "dropout": spec.dropout,
        "attn_pdrop": spec.attention_dropout,
    }


ETHOS = Family(
    name="ethos",
    tensors=tensors,
    spec_of=spec_of,
    config_of=config_of,
    prefix="transformer.",
    head=("lm_head.",),
    copies={"lm_head.weight": "transformer.wte.weight"},
    reference="written: biofm_jax/parity/ethos.py",
)
