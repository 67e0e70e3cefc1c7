"""MolGPT: a causal model of SMILES.

Source: Bagal et al. 2022, doi 10.1021/acs.jcim.1c00600. Tensor names are those of the published
weights (github.com/devalab/molgpt), which are minGPT's; fields of `config.json`, which the authors
do not publish, are named as in their code.

Read are the models that write without a condition. Those of properties or of a scaffold put it
before the molecule, as vectors without a position and of another type: they are refused by their
`prop_nn` and `lstm`. One of scaffolds alone without an LSTM has the very tensors of a model without
a condition; it is read as that.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from biofm_jax.errors import UserError
from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.positions import Learned
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.zoo.config import refuse_other, untied
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.tensors import Flat, OneBatch, Shape, Tensor, dense, norm

TYPES = 2  # of a condition and of a molecule


@dataclasses.dataclass(frozen=True)
class Reversed:
    """A table whose rows are published in the other order: (rows, d) on both sides."""

    def published_shape(self, shape: Shape) -> Shape:
        """The published tensor's shape, from the part's."""
        return shape

    def to_ours(self, array: np.ndarray, shape: Shape) -> np.ndarray:
        """A published tensor as the part of that shape."""
        return array[::-1]

    def to_published(self, array: np.ndarray) -> np.ndarray:
        """The inverse of `to_ours`."""
        return array[::-1]


def tensors(spec: TransformerSpec) -> list[Tensor]:
    """The table of a MolGPT checkpoint."""
    layer = "blocks.{i}"
    table = [
        Tensor("tok_emb.weight", "embed/tokens", Flat(1)),
        # A molecule's tokens are of type 1, and ours of row 0.
        Tensor("type_emb.weight", "embed/types", Reversed()),
        Tensor("pos_emb", "embed/positions", OneBatch()),
        *norm(f"{layer}.ln1", "blocks/attention_norm"),
        *norm(f"{layer}.ln2", "blocks/feedforward_norm"),
        *dense(f"{layer}.attn.proj", "blocks/attention/out", 2),
        *dense(f"{layer}.mlp.0", "blocks/feedforward/up"),
        *dense(f"{layer}.mlp.2", "blocks/feedforward/down"),
        *norm("ln_f", "final_norm"),
        *untied(spec, "head.weight"),
    ]
    for place, part in enumerate(("query", "key", "value")):
        path = "blocks/attention/qkv"
        table += dense(f"{layer}.attn.{part}", path, part=(None, place))
    return table


def spec_of(config: dict) -> TransformerSpec:
    """The architecture that the fields of the authors' configuration describe."""
    refuse_other(config, num_props=(0, None), scaffold=(False, None), lstm=(False, None))
    return TransformerSpec(
        vocabulary=config["vocab_size"],
        layers=config["n_layer"],
        width=config["n_embd"],
        heads=config["n_head"],
        causal=True,
        positions=Learned(config["block_size"]),
        token_types=TYPES,
        dropout=config.get("resid_pdrop", 0.1),
        attention_dropout=config.get("attn_pdrop", 0.1),
        head=LanguageHead(transform=False, bias=False, tied=False),
    )


def config_of(spec: TransformerSpec) -> dict:
    """The fields of an architecture."""
    return {
        "model_type": "molgpt",
        "vocab_size": spec.vocabulary,
        "block_size": spec.positions.maximum,
        "n_layer": spec.layers,
        "n_embd": spec.width,
        "n_head": spec.heads,
        "embd_pdrop": spec.dropout,
        "resid_pdrop": spec.dropout,
        "attn_pdrop": spec.attention_dropout,
    }


def refuse_conditions(spec: TransformerSpec, matching: Callable[[str], list]) -> TransformerSpec:
    """The spec as it is, of a model that writes without a condition.

    Raises:
        UserError: the checkpoint has the parts of one that needs a condition.
    """
    for part, condition in ((r"prop_nn\.weight$", "properties"), (r"lstm\.", "a scaffold")):
        if matching(part):
            raise UserError(
                f"this MolGPT writes molecules to {condition}, which it reads before them; here "
                "only those without a condition are read (unconditional_moses.pt and _guacamol.pt)"
            )
    return spec


MOLGPT = Family(
    name="molgpt",
    tensors=tensors,
    spec_of=spec_of,
    config_of=config_of,
    prefix="",
    head=("head.",),
    left_out=(r"\.attn\.mask$",),  # the causal mask, as a buffer
    settle=refuse_conditions,
    reference="written: biofm_jax/parity/molgpt.py",
)
