"""GPT-J's block, and ProGen2 of proteins, which is made of it.

Sources: Wang and Komatsuzaki 2021, github.com/kingoflolz/mesh-transformer-jax (GPT-J); Nijkamp et
al. 2023, "ProGen2: exploring the boundaries of protein language models", doi
10.1016/j.cels.2023.10.002. Tensor names and `config.json` are those of transformers' `gptj`, and
of the published ProGen2 checkpoints.
"""

import dataclasses

import numpy as np

from biofm_jax.errors import UserError
from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.positions import Rotary
from biofm_jax.models.transformer import Biases, TransformerSpec
from biofm_jax.zoo.config import activation, published_activation, refuse_other, untied
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.tensors import Flat, Shape, Tensor, dense, norm

NAMES = ("q_proj", "k_proj", "v_proj")
CORES = 8  # of the TPUs that ProGen2 was trained on


@dataclasses.dataclass(frozen=True)
class Shares:
    """ProGen2's `qkv_proj`: cut for 8 TPU cores, of which each has queries, values, keys.

    Published (cores x 3 x heads of a core x head width, inputs); ours (d, 3, h, w) in the order
    queries, keys, values.

    Attributes:
        cores: into how many shares the heads are cut.
    """

    cores: int = CORES

    def published_shape(self, shape: Shape) -> Shape:
        """The published tensor's shape, from the part's."""
        d, three, h, w = shape
        return three * h * w, d

    def to_ours(self, array: np.ndarray, shape: Shape) -> np.ndarray:
        """A published tensor as the part of that shape."""
        d, _, h, w = shape
        shares = array.reshape(self.cores, 3, h // self.cores, w, d)[:, [0, 2, 1]]
        return shares.transpose(4, 1, 0, 2, 3).reshape(shape)

    def to_published(self, array: np.ndarray) -> np.ndarray:
        """The inverse of `to_ours`."""
        d, _, h, w = array.shape
        shares = array.reshape(d, 3, self.cores, h // self.cores, w).transpose(2, 1, 3, 4, 0)
        return shares[:, [0, 2, 1]].reshape(self.published_shape(array.shape))


def _around_attention(spec: TransformerSpec) -> list[Tensor]:
    layer = "transformer.h.{i}"
    table = [
        Tensor("transformer.wte.weight", "embed/tokens", Flat(1)),
        *norm(f"{layer}.ln_1", "blocks/attention_norm"),
        *dense(f"{layer}.attn.out_proj", "blocks/attention/out", 2, bias=False),
        *dense(f"{layer}.mlp.fc_in", "blocks/feedforward/up"),
        *dense(f"{layer}.mlp.fc_out", "blocks/feedforward/down"),
        *norm("transformer.ln_f", "final_norm"),
        *untied(spec, "lm_head.weight"),
    ]
    if spec.head is not None:
        table.append(Tensor("lm_head.bias", "head/bias"))
    return table


def gptj_tensors(spec: TransformerSpec) -> list[Tensor]:
    """The table of `GPTJForCausalLM`."""
    table = _around_attention(spec)
    for place, part in enumerate(NAMES):
        name = f"transformer.h.{{i}}.attn.{part}"
        table += dense(name, "blocks/attention/qkv", bias=False, part=(None, place))
    return table


def progen2_tensors(spec: TransformerSpec) -> list[Tensor]:
    """The table of a ProGen2 checkpoint."""
    name = "transformer.h.{i}.attn.qkv_proj.weight"
    return [*_around_attention(spec), Tensor(name, "blocks/attention/qkv/kernel", Shares())]


def spec_of(config: dict) -> TransformerSpec:
    """The architecture that a `config.json` describes."""
    refuse_other(config, tie_word_embeddings=(False,), scale_attn_weights=(True, None))
    head_width, rotated = config["n_embd"] // config["n_head"], config["rotary_dim"]
    if not rotated:
        raise UserError(f"config.json: rotary_dim is {rotated!r}; this package reads a number")
    return TransformerSpec(
        vocabulary=config.get("vocab_size") or config["vocab_size_emb"],
        layers=config["n_layer"],
        width=config["n_embd"],
        heads=config["n_head"],
        feedforward=config.get("n_inner") or 4 * config["n_embd"],
        causal=True,
        norm_epsilon=config["layer_norm_epsilon"],
        activation=activation(config["activation_function"]),
        biases=Biases(qkv=False, out=False),
        positions=Rotary(fraction=rotated / head_width, interleaved=True),
        parallel="shared",
        dropout=config.get("resid_pdrop", 0.0),
        attention_dropout=config.get("attn_pdrop", 0.0),
        head=LanguageHead(transform=False, tied=False),
        init_std=config.get("initializer_range", 0.02),
    )


def progen2_spec_of(config: dict) -> TransformerSpec:
    """The architecture that a `config.json` describes; its heads are shared out to 8 cores.

    The copies at hugohrban/progen2-* call the width `embed_dim`.
    """
    config = config | {"n_embd": config.get("n_embd") or config["embed_dim"]}
    if config["n_head"] % CORES:
        raise UserError(
            f"config.json: n_head is {config['n_head']}; a ProGen2 checkpoint has its heads in "
            f"{CORES} shares, so the number is a multiple of {CORES}"
        )
    return spec_of(config)


def _config_of(spec: TransformerSpec, kind: str, architecture: str) -> dict:
    return {
        "model_type": kind,
        "architectures": [architecture],
        "vocab_size": spec.vocabulary,
        "n_layer": spec.layers,
        "n_embd": spec.width,
        "n_head": spec.heads,
        "n_inner": spec.hidden_width,
        "n_positions": 2048,
        "rotary_dim": round(spec.positions.fraction * spec.head_size),
        "layer_norm_epsilon": spec.norm_epsilon,
        "activation_function": published_activation(spec.activation),
        "resid_pdrop": spec.dropout,
        "embd_pdrop": spec.dropout,
        "attn_pdrop": spec.attention_dropout,
        "initializer_range": spec.init_std,
        "tie_word_embeddings": False,
    }


def gptj_config_of(spec: TransformerSpec) -> dict:
    """The `config.json` of an architecture."""
    return _config_of(spec, "gptj", "GPTJForCausalLM")


def progen2_config_of(spec: TransformerSpec) -> dict:
    """The `config.json` of an architecture."""
    return _config_of(spec, "progen", "ProGenForCausalLM")


_SHARED = dict(
    prefix="transformer.",
    head=("lm_head.",),
    # The causal mask and the table of angles, as buffers.
    left_out=(r"\.attn\.(bias|masked_bias|causal_mask)$", r"embed_positions$", r"scale_attn$"),
)
GPTJ = Family(
    name="gptj",
    spec_of=spec_of,
    tensors=gptj_tensors,
    config_of=gptj_config_of,
    reference="transformers GPTJForCausalLM",
    **_SHARED,
)
PROGEN2 = Family(
    name="progen",
    spec_of=progen2_spec_of,
    tensors=progen2_tensors,
    config_of=progen2_config_of,
    reference="written: biofm_jax/parity/progen2.py",
    **_SHARED,
)
