"""Memory of a step before it is compiled, guessed from its traced loss: any model, any policy."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from functools import partial

import jax

from biofm_jax.experiment import Experiment
from biofm_jax.models.api import partitioned
from biofm_jax.plan.weights import Weight, weights
from biofm_jax.train.mesh import abstract_mesh
from biofm_jax.train.partitioner import Partitioner

ONE = (1, 1, 1, 1)  # device
# The lanes of a TPU: the last axis of what a kernel reads and writes is padded to them.
LANES = 128
# Layers at work beside what is kept of all: one that is computed again, and its gradients.
WORKING = 2


@dataclasses.dataclass(frozen=True)
class Kept:
    """Bytes of one row that the forward pass leaves for the backward pass.

    Attributes:
        whole: of arrays as wide as the model, of which tensor parallelism cuts none.
        split: of all others: heads, hidden units, logits.
    """

    whole: float
    split: float

    def on_chip(self, tensor: int) -> float:
        """Where so many chips share the layers."""
        return self.whole + self.split / tensor


def guessed_temporaries(
    experiment: Experiment, sizes: tuple[int, ...], parameters: Sequence[Weight], platform: str
) -> int:
    """Temporary bytes on one chip by a rule of thumb, to decide what is worth compiling.

    What the backward pass keeps of the rows, the layers at work, a float32 gradient, the
    parameters in the compute dtype, and two gathered layers.

    Args:
        experiment: the run.
        sizes: of the mesh axes.
        parameters: on that mesh.
        platform: of the chip.
    """
    loop, spec, (data, fsdp, tensor, context) = experiment.loop, experiment.model, sizes
    rows = loop.batch_size / loop.accumulate / (data * fsdp * context)
    plain = spec.replaced(remat="none") if "none" in spec.policies() else spec
    layers = max(weight.along("layers") for weight in parameters)
    working = kept(dataclasses.replace(experiment, model=plain), platform).on_chip(tensor)
    working *= min(1.0, WORKING / layers)
    held = sum(weight.on_chip() for weight in parameters)
    gathered = sum(weight.on_chip("tensor") for weight in parameters)
    copied = (held + 2 * gathered / layers) * spec.compute_dtype.itemsize
    gradients = (8.0 if loop.accumulate > 1 else 4.0) * held
    return int(rows * (kept(experiment, platform).on_chip(tensor) + working) + gradients + copied)


def kept(experiment: Experiment, platform: str) -> Kept:
    """What the experiment's loss keeps of a row (the residuals of `jax.vjp`).

    Args:
        experiment: the run; of its loop and mesh nothing matters.
        platform: what it runs on, by which attention chooses its backend.
    """
    return _kept(experiment.model, experiment.data, experiment.objective, platform)


@functools.lru_cache(64)
def _kept(model, data, objective, platform: str) -> Kept:
    one, two = (_residuals(model, data, objective, platform, rows) for rows in (1, 2))
    # Parameters and constants are among them, as many for two rows as for one.
    return Kept(two.whole - one.whole, two.split - one.split)


def _residuals(spec, data, objective, platform: str, rows: int) -> Kept:
    model, pure = spec.build(), objective.built_for(spec, data)
    batch = data.shapes(rows, paired=objective.views > 0)
    params = jax.eval_shape(model.init, jax.random.key(0), batch)

    def pull(params, batch):
        def loss(params):
            run, state = partial(model.apply, train=True), pure.init(params)
            return pure.loss(run, params, state, batch, jax.random.key(0)).total

        with partitioned(_Alone(abstract_mesh(ONE), platform)):
            return jax.vjp(loss, params)[1]

    widths = {weight.along("embed") for weight in weights(ONE, params, model.axes(params))} - {1}
    whole = split = 0.0
    for leaf in jax.tree.leaves(jax.eval_shape(pull, params, batch)):
        held = _padded(leaf.shape, platform) * leaf.dtype.itemsize
        if leaf.ndim and leaf.shape[-1] in widths:
            whole += held
        else:
            split += held
    return Kept(whole, split)


def _padded(shape: tuple[int, ...], platform: str) -> int:
    """Elements of an array as it lies in memory; heads of 64 fill half of the lanes."""
    if platform != "tpu" or len(shape) < 4:
        return math.prod(shape)
    return math.prod(shape[:-1]) * -(-shape[-1] // LANES) * LANES


@dataclasses.dataclass(frozen=True)
class _Alone(Partitioner):
    """One device of a kind that need not be here."""

    kind: str

    @property
    def platform(self) -> str:
        return self.kind
