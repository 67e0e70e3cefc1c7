"""Small random models of the reference implementations, saved in their own file layout."""

import dataclasses
from collections.abc import Callable
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
        measures: `(ours, params, theirs, family) -> figures`, where not the usual ones.
    """

    family: Family
    variant: str
    build: Callable[[], Any]
    config: dict | None = None
    measures: Callable[..., dict[str, float]] | None = None


@dataclasses.dataclass(frozen=True)
class Expected:
    """What a reference says of one batch.

    Attributes:
        tokens: (b, t) int32, `PAD` behind each row.
        weight: (b, t, v) float32; the loss is the sum of logits times this, 0 at padding.
        logits: (b, t, v).
        hidden: n + 1 arrays (b, t, d): embeddings, and after each block; the last one after the
            final norm.
        gradients: of the loss, by the published name of the parameter.
    """

    tokens: np.ndarray
    weight: np.ndarray
    logits: np.ndarray
    hidden: list[np.ndarray]
    gradients: dict[str, np.ndarray]


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
            offset = float(parameter.ndim == 1 and float(parameter.mean()) > 0.5)
            spread = 0.1 if parameter.ndim == 1 else 0.5 * parameter.shape[-1] ** -0.5
            parameter.copy_(offset + spread * torch.randn_like(parameter))
    return model.eval()


def expected(model: Any, tokens: np.ndarray) -> Expected:
    """Run the reference on a batch, and its loss backwards."""
    import torch

    real = tokens != PAD
    ids = torch.from_numpy(tokens.astype(np.int64))
    mask = torch.from_numpy(real.astype(np.int64))
    model.zero_grad()
    out = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    rng = np.random.default_rng(1)
    weight = rng.normal(size=out.logits.shape).astype(np.float32) * real[:, :, None]
    (out.logits * torch.from_numpy(weight)).sum().backward()
    return Expected(
        tokens=tokens,
        weight=weight,
        logits=out.logits.detach().numpy(),
        hidden=[state.detach().numpy() for state in out.hidden_states],
        gradients={
            name: parameter.grad.numpy()
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        },
    )


def require_peers() -> None:
    """Raise where the reference implementations are not installed."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"parity needs {error.name}, which is not installed: pip install 'biofm_jax[parity]'"
        ) from None
