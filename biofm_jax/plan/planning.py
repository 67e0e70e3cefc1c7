"""A plan: what a training step would take and cost on hardware that is not here."""

import dataclasses

import jax

from biofm_jax.experiment import Experiment
from biofm_jax.plan.compiling import compile_step
from biofm_jax.plan.counting import Counts, count
from biofm_jax.plan.hlo import parse
from biofm_jax.plan.memory import Memory
from biofm_jax.plan.pairs import pairs_of
from biofm_jax.plan.roofline import Roofline, least_sent, roofline
from biofm_jax.plan.topology import Topology
from biofm_jax.plan.weights import weights
from biofm_jax.sweep.budget import step_tokens, token_flops
from biofm_jax.train.mesh import AXES


@dataclasses.dataclass(frozen=True)
class Plan:
    """An estimate; nothing in it was measured.

    Attributes:
        experiment: what was planned.
        topology: for what.
        sizes: of the mesh axes.
        parameters: of the model.
        attended: tokens of the document a token stands in, as the model FLOPs take it.
        model_flops: of a step on all chips, by the rule of `models/flops.py`.
        memory: of one chip.
        counts: of one chip; None where the compiler refused the step.
        least: bytes a chip must send, by mesh axis.
        time: of a step; None where it was refused, and on a CPU.
        seconds: CPU time of the compilation.
    """

    experiment: Experiment
    topology: Topology
    sizes: tuple[int, ...]
    parameters: int
    attended: float
    model_flops: float
    memory: Memory
    counts: Counts | None
    least: dict[str, float]
    time: Roofline | None
    seconds: float

    @property
    def tokens(self) -> int:
        """Token places of a step."""
        return step_tokens(self.experiment)

    @property
    def flops_ratio(self) -> float | None:
        """FLOPs of all chips' programs over model FLOPs."""
        if self.counts is None:
            return None
        return self.counts.flops * self.topology.chips / self.model_flops

    @property
    def pair_flops(self) -> float:
        """Of a chip's FLOPs those that compare all examples of the batch."""
        return pairs_of(self.experiment).chip_flops(self.sizes)

    @property
    def mesh(self) -> str:
        """Axes longer than 1, as `fsdp 8, tensor 2`."""
        named = zip(AXES, self.sizes, strict=True)
        return ", ".join(f"{n} {s}" for n, s in named if s > 1) or "one device"

    def mfu(self, seconds: float) -> float:
        """Model FLOPs utilisation where a step takes so long."""
        return self.model_flops / (seconds * self.topology.chips * self.topology.chip.flops)

    def to_json(self) -> dict:
        """Everything, as plain JSON values; bytes, seconds and FLOPs."""
        time = self.time
        value = {
            "estimate": True,
            "topology": self.topology.name,
            "chips": self.topology.chips,
            "mesh": dict(zip(AXES, self.sizes, strict=True)),
            "remat": self.experiment.model.remat,
            "accumulate": self.experiment.loop.accumulate,
            "batch_size": self.experiment.loop.batch_size,
            "parameters": self.parameters,
            "tokens_per_step": self.tokens,
            "fits": self.memory.fits,
            "memory": {
                **dataclasses.asdict(self.memory),
                "total": self.memory.total,
                "usable": self.memory.usable,
                "headroom": self.memory.headroom,
            },
            "attended": self.attended,
            "model_flops": self.model_flops,
            "compile_cpu_seconds": round(self.seconds, 1),
        }
        if self.counts is not None:
            value |= {
                "chip_flops": self.counts.flops,
                "chip_pair_flops": self.pair_flops,
                "flops_ratio": self.flops_ratio,
                "chip_memory_bytes": self.counts.memory_bytes,
                "collectives": [dataclasses.asdict(one) for one in self.counts.collectives],
                "sent_bytes": self.counts.sent(),
                "least_sent_bytes": self.least,
                "uncounted_kernels": list(self.counts.unknown),
            }
        if time is not None:
            value["time"] = dataclasses.asdict(time) | self.cost()
        return value

    def cost(self) -> dict:
        """Speed and budget at both ends of the roofline: all parts overlap, or none do."""
        steps, found = self.experiment.loop.steps, {}
        for name, seconds in (("overlapped", self.time.best), ("not_overlapped", self.time.sum)):
            hours = steps * seconds / 3600
            found[name] = {
                "step_seconds": seconds,
                "tokens_per_second": self.tokens / seconds,
                "mfu": self.mfu(seconds),
                "steps": steps,
                "hours": hours,
                "chip_hours": hours * self.topology.chips,
            }
        return found


def make_plan(experiment: Experiment, topology: Topology, document: float | None = None) -> Plan:
    """Compile an experiment's step for a topology and count what it does.

    Args:
        experiment: its mesh must fit the number of chips.
        topology: what to compile for.
        document: mean length of the documents in a row, in tokens; None: that of the data where
            `data.path` is set, else a row.

    Raises:
        UserError: as `Experiment.check`, `Topology.devices` and, for data, `SequenceData.open`.
    """
    compiled, program = compile_step(experiment, topology)
    sizes = experiment.mesh.sizes(topology.chips)
    params = program.shapes.params
    parameters = [*weights(sizes, params, experiment.model.build().axes(params))]
    if document is None:
        lengths = experiment.data.lengths() if experiment.data.path else None
        document = experiment.data.attended if lengths is None else lengths.attended
    counts = time = None
    if compiled.text:
        share = experiment.model.visited_share(experiment.data.max_tokens)
        counts = count(parse(compiled.text), sizes, share)
    if counts is not None and topology.chip is not None:
        sent = sum(counts.sent().values())
        time = roofline(topology.chip, counts.flops, counts.memory_bytes, sent)
    return Plan(
        experiment=experiment,
        topology=topology,
        sizes=sizes,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(params)),
        attended=document,
        model_flops=token_flops(experiment, document) * step_tokens(experiment),
        memory=compiled.memory,
        counts=counts,
        least=least_sent(experiment, sizes, parameters),
        time=time,
        seconds=compiled.seconds,
    )
