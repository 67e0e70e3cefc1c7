"""Uni-Mol: masked atoms of molecules in space.

Source: Zhou et al. 2023, ChemRxiv 10.26434/chemrxiv-2022-jjm0j-v4. Tensor names are those of the
published `mol_pre_all_h_220816.pt` and `mol_pre_no_h_220816.pt` (github.com/deepmodeling/Uni-Mol),
which come without a configuration; its fields are named as the options of their training program.
"""

from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.pair_transformer import PairTransformerSpec
from biofm_jax.zoo.config import activation, published_activation, refuse_other
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.tensors import Flat, OneBatch, Tensor, dense, norm


def tensors(spec: PairTransformerSpec) -> list[Tensor]:
    """The table of a pretrained checkpoint."""
    layer = "encoder.layers.{i}"
    table = [
        Tensor("embed_tokens.weight", "embed/tokens", Flat(1)),
        *norm("encoder.emb_layer_norm", "embed/norm"),
        *dense(f"{layer}.self_attn.in_proj", "blocks/attention/qkv"),
        *dense(f"{layer}.self_attn.out_proj", "blocks/attention/out", 2),
        *norm(f"{layer}.self_attn_layer_norm", "blocks/attention_norm"),
        *dense(f"{layer}.fc1", "blocks/feedforward/up"),
        *dense(f"{layer}.fc2", "blocks/feedforward/down"),
        *norm(f"{layer}.final_layer_norm", "blocks/feedforward_norm"),
        *norm("encoder.final_layer_norm", "final_norm"),
        *dense("gbf_proj.linear1", "pairs/up"),
        *dense("gbf_proj.linear2", "pairs/down"),
        Tensor("gbf.means.weight", "pairs/means", OneBatch()),
        Tensor("gbf.stds.weight", "pairs/stds", OneBatch()),
        Tensor("gbf.mul.weight", "pairs/mul", Flat(2)),
        Tensor("gbf.bias.weight", "pairs/bias", Flat(2)),
    ]
    if spec.geometry:
        table += [
            *norm("encoder.final_head_layer_norm", "geometry/pair_norm"),
            *dense("pair2coord_proj.linear1", "geometry/move_up"),
            *dense("pair2coord_proj.linear2", "geometry/move_down"),
            *dense("dist_head.dense", "geometry/distance_up"),
            *norm("dist_head.layer_norm", "geometry/distance_norm"),
            *dense("dist_head.out_proj", "geometry/distance_down"),
        ]
    if spec.head is not None:
        table += [
            *dense("lm_head.dense", "head/transform"),
            *norm("lm_head.layer_norm", "head/norm"),
            Tensor("lm_head.weight", "head/tokens", Flat(1)),
            Tensor("lm_head.bias", "head/bias"),
        ]
    return table


def spec_of(config: dict) -> PairTransformerSpec:
    """The architecture that the options describe."""
    refuse_other(config, post_ln=(False, None))
    act = activation(config.get("activation_fn", "gelu"))
    return PairTransformerSpec(
        vocabulary=config["vocab_size"],
        layers=config["encoder_layers"],
        width=config["encoder_embed_dim"],
        heads=config["encoder_attention_heads"],
        feedforward=config["encoder_ffn_embed_dim"],
        kernels=config["kernels"],
        activation=act,
        dropout=config.get("dropout", 0.1),
        attention_dropout=config.get("attention_dropout", 0.1),
        head=LanguageHead(activation=act, tied=False),
    )


def config_of(spec: PairTransformerSpec) -> dict:
    """The options of an architecture."""
    return {
        "model_type": "unimol",
        "vocab_size": spec.vocabulary,
        "encoder_layers": spec.layers,
        "encoder_embed_dim": spec.width,
        "encoder_ffn_embed_dim": spec.hidden_width,
        "encoder_attention_heads": spec.heads,
        "kernels": spec.kernels,
        "activation_fn": published_activation(spec.activation),
        "dropout": spec.dropout,
        "attention_dropout": spec.attention_dropout,
    }


UNIMOL = Family(
    name="unimol",
    tensors=tensors,
    spec_of=spec_of,
    config_of=config_of,
    prefix="",
    head=("lm_head.",),
    mean_of_all=True,
    reference="written: biofm_jax/parity/unimol.py",
)
