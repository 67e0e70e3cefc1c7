"""Small random models of the reference implementations, saved in their own file layout."""

import dataclasses
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

import numpy as np

from biofm_jax.errors import UserError
from biofm_jax.zoo.family import Family

VOCABULARY = 47
PAD, MASK = 1, 5
FIRST = 6  # ids from here on are drawn
LENGTHS = (37, 9, 24)  # odd ones, the row with most padding between two others


@dataclasses.dataclass(frozen=True)
class Reference:
    """A family's reference implementation.

    Attributes:
        family: whose parity it measures.
        variant: what distinguishes it from the family's other ones.
        build: makes a torch module in evaluation mode whose parameters are drawn anew, and which
            writes its published files with `save_pretrained(folder)`.
        config: where the published files have no configuration.
    """

    family: Family
    variant: str
    build: Callable[[], Any]
    config: dict | None = None

    @property
    def name(self) -> str:
        """Of its row in the ledger."""
        return self.family.name

    @property
    def reference(self) -> str:
        """What the family is held to."""
        return self.family.reference


def random_tokens(vocabulary: int = VOCABULARY) -> np.ndarray:
    """(b, t) int32 ids of rows of several lengths, with some masks."""
    rng = np.random.default_rng(0)
    tokens = np.full((len(LENGTHS), max(LENGTHS)), PAD, np.int32)
    for row, length in zip(tokens, LENGTHS, strict=True):
        row[:length] = rng.integers(FIRST, vocabulary, length)
        row[:length][rng.random(length) < 0.15] = MASK
    return tokens


def randomised(model: Any) -> Any:
    """`model` with every parameter drawn: norms away from 1, biases away from 0.

    A norm or bias that an import forgets would not show at its initial value.
    """
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            offset = float(parameter.ndim < 2 and float(parameter.mean()) > 0.5)
            spread = 0.1 if parameter.ndim < 2 else 0.5 * parameter.shape[-1] ** -0.5
            parameter.copy_(offset + spread * torch.randn_like(parameter))
    return model.eval()


def require_peers(more: Iterable[str] = ()) -> None:
    """Raise where the reference implementations, and `more` packages, are not installed."""
    try:
        for name in ("torch", "transformers", *more):
            import_module(name)
    except ImportError as error:
        raise UserError(
            f"parity needs {error.name}, which is not installed: pip install 'biofm_jax[parity]'"
        ) from None
