"""The measures of an encoder-decoder, and of an encoder that has no logits.

The outputs compared are the logits, or the last hidden states of an encoder alone.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from biofm_jax.data.batch import Batch
from biofm_jax.models.cache import extend, prefill
from biofm_jax.models.encoder_decoder import EncoderDecoderSpec, replaced
from biofm_jax.parity.measures import (
    gradient_error,
    packed_batch,
    padded_batch,
    relative_error,
    worst,
)
from biofm_jax.parity.references import FIRST, PAD, VOCABULARY, random_tokens
from biofm_jax.zoo.exporting import published_tensors
from biofm_jax.zoo.family import Family

WRITTEN = (11, 26, 7)  # tokens that the decoder reads, another order than that of the sources


@dataclasses.dataclass(frozen=True)
class Rows:
    """Examples of several lengths, `PAD` behind each.

    Attributes:
        source: (b, u) int32, read by the encoder; None where there is no decoder.
        tokens: (b, t) int32, read by the decoder, or by an encoder alone.
    """

    source: np.ndarray | None
    tokens: np.ndarray

    def padded(self, rows: slice = slice(None)) -> Batch:
        """One example a row."""
        source = None if self.source is None else padded_batch(self.source[rows])
        return padded_batch(self.tokens[rows]).replace(source=source)

    def packed(self) -> Batch:
        """All examples in one row, on both sides."""
        source = None if self.source is None else packed_batch(self.source)
        return packed_batch(self.tokens).replace(source=source)

    def alone(self, row: int) -> Batch:
        """One example without padding."""
        cut = [
            None if side is None else side[row : row + 1, : (side[row] != PAD).sum()]
            for side in (self.source, self.tokens)
        ]
        return Rows(*cut).padded()


def random_rows(spec: Any) -> Rows:
    """Rows for a model of this spec."""
    source = random_tokens()
    if not isinstance(spec, EncoderDecoderSpec):
        return Rows(None, source)
    rng = np.random.default_rng(2)
    tokens = np.full((len(WRITTEN), max(WRITTEN)), PAD, np.int32)
    for row, length in zip(tokens, WRITTEN, strict=True):
        row[:length] = rng.integers(FIRST, VOCABULARY, length)
    return Rows(source, tokens)


def _output(out) -> Any:
    return out.hidden if out.logits is None else out.logits


def _run_reference(model: Any, rows: Rows) -> tuple[Any, np.ndarray, list, list, dict]:
    """Outputs, the loss's weights, hidden states of both stacks, gradients."""
    import torch

    def ids(tokens):
        return torch.from_numpy(tokens.astype(np.int64))

    def inputs(tokens, prefix=""):
        mask = ids((tokens != PAD).astype(np.int32))
        return {f"{prefix}input_ids": ids(tokens), f"{prefix}attention_mask": mask}

    model.zero_grad()
    if rows.source is None:
        out = model(**inputs(rows.tokens), output_hidden_states=True)
        made, states, of_source = out.last_hidden_state, out.hidden_states, ()
    else:
        both = inputs(rows.source) | inputs(rows.tokens, "decoder_")
        out = model(**both, output_hidden_states=True)
        made, states = out.logits, out.decoder_hidden_states
        of_source = out.encoder_hidden_states
    real = rows.tokens != PAD
    weight = np.random.default_rng(1).normal(size=made.shape).astype(np.float32) * real[:, :, None]
    (made * torch.from_numpy(weight)).sum().backward()
    gradients = {n: p.grad.numpy() for n, p in model.named_parameters() if p.grad is not None}
    states, of_source = ([state.detach().numpy() for state in part] for part in (states, of_source))
    return made.detach().numpy(), weight, states, of_source, gradients


