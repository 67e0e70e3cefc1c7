"""What the `config.json` files of all families share."""

import json
from pathlib import Path

from biofm_jax.errors import UserError
from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.zoo.tensors import Flat, Tensor

# Our names of activations by those of `config.json`.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "quick_gelu": "quick_gelu",
}


# How a published processor of images prepares them, beside `config.json`.
PREPROCESSOR = "preprocessor_config.json"


def activation(name: str) -> str:
    """Our name of an activation.

    Raises:
        UserError: there is none of the kind here.
    """
    if name not in ACTIVATIONS:
        raise UserError(f"config.json: the activation {name!r} is unknown; known: {[*ACTIVATIONS]}")
    return ACTIVATIONS[name]


def published_activation(name: str) -> str:
    """The first name in `config.json` of one of our activations."""
    return next(theirs for theirs, ours in ACTIVATIONS.items() if ours == name)


def refuse_other(config: dict, **known: tuple) -> None:
    """Refuse values of a configuration that the family has no counterpart for.

    Args:
        config: the content of a `config.json`.
        known: field -> the values that are understood; one that is absent counts as None.

    Raises:
        UserError: names the field, its value and what is understood.
    """
    for field, values in known.items():
        if (found := config.get(field, values[0])) not in values:
            raise UserError(
                f"config.json: {field} is {found!r}; this package reads "
                + (" or ".join(repr(v) for v in values if v is not None) or "no such field")
            )


def untied(spec: TransformerSpec, name: str) -> list[Tensor]:
    """The tensor of output weights that are not the token embeddings."""
    head = spec.head
    if not isinstance(head, LanguageHead) or head.tied:
        return []
    return [Tensor(name, "head/tokens", Flat(1))]


def read_config(path: Path) -> dict:
    """The content of a `config.json`.

    Raises:
        UserError: it is no JSON object.
    """
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no configuration: {error}") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} is no configuration: it holds no JSON object")
    return config
