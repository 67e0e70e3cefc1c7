"""Memory of a chip: what a compiled step takes, and a guess before it is compiled."""

import dataclasses
import math
import re

import jax

from biofm_jax.experiment import Experiment
from biofm_jax.models.encoder_decoder import EncoderDecoderSpec
from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.objectives.masked import MaskedLM
from biofm_jax.train.placement import batch_shardings
from biofm_jax.train.step import Program

# A plan fits where this share of the HBM holds it: the runtime and the fragments take the rest.
USABLE = 0.9
# The lanes of a TPU: a head's width is padded to them where attention keeps it.
LANES = 128


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one chip while a step runs.

    Attributes:
        arguments: the state (parameters, optimizer, objective) and the batch.
        outputs: results that are not written over their arguments.
        aliased: of the arguments, donated and written over.
        temporaries: everything else the step keeps at its peak, padding included.
        code: the program.
        capacity: HBM of the chip; 0 where there is none to fit into.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    code: int
    capacity: int

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return self.arguments + self.outputs + self.temporaries + self.code

    @property
    def usable(self) -> int:
        """Bytes that a plan may take."""
        return int(USABLE * self.capacity)

    @property
    def headroom(self) -> int:
        """Usable bytes that are left; below 0, what is missing."""
        return self.usable - self.total

    @property
    def fits(self) -> bool:
        """Whether the step runs on this chip."""
        return not self.capacity or self.headroom >= 0


def memory_of(compiled, capacity: int) -> Memory:
    """The memory of a compiled step, by the compiler's own account."""
    found = compiled.memory_analysis()
    return Memory(
        found.argument_size_in_bytes,
        found.output_size_in_bytes - found.alias_size_in_bytes,
        found.alias_size_in_bytes,
        found.temp_size_in_bytes,
        found.generated_code_size_in_bytes,
        capacity,
    )


def refused_memory(message: str, arguments: int, capacity: int) -> Memory | None:
    """What a step would have taken that the compiler refused; None for another message.

    Args:
        message: of the compiler's error.
        arguments: bytes of the state and the batch on one chip.
        capacity: HBM of the chip.
    """
    unit = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "": 1}
    found = re.search(r"temporaries \(([\d.]+)([KMGT]?)\) exceeds", message)
    whole = re.search(r"Used ([\d.]+)([KMGT]?)i?B? of", message)
    if not (found or whole):
        return None
    number, letter = (found or whole).groups()
    used = int(float(number) * unit[letter])
    temporaries = used if found else max(0, used - arguments)
    return Memory(arguments, 0, arguments, temporaries, 0, capacity)


def argument_bytes(program: Program, mesh, batch) -> int:
    """Bytes of the state and the batch on one device, without padding."""
    place = batch_shardings(mesh, batch)
    pairs = zip(
        jax.tree.leaves((program.shapes, batch)),
        jax.tree.leaves((program.shardings, place)),
        strict=True,
    )
    return sum(
        math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf, sharding in pairs
    )


def guessed_temporaries(experiment: Experiment, sizes: tuple, parameters: int) -> int:
    """Temporary bytes on one chip by a rule of thumb, to decide what is worth compiling.

    Kept are what the rematerialisation policy keeps of every layer, four times all of the layer
    at work, the logits, a float32 gradient, the parameters in the compute dtype, and two gathered
    layers.

    Args:
        experiment: the run.
        sizes: of the mesh axes.
        parameters: of the model.
    """
    data, fsdp, tensor, context = sizes
    loop, spec = experiment.loop, experiment.model
    views = 2 if experiment.objective.views else 1
    tokens = experiment.data.max_tokens / context
    tokens *= views * loop.batch_size / loop.accumulate / (data * fsdp)
    both = isinstance(spec, EncoderDecoderSpec)
    stacks = (spec.encoder, spec.decoder) if both else (spec,)
    layers = sum(stack.layers for stack in stacks)
    kept = sum(stack.layers * _kept(stack, tensor) for stack in stacks)
    working = max(4 * _kept(stack, tensor, "none") for stack in stacks)
    itemsize = spec.compute_dtype.itemsize
    activations = tokens * spec.width * itemsize * (kept + working)
    predicted = experiment.objective.rate if isinstance(experiment.objective, MaskedLM) else 1.0
    logits = tokens * predicted * spec.vocabulary * 8 if isinstance(spec.head, LanguageHead) else 0
    shards = fsdp * tensor
    gradients = (8.0 if loop.accumulate > 1 else 4.0) * parameters / shards
    copied = itemsize * parameters * (1 / shards + 2 / layers / tensor)
    return int(activations + logits + gradients + copied)


def _kept(spec: TransformerSpec, tensor: int, remat: str = "") -> float:
    """Arrays of (tokens, width) that one layer keeps for the backward pass."""
    padded = max(1.0, LANES / spec.head_size)
    heads = (spec.heads + 2 * spec.key_heads) * spec.head_size / spec.width / tensor
    hidden = (2 if spec.gated else 1) * spec.hidden_width / spec.width / tensor
    match remat or spec.remat:
        case "full":
            return 1.0
        case "dots":
            return 2.0 + heads * padded + hidden
        case "attention":
            return 6.0 + 2 * hidden
    return 5.0 + 1.5 * heads * padded + 2 * hidden
