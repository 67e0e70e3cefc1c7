"""The time of a step by the peaks of its chip, and the least that a mesh must send."""

import dataclasses

import jax

from biofm_jax.experiment import Experiment
from biofm_jax.models.encoder_decoder import EncoderDecoderSpec
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.plan.chips import Chip
from biofm_jax.plan.pairs import least_pair_bytes
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


def least_sent(experiment: Experiment, sizes: tuple, params, axes) -> dict[str, float]:
    """Bytes that one chip must send in a step, by mesh axis.

    - fsdp: two all-gathers of the parameters and one reduce-scatter of their gradients in the
      compute dtype (ZeRO-3, Rajbhandari et al. 2020, arXiv 1910.02054); the gathers again for
      each microbatch.
    - data: one all-reduce of the gradients.
    - tensor: of each layer four all-reduces of its activations (Shoeybi et al. 2019, arXiv
      1909.08053, section 3), six where it looks across to an encoder.
    - where every example is compared with every other: the embeddings, over data and fsdp.

    Args:
        experiment: the run.
        sizes: of the mesh axes, in the order of `AXES`.
        params: tree of the parameters' shapes.
        axes: tree of the logical names of their axes.
    """
    data, fsdp, tensor, context = sizes
    loop, spec = experiment.loop, experiment.model
    itemsize = spec.compute_dtype.itemsize
    named = zip(
        jax.tree.leaves(params),
        jax.tree.leaves(axes, is_leaf=lambda x: isinstance(x, tuple)),
        strict=True,
    )
    whole = scattered = 0.0
    for leaf, names in named:
        split = tensor if {"heads", "mlp", "vocab"} & set(names) else 1
        whole += leaf.size / split
        scattered += leaf.size / split if "embed" in names else 0.0
    views = 2 if experiment.objective.views else 1
    tokens = views * loop.batch_size * experiment.data.max_tokens / (data * fsdp * context)
    if isinstance(spec, EncoderDecoderSpec):
        reductions = 4 * spec.encoder.layers + 6 * spec.decoder.layers
    else:
        reductions = 4 * spec.layers

    def ring(members: int) -> float:
        return (members - 1) / members

    least = {
        "data": 2 * ring(data) * itemsize * (whole - scattered + scattered / fsdp),
        "fsdp": (2 * loop.accumulate + 1) * ring(fsdp) * itemsize * scattered,
        "tensor": 2 * ring(tensor) * reductions * tokens * spec.width * itemsize,
    }
    rows = "+".join(axis for axis, n in zip(AXES[:2], sizes[:2], strict=True) if n > 1)
    least[rows] = least.get(rows, 0.0) + least_pair_bytes(experiment, sizes)
    return {axis: bytes_sent for axis, bytes_sent in least.items() if bytes_sent}


def visited_share(spec, tokens: int) -> float:
    """Share of a row's pairs that splash attention computes, by blocks of 512 or fewer.

    Args:
        spec: the model.
        tokens: of a row.
    """
    if not isinstance(spec, TransformerSpec):
        return 1.0
    block = next((size for size in (512, 384, 256, 128) if tokens % size == 0), tokens)
    count = tokens // block
    window = tokens if spec.window is None else spec.window
    visited = 0
    for query in range(count):
        for key in range(count):
            behind = key <= query if spec.causal else True
            apart = max(0, (abs(query - key) - 1) * block + 1) if query != key else 0
            visited += behind and apart <= window
    return visited / count**2
