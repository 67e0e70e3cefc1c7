"""Other ways to run an experiment: meshes, rematerialisation, microbatches."""

import dataclasses
from collections.abc import Iterator

import jax

from biofm_jax.errors import UserError
from biofm_jax.experiment import Experiment
from biofm_jax.models.spec import ModelSpec
from biofm_jax.plan.activations import guessed_temporaries
from biofm_jax.plan.memory import USABLE
from biofm_jax.plan.roofline import least_sent
from biofm_jax.plan.topology import Topology
from biofm_jax.plan.weights import weights
from biofm_jax.sweep.budget import step_tokens, token_flops
from biofm_jax.train.mesh import AXES, MeshSpec, abstract_mesh, parameter_shardings
from biofm_jax.train.step import Program

# FLOPs over those without rematerialisation, roughly: all that is made again in the backward pass.
AGAIN = {"none": 1.0, "dots": 1.03, "attention": 1.12, "full": 1.33}
# Splitting heads over more chips than this sends more than it saves.
MOST_TENSOR = 8


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A way to run an experiment, with what is guessed of it before it is compiled.

    Attributes:
        experiment: with its mesh, rematerialisation and microbatches.
        topology: what it would run on.
        bytes: of one chip's memory, guessed.
        seconds: of a step, guessed.
    """

    experiment: Experiment
    topology: Topology
    bytes: float
    seconds: float

    def changes(self, base: Experiment) -> int:
        """Kinds of changes from another experiment: microbatches, rematerialisation, tensor axis.

        A mesh of other data and fsdp axes is the least: it changes neither speed nor numbers much.
        """
        return sum(
            (
                self.experiment.loop.accumulate != base.loop.accumulate,
                self.experiment.model.remat != base.model.remat,
                self.experiment.mesh.tensor != base.mesh.tensor,
            )
        )

    def flags(self, base: Experiment) -> str:
        """The options of `biofm train` that make it from another experiment."""
        mesh, changed = self.experiment.mesh, []
        for axis in AXES:
            if getattr(mesh, axis) != getattr(base.mesh, axis):
                changed.append(f"--mesh.{axis} {getattr(mesh, axis)}")
        if self.experiment.loop.accumulate != base.loop.accumulate:
            changed.append(f"--loop.accumulate {self.experiment.loop.accumulate}")
        if self.experiment.loop.batch_size != base.loop.batch_size:
            changed.append(f"--loop.batch_size {self.experiment.loop.batch_size}")
        if self.experiment.model.remat != base.model.remat:
            stacks = [f"{name}." for name in base.model.stacks()] or [""]
            changed += [f"--model.{s}remat {self.experiment.model.remat}" for s in stacks]
        return " ".join(changed)


class Candidates:
    """Candidates of one experiment; what is traced once for all of them is kept.

    Args:
        experiment: what to vary.
        document: mean length of documents in tokens, for the guessed time.
    """

    def __init__(self, experiment: Experiment, document: float):
        self.experiment = experiment
        self.document = document
        self._program: Program | None = None

    def all(self, topology: Topology, *, vary_batch: bool = False) -> Iterator[Candidate]:
        """Every mesh, policy and number of microbatches that the experiment allows.

        Args:
            topology: what to run on.
            vary_batch: raise `loop.batch_size` where there are more chips than rows.
        """
        for mesh in self._meshes(topology.chips):
            rows = self.experiment.loop.batch_size
            shards = mesh.data * mesh.fsdp
            if vary_batch and rows % shards:
                rows = -(-rows // shards) * shards
            accumulate = 1
            while accumulate <= rows // shards:
                for model in self._models():
                    loop = dataclasses.replace(
                        self.experiment.loop, accumulate=accumulate, batch_size=rows
                    )
                    changed = dataclasses.replace(
                        self.experiment,
                        mesh=mesh,
                        loop=loop,
                        model=model,
                    )
                    try:
                        changed.check(topology.chips)
                        candidate = self.judged(changed, topology)
                    except UserError:
                        continue
                    yield candidate
                accumulate *= 2

    def _models(self) -> list[ModelSpec]:
        """The model with every policy of rematerialisation that it has."""
        model = self.experiment.model
        return [model.replaced(remat=policy) for policy in model.policies()] or [model]

    def _meshes(self, chips: int) -> Iterator[MeshSpec]:
        context = self.experiment.mesh.context
        powers = [2**i for i in range(chips.bit_length()) if chips % 2**i == 0]
        for tensor in powers:
            for fsdp in powers:
                rest = chips // (tensor * fsdp * context)
                if tensor <= MOST_TENSOR and rest and rest * tensor * fsdp * context == chips:
                    yield MeshSpec(data=rest, fsdp=fsdp, tensor=tensor, context=context)

    def judged(self, experiment: Experiment, topology: Topology) -> Candidate:
        """A candidate with its guesses.

        Raises:
            UserError: the mesh does not divide the model's parameters.
        """
        sizes = experiment.mesh.sizes(topology.chips)
        params, state, axes = self._shapes()
        parameter_shardings(abstract_mesh(sizes), axes, params)
        parameters, chip = [*weights(sizes, params, axes)], topology.chip
        count = sum(leaf.size for leaf in jax.tree.leaves(params))
        held = state / count * sum(weight.on_chip() for weight in parameters)
        held += guessed_temporaries(experiment, sizes, parameters, "tpu")
        flops = token_flops(experiment, self.document) * step_tokens(experiment)
        seconds = flops * AGAIN[experiment.model.remat] / topology.chips / chip.flops
        least = least_sent(experiment, sizes, parameters)
        return Candidate(experiment, topology, held, seconds + sum(least.values()) / chip.link_rate)

    def _shapes(self) -> tuple:
        """Parameters, bytes of the whole state, logical axes."""
        if self._program is None:
            one = dataclasses.replace(
                self.experiment,
                mesh=MeshSpec(data=1),
                loop=dataclasses.replace(self.experiment.loop, accumulate=1),
            )
            self._program = one.program(abstract_mesh((1, 1, 1, 1)), one.shapes())
            shapes = self._program.shapes
            self._state = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes))
            self._axes = one.model.build().axes(shapes.params)
        return self._program.shapes.params, self._state, self._axes


def likely(candidates: Iterator[Candidate], slack: float = 1.0) -> list[Candidate]:
    """Those that are guessed to fit, the fastest first; on equal times the fewest microbatches.

    Args:
        candidates: any.
        slack: factor on the usable memory; guesses are rough.
    """
    found = [c for c in candidates if c.bytes <= slack * USABLE * c.topology.chip.memory]
    return sorted(found, key=lambda c: (c.seconds, c.experiment.loop.accumulate, c.bytes))
