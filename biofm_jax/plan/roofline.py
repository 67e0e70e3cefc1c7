"""The time of a step by the peaks of its chip, and the least that a mesh must send."""

import dataclasses
from collections.abc import Sequence

from biofm_jax.experiment import Experiment
from biofm_jax.plan.chips import Chip
from biofm_jax.plan.pairs import pairs_of
from biofm_jax.plan.weights import Weight
from biofm_jax.train.mesh import AXES


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds of a step, each part at the chip's published peak.

    Attributes:
        compute: matrix products.
        memory: reading and writing HBM.
        network: sending to other chips.
    """

    compute: float
    memory: float
    network: float

    @property
    def best(self) -> float:
        """Everything overlaps: no step is faster."""
        return max(self.compute, self.memory, self.network)

    @property
    def sum(self) -> float:
        """Nothing overlaps."""
        return self.compute + self.memory + self.network


def roofline(chip: Chip, flops: float, memory_bytes: float, sent_bytes: float) -> Roofline:
    """The roofline (Williams et al. 2009, doi 10.1145/1498765.1498785) of one chip's step.

    Args:
        chip: its peaks.
        flops: of matrix products.
        memory_bytes: to and from HBM.
        sent_bytes: to other chips, over all links at once.
    """
    return Roofline(
        flops / chip.flops, memory_bytes / chip.memory_rate, sent_bytes / chip.link_rate
    )


def least_sent(
    experiment: Experiment, sizes: tuple[int, ...], parameters: Sequence[Weight]
) -> dict[str, float]:
    """Bytes that one chip must send in a step, by mesh axis.

    - fsdp: two all-gathers of the parameters and one reduce-scatter of their gradients in the
      compute dtype (ZeRO-3, Rajbhandari et al. 2020, arXiv 1910.02054); the gathers again for
      each microbatch.
    - data: one all-reduce of the gradients; over data and fsdp, of what fsdp does not cut.
    - tensor: two all-reduces of the activations for each weight that sums over what is cut
      (Shoeybi et al. 2019, arXiv 1909.08053, section 3): four for a layer, six where it looks
      across to an encoder. Where none sums, what they make is gathered instead.
    - where every example is compared with every other: the embeddings, over data and fsdp.

    Args:
        experiment: the run.
        sizes: of the mesh axes, in the order of `AXES`.
        parameters: on that mesh.
    """
    data, fsdp, tensor, context = sizes
    loop, itemsize = experiment.loop, experiment.model.compute_dtype.itemsize
    scattered = sum(w.on_chip("tensor") for w in parameters if w.parts("fsdp") > 1)
    whole = sum(w.on_chip("tensor") for w in parameters if w.parts("fsdp") == 1)
    cut = [w for w in parameters if w.parts("tensor") > 1 and "vocab" not in w.names]
    closing = [w for w in cut if w.reduces] or cut
    reduced = sum(w.along("layers") * w.along("embed") for w in closing)
    views = max(1, experiment.objective.views) * experiment.objective.passes
    tokens = views * experiment.model.places(experiment.shapes()) / (data * fsdp * context)

    def ring(members: int) -> float:
        return (members - 1) / members

    least = {
        "data": 2 * ring(data) * itemsize * scattered / fsdp,
        "fsdp": (2 * loop.accumulate + 1) * ring(fsdp) * itemsize * scattered,
        "tensor": 4 * ring(tensor) * reduced * tokens * itemsize,
    }
    rows = "+".join(axis for axis, n in zip(AXES[:2], sizes[:2], strict=True) if n > 1)
    joint = 2 * ring(data * fsdp) * itemsize * whole + pairs_of(experiment).least_sent(sizes)
    least[rows] = least.get(rows, 0.0) + joint
    return {axis: bytes_sent for axis, bytes_sent in least.items() if bytes_sent}
