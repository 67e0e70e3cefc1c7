"""ESM-2: masked language models of proteins.

Source: Lin et al. 2023, "Evolutionary-scale prediction of atomic-level protein structure with a
language model", doi 10.1126/science.ade2574; github.com/facebookresearch/esm. Licence of code
and weights: MIT.
"""

import numpy as np

from biofm_jax.array_types import PyTree
from biofm_jax.errors import UserError
from biofm_jax.models.embedding import TokenDropout
from biofm_jax.models.transformer import TransformerSpec

# Ids of the published alphabet.
CLS, PAD, EOS, MASK = 0, 1, 2, 32


def _spec(layers: int, width: int, heads: int) -> TransformerSpec:
    return TransformerSpec(
        vocabulary=33,
        layers=layers,
        width=width,
        heads=heads,
        token_dropout=TokenDropout(mask=MASK),
        special=(CLS, PAD, EOS),
    )


ESM2: dict[str, TransformerSpec] = {
    "8M": _spec(6, 320, 20),
    "35M": _spec(12, 480, 20),
    "150M": _spec(30, 640, 20),
    "650M": _spec(33, 1280, 20),
    "3B": _spec(36, 2560, 40),
    "15B": _spec(48, 5120, 40),
}

# Tensors of `EsmForMaskedLM` that are no weights of the language model: tables it computes, and
# the logistic regression from attention weights to contacts.
NOT_OURS = ("rotary_embeddings.inv_freq", "embeddings.position_ids", "contact_head.regression.")


def from_transformers(state: dict[str, np.ndarray], spec: TransformerSpec) -> PyTree:
    """The parameters held in a state dict of transformers' `EsmForMaskedLM`.

    Args:
        state: name -> array, with the names of transformers 5.
        spec: the size that was saved.

    Returns:
        float32 parameters for `spec.build().apply`.

    Raises:
        UserError: tensors that are missing, unused or of another shape; the message lists them.
    """
    reader = _Reader(state)
    d, h, w, f = spec.width, spec.heads, spec.head_size, spec.hidden_width

    def norm(name: str) -> PyTree:
        return {"scale": reader.take(f"{name}.weight", d), "bias": reader.take(f"{name}.bias", d)}

    def dense(name: str, inputs: int, outputs: int) -> PyTree:
        # Torch stores (outputs, inputs).
        kernel = reader.take(f"{name}.weight", outputs, inputs).T
        return {"kernel": kernel, "bias": reader.take(f"{name}.bias", outputs)}

    def layer(name: str) -> PyTree:
        qkv = [dense(f"{name}.attention.self.{part}", d, h * w) for part in _QKV]
        out = dense(f"{name}.attention.output.dense", h * w, d)
        return {
            "attention_norm": norm(f"{name}.attention.LayerNorm"),
            "attention": {
                "qkv": {
                    "kernel": np.stack([p["kernel"].reshape(d, h, w) for p in qkv], axis=1),
                    "bias": np.stack([p["bias"].reshape(h, w) for p in qkv]),
                },
                "out": {"kernel": out["kernel"].reshape(h, w, d), "bias": out["bias"]},
            },
            "feedforward_norm": norm(f"{name}.LayerNorm"),
            "feedforward": {
                "up": dense(f"{name}.intermediate.dense", d, f),
                "down": dense(f"{name}.output.dense", f, d),
            },
        }

    embeddings = "esm.embeddings.word_embeddings.weight"
    reader.same("lm_head.decoder.weight", embeddings)
    reader.same("lm_head.decoder.bias", "lm_head.bias")
    layers = [layer(f"esm.encoder.layer.{i}") for i in range(spec.layers)]
    params = {
        "embed": {"tokens": reader.take(embeddings, spec.vocabulary, d)},
        "blocks": _stack(layers),
        "final_norm": norm("esm.encoder.emb_layer_norm_after"),
        "head": {
            "transform": dense("lm_head.dense", d, d),
            "norm": norm("lm_head.layer_norm"),
            "bias": reader.take("lm_head.bias", spec.vocabulary),
        },
    }
    reader.finish()
    return params


_QKV = ("query", "key", "value")


def _stack(trees: list[PyTree]) -> PyTree:
    if isinstance(trees[0], dict):
        return {name: _stack([tree[name] for tree in trees]) for name in trees[0]}
    return np.stack(trees)


class _Reader:
    """Takes tensors by name and remembers what was wrong, to report it all at once."""

    def __init__(self, state: dict[str, np.ndarray]):
        self.state = state
        self.unused = {name for name in state if not any(part in name for part in NOT_OURS)}
        self.wrong: list[str] = []

    def take(self, name: str, *shape: int) -> np.ndarray:
        """The tensor of that name, float32; zeros, and a complaint kept, where it is wrong."""
        self.unused.discard(name)
        if name not in self.state:
            self.wrong.append(f"missing: {name}")
        elif self.state[name].shape != shape:
            self.wrong.append(f"{name} has shape {self.state[name].shape}, not {shape}")
        else:
            return np.asarray(self.state[name], np.float32)
        return np.zeros(shape, np.float32)

    def same(self, copy: str, original: str) -> None:
        """A tied tensor may be saved twice, but not with two values."""
        self.unused.discard(copy)
        if {copy, original} <= set(self.state) and not np.array_equal(
            self.state[copy], self.state[original]
        ):
            self.wrong.append(f"{copy} differs from {original}, to which it is tied")

    def finish(self) -> None:
        """Raise for all that was wrong."""
        wrong = self.wrong + [f"unused: {name}" for name in sorted(self.unused)]
        if wrong:
            raise UserError(
                "these tensors do not fit the ESM-2 spec; check that the size is the one that "
                "was saved:\n  " + "\n  ".join(wrong)
            )
