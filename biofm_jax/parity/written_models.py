"""Small models of the references that are written out here, where no library maintains one."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from biofm_jax.parity.references import VOCABULARY, Reference, randomised
from biofm_jax.zoo.esmc import ESMC_BIOHUB, ESMC_RELEASED
from biofm_jax.zoo.ethos import ETHOS
from biofm_jax.zoo.gptj import PROGEN2
from biofm_jax.zoo.molformer import MOLFORMER
from biofm_jax.zoo.molgpt import MOLGPT

LAYERS, FEEDFORWARD = 3, 88
# Width of the stream and heads: heads of 16 and of 24.
SMALL, WIDE = (64, 4), (48, 2)


def _build(module: str, kind: str, width: int, heads: int, *more) -> Callable[[], Any]:
    """Makes a model of a module beside this one, which imports torch."""

    def build():
        made = getattr(import_module(f"biofm_jax.parity.{module}"), kind)
        return randomised(made(VOCABULARY, LAYERS, width, heads, *more))

    return build


def _released_config(width: int, heads: int) -> dict:
    """The release of ESM C has no configuration file."""
    return dict(
        vocab_size=VOCABULARY,
        hidden_act="silu",
        num_hidden_layers=LAYERS,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=FEEDFORWARD,
    )


def written_references() -> list[Reference]:
    """The references of the families that no library maintains."""
    esmc, biohub = ("esmc_original", "EsmC"), ("esmc_biohub", "EsmCBiohub")
    progen2, molgpt, ethos = ("progen2", "ProGen2"), ("molgpt", "MolGpt"), ("ethos", "Ethos")
    found = []
    for size in (SMALL, WIDE):
        width, heads = size
        shape = f"{heads} heads of {width // heads}"
        bias = size is WIDE
        biases = "biases" if bias else "no biases"
        found += [
            Reference(ESMC_RELEASED, shape, _build(*esmc, *size, FEEDFORWARD),
                      _released_config(*size)),
            Reference(ESMC_BIOHUB, shape, _build(*biohub, *size)),
            Reference(MOLFORMER, f"{shape}, {'tied' if bias else 'untied'}",
                      _build("molformer", "Molformer", *size, FEEDFORWARD, 12, bias)),
            Reference(MOLGPT, shape, _build(*molgpt, *size)),
            Reference(ETHOS, f"{shape}, {biases}", _build(*ethos, *size, bias)),
        ]  # fmt: skip
    return [
        *found,
        Reference(PROGEN2, "8 heads of 8", _build(*progen2, 64, 8, 4, FEEDFORWARD)),
        Reference(PROGEN2, "8 heads of 12", _build(*progen2, 96, 8, 8, 4 * 96)),
    ]
