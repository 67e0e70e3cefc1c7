"""A tiny model with adapters that change something, shared by the tests of LoRA."""

import dataclasses

import jax
import numpy as np
from toy_batches import FAST_COMPILE, TINY, packed, parameters

from biofm_jax.adapt.lora import Lora, init_adapters

SPEC = dataclasses.replace(TINY, dropout=0.0)
EVERYWHERE = (r"kernel$", r"embed/tokens$")
LORA = Lora(rank=2, alpha=6.0, targets=EVERYWHERE)


def axes_of(spec=SPEC):
    """Logical axis names of the model's parameters."""
    return spec.build().axes(parameters(spec))


def adapters(lora=LORA, spec=SPEC, noise=0.0, seed=0):
    """Fresh adapters as numpy arrays, with noise added to both factors."""
    fresh = init_adapters(lora, parameters(spec), axes_of(spec), jax.random.key(seed))
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: np.asarray(leaf + noise * rng.normal(size=leaf.shape), np.float32), fresh
    )


def outputs(params, spec=SPEC):
    """Logits and hidden states of a packed batch, as numpy arrays.

    Compiled without fusion: how the compiler fuses an addition decides its last bit.
    """
    found = jax.jit(spec.build().apply, compiler_options=FAST_COMPILE)(params, packed(rows=3))
    return {"logits": np.asarray(found.logits), "hidden": np.asarray(found.hidden)}
