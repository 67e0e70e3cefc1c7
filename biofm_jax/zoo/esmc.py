"""ESM C: masked language models of proteins.

Source: ESM Team 2024, "ESM Cambrian", evolutionaryscale.ai/blog/esm-cambrian. Tensor names and
`config.json` are those of transformers' `esmc`; those that its authors released, and those at their
later hub (github.com/Biohub/esm), are other layouts of the same models.
"""

from collections.abc import Iterable

from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.transformer import Biases, TransformerSpec
from biofm_jax.zoo.config import activation, published_activation, refuse_other
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.llama import gated_blocks, rotary
from biofm_jax.zoo.tensors import Flat, Linear, Tensor, dense, norm

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


# Fields of Biohub's files by those of transformers.
BIOHUB_FIELDS = {
    "num_hidden_layers": "n_layers", "hidden_size": "d_model", "num_attention_heads": "n_heads",
}  # fmt: skip


def spec_of(config: dict) -> TransformerSpec:
    """The architecture that a `config.json` describes.

    One of Biohub's has other names of the sizes, and leaves out what all ESM C models share: the
    activation, and the feed-forward of 8/3 of the width, rounded up to a multiple of 256.
    """
    if "d_model" in config:
        named = {name: config[theirs] for name, theirs in BIOHUB_FIELDS.items()}
        inner = int((8 / 3 * config["d_model"] + 255) // 256 * 256)
        config = {"intermediate_size": inner, "hidden_act": "silu"} | config | named
    layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
    refuse_other(
        config,
        attention_bias=(False, None),
        mlp_bias=(False, None),
        tie_word_embeddings=(False, None),
        num_key_value_heads=(heads, None),
        head_dim=(config["hidden_size"] // heads, None),
    )
    return TransformerSpec(
        vocabulary=config["vocab_size"],
        layers=layers,
        width=config["hidden_size"],
        heads=heads,
        feedforward=config["intermediate_size"],
        activation=activation(config["hidden_act"]),
        gated=True,
        biases=Biases(qkv=False, out=False, up=False, down=False, final_norm=False),
        positions=rotary(config, ("default",)),
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


def released_tensors(spec: TransformerSpec) -> list[Tensor]:
    """The table of the files that ESM C's authors released (`esmc_300m_2024_12_v0.pth`)."""
    layer = "transformer.blocks.{i}"
    return [
        *norm(f"{layer}.attn.layernorm_qkv.0", "blocks/attention_norm"),
        *dense(f"{layer}.attn.layernorm_qkv.1", "blocks/attention/qkv", bias=False),
        *norm(f"{layer}.ffn.0", "blocks/feedforward_norm"),
        *dense(f"{layer}.ffn.1", "blocks/feedforward/up", bias=False),
        *dense(f"{layer}.ffn.3", "blocks/feedforward/down", bias=False),
        *_around_fused(spec, "", "sequence_head"),
    ]


def biohub_tensors(spec: TransformerSpec) -> list[Tensor]:
    """The table of Biohub's files: parameters of Transformer Engine's fused modules."""
    layer = "esmc.transformer.blocks.{i}"
    attention, feedforward = f"{layer}.attn.layernorm_qkv", f"{layer}.ffn"
    table = [*_around_fused(spec, "esmc.", "lm_head")]
    for module, path in ((attention, "attention_norm"), (feedforward, "feedforward_norm")):
        table.append(Tensor(f"{module}.layer_norm_weight", f"blocks/{path}/scale"))
        table.append(Tensor(f"{module}.layer_norm_bias", f"blocks/{path}/bias"))
    for name, path in (
        (f"{attention}.weight", "attention/qkv"),
        (f"{feedforward}.fc1_weight", "feedforward/up"),
        (f"{feedforward}.fc2_weight", "feedforward/down"),
    ):
        table.append(Tensor(name, f"blocks/{path}/kernel", Linear()))
    return table


def _around_fused(spec: TransformerSpec, prefix: str, head: str) -> Iterable[Tensor]:
    """What both layouts name alike, behind the prefix of the body and that of the head."""
    layer = f"{prefix}transformer.blocks.{{i}}.attn"
    yield Tensor(f"{prefix}embed.weight", "embed/tokens", Flat(1))
    yield from norm(f"{layer}.q_ln", "blocks/attention/q_norm", bias=False)
    yield from norm(f"{layer}.k_ln", "blocks/attention/k_norm", bias=False)
    yield from dense(f"{layer}.out_proj", "blocks/attention/out", 2, bias=False)
    yield from norm(f"{prefix}transformer.norm", "final_norm", bias=False)
    if spec.head is not None:
        yield from dense(f"{head}.0", "head/transform")
        yield from norm(f"{head}.2", "head/norm")
        yield Tensor(f"{head}.3.weight", "head/tokens", Flat(1))
        yield Tensor(f"{head}.3.bias", "head/bias")


ESMC = Family(
    name="esmc",
    tensors=tensors,
    spec_of=spec_of,
    config_of=config_of,
    prefix="esmc.",
    head=("lm_head.",),
    left_out=(r"rotary_emb\.(original_)?inv_freq$",),  # computed
    reference="transformers EsmcForMaskedLM",
    other_layouts=("esmc-released", "esmc-biohub"),
)
ESMC_RELEASED = Family(
    name="esmc-released",
    tensors=released_tensors,
    spec_of=spec_of,
    config_of=config_of,
    prefix="",
    head=("sequence_head.",),
    reference="written: biofm_jax/parity/esmc_original.py",
)
ESMC_BIOHUB = Family(
    name="esmc-biohub",
    tensors=biohub_tensors,
    spec_of=spec_of,
    config_of=config_of,
    prefix="esmc.",
    head=("lm_head.",),
    left_out=(r"\._extra_state$",),  # scales of 8-bit products, empty in these files
    model_type="esmc",
    reference="written: biofm_jax/parity/esmc_biohub.py",
)
