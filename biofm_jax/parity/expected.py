"""What a reference implementation says of some examples."""

import dataclasses
from typing import Any

import numpy as np

from biofm_jax.parity.references import PAD
from biofm_jax.parity.rows import Rows


@dataclasses.dataclass(frozen=True)
class Expected:
    """What a reference says of one batch, one example a row.

    Attributes:
        weight: (b, t, v) float32; the loss is the sum of the output times this, 0 at padding.
        output: (b, t, v) logits, or of an encoder without a head its (b, t, d) hidden states.
        hidden: n + 1 arrays (b, t, d): embeddings, and after each block; the last one after the
            final norm.
        of_source: the same of the encoder beside a decoder; empty where there is none.
        gradients: of the loss, by the published name of the parameter.
    """

    weight: np.ndarray
    output: np.ndarray
    hidden: list[np.ndarray]
    of_source: list[np.ndarray]
    gradients: dict[str, np.ndarray]


def expected(model: Any, rows: Rows) -> Expected:
    """Run the reference, a torch module, on a batch, and its loss backwards."""
    import torch

    def ids(tokens):
        return torch.from_numpy(tokens.astype(np.int64))

    def inputs(tokens, prefix=""):
        mask = ids((tokens != PAD).astype(np.int32))
        return {f"{prefix}input_ids": ids(tokens), f"{prefix}attention_mask": mask}

    def arrays(states):
        return [state.detach().numpy() for state in states]

    model.zero_grad()
    if rows.source is None:
        out = model(**inputs(rows.tokens), output_hidden_states=True)
        hidden, of_source = out.hidden_states, ()
    else:
        both = inputs(rows.source) | inputs(rows.tokens, "decoder_")
        out = model(**both, output_hidden_states=True)
        hidden, of_source = out.decoder_hidden_states, out.encoder_hidden_states
    made = out.logits if hasattr(out, "logits") else out.last_hidden_state
    rng = np.random.default_rng(1)
    weight = rng.normal(size=made.shape).astype(np.float32) * rows.real[:, :, None]
    (made * torch.from_numpy(weight)).sum().backward()
    gradients = {n: p.grad.numpy() for n, p in model.named_parameters() if p.grad is not None}
    # A buffer, such as random features, is never trained: ours must have no gradient either.
    gradients |= {name: np.zeros_like(buffer.numpy()) for name, buffer in model.named_buffers()}
    return Expected(weight, *arrays([made]), arrays(hidden), arrays(of_source), gradients)
