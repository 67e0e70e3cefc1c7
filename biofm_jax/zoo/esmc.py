"""ESM C: masked language models of proteins.

Source: ESM Team 2024, "ESM Cambrian", evolutionaryscale.ai/blog/esm-cambrian. Tensor names and
`config.json` are those of transformers' `esmc`.
"""

from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.positions import Rotary
from biofm_jax.models.transformer import Biases, TransformerSpec
from biofm_jax.zoo.config import activation, published_activation, refuse_other
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.llama import gated_blocks
from biofm_jax.zoo.tensors import Flat, Tensor, dense, norm

# The depth at which a branch is added as it is; deeper stacks add less of each.
UNSCALED_LAYERS = 36


def tensors(spec: TransformerSpec) -> list[Tensor]:
    """The table of `EsmcForMaskedLM`."""
    table = [
        Tensor("esmc.embed_tokens.weight", "embed/tokens", Flat(1)),
        *gated_blocks("esmc.layers.{i}", spec, norm_bias=True),
        *norm("esmc.layers.{i}.self_attn.q_norm", "blocks/attention/q_norm", bias=False),
        *norm("esmc.layers.{i}.self_attn.k_norm", "blocks/attention/k_norm", bias=False),
        *norm("esmc.norm", "final_norm", bias=False),
    ]
    if spec.head is not None:
        table += [
            *dense("lm_head.dense", "head/transform"),
            *norm("lm_head.layer_norm", "head/norm"),
            Tensor("lm_head.decoder.weight", "head/tokens", Flat(1)),
            Tensor("lm_head.decoder.bias", "head/bias"),
        ]
    return table


def spec_of(config: dict) -> TransformerSpec:
    """The architecture that a `config.json` describes."""
    rope = config.get("rope_parameters") or {}
    refuse_other(rope, rope_type=("default", None))
    refuse_other(
        config,
        attention_bias=(False, None),
        mlp_bias=(False, None),
        tie_word_embeddings=(False, None),
    )
    layers = config["num_hidden_layers"]
    return TransformerSpec(
        vocabulary=config["vocab_size"],
        layers=layers,
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        feedforward=config["intermediate_size"],
        activation=activation(config["hidden_act"]),
        gated=True,
        biases=Biases(qkv=False, out=False, up=False, down=False, final_norm=False),
        positions=Rotary(base=rope.get("rope_theta", 10_000.0)),
        qk_norm="width",
        residual_scale=(UNSCALED_LAYERS / layers) ** 0.5,
        head=LanguageHead(tied=False),
        init_std=config.get("initializer_range", 0.02),
    )


def config_of(spec: TransformerSpec) -> dict:
    """The `config.json` of an architecture."""
    return {
        "model_type": "esmc",
        "architectures": ["EsmcForMaskedLM"],
        "vocab_size": spec.vocabulary,
        "num_hidden_layers": spec.layers,
        "hidden_size": spec.width,
        "num_attention_heads": spec.heads,
        "intermediate_size": spec.hidden_width,
        "hidden_act": published_activation(spec.activation),
        "rope_parameters": {"rope_type": "default", "rope_theta": spec.positions.base},
        "initializer_range": spec.init_std,
        "tie_word_embeddings": False,
    }


ESMC = Family(
    name="esmc",
    tensors=tensors,
    spec_of=spec_of,
    config_of=config_of,
    prefix="esmc.",
    head=("lm_head.",),
    left_out=(r"rotary_emb\.(original_)?inv_freq$",),  # computed
    reference="transformers EsmcForMaskedLM",
)