def against_reference(model, params, reference: Any, rows: Rows, family: Family) -> dict:
    """Relative errors of the outputs, of the worst hidden state and of the worst gradient.

    Args:
        model: ours.
        params: imported from the reference.
        reference: the torch module.
        rows: what both read.
        family: of the model.
    """
    theirs, weight, states, of_source, expected = _run_reference(reference, rows)
    batch = rows.padded()

    def loss(params):
        out = model.apply(params, batch, collect=("layers",))
        return jnp.sum(_output(out) * weight), out

    gradients, out = jax.jit(jax.grad(loss, has_aux=True))(params)
    errors = []
    for ours, stack, tokens in ((out, states, rows.tokens), (out.source, of_source, rows.source)):
        if ours is None:
            continue
        real, mine = tokens != PAD, [*np.asarray(ours.layers)[:-1], np.asarray(ours.hidden)]
        pairs = zip(mine, stack, strict=True)
        errors += [relative_error(a[real], b[real]) for a, b in pairs]
    real = rows.tokens != PAD
    mine = published_tensors(gradients, family, model.spec)
    return {
        "logits": relative_error(np.asarray(_output(out))[real], theirs[real]),
        "hidden": worst(errors),
        "gradients": worst(gradient_error(g, expected[name]) for name, g in mine),
    }


def invariances(model, params, rows: Rows) -> dict[str, float]:
    """How much an example's outputs depend on padding, on its batch and on its neighbours."""
    apply = jax.jit(lambda batch: _output(model.apply(params, batch)))
    together = np.asarray(apply(rows.padded()))
    packed = np.asarray(apply(rows.packed()))[0]
    lengths = (rows.tokens != PAD).sum(1)
    errors = {"padding": 0.0, "batch": 0.0, "packed": 0.0}
    start = 0
    for number, length in enumerate(lengths):
        single = np.asarray(apply(rows.padded(slice(number, number + 1))))[0, :length]
        others = {
            "batch": together[number, :length],
            "packed": packed[start : start + length],
        }
        if length == lengths.min():  # the most padding; each length is compiled anew
            others["padding"] = np.asarray(apply(rows.alone(number)))[0]
        for name, other in others.items():
            errors[name] = worst((errors[name], relative_error(other, single)))
        start += length
    return errors


def cached(model, params, rows: Rows) -> float:
    """How far a decoder read token by token is from the same read at once, behind one encoding."""
    whole = rows.padded()
    start = min(WRITTEN) - 2  # of every prompt; the rest comes in two steps of one token
    together = np.asarray(jax.jit(lambda b: model.apply(params, b).logits)(whole))
    read = jax.jit(lambda t, n, s: prefill(model, params, t, n, rows.tokens.shape[1], s))
    cache, logits = read(
        rows.tokens[:, :start], np.full(len(rows.tokens), start, np.int32), whole.source
    )
    step = jax.jit(lambda cache, t: extend(model, params, cache, t))
    said = [np.asarray(logits)[:, 0]]
    for column in (start, start + 1):
        cache, logits = step(cache, rows.tokens[:, column : column + 1])
        said.append(np.asarray(logits)[:, 0])
    return relative_error(np.stack(said, 1), together[:, start - 1 : start + 2])


def bf16_deviation(spec: Any, params, rows: Rows) -> float:
    """Relative difference of the outputs computed in bfloat16 from those in float32."""
    batch, real = rows.padded(), rows.tokens != PAD
    made = []
    for dtype in ("bfloat16", "float32"):
        model = replaced(spec, dtype=dtype).build()
        run = jax.jit(lambda b, m=model: _output(m.apply(params, b)).astype(jnp.float32))
        made.append(np.asarray(run(batch)))
    return relative_error(made[0][real], made[1][real])


def measures(model, params, reference: Any, family: Family) -> dict[str, float]:
    """All of the above for one small random model; arguments as of `against_reference`."""
    rows = random_rows(model.spec)
    figures = against_reference(model, params, reference, rows, family)
    figures |= invariances(model, params, rows)
    if rows.source is not None:
        figures["cached"] = cached(model, params, rows)
    return figures | {"bf16": bf16_deviation(model.spec, params, rows)}
