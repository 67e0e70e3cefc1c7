"""One training step compiled for a topology, and kept so that it is not compiled twice."""

import dataclasses
import gzip
import hashlib
import importlib.metadata
import json
import logging
import time

import jax

from biofm_jax.experiment import Experiment
from biofm_jax.files import write_whole
from biofm_jax.plan.memory import Memory, argument_bytes, memory_of, refused_memory
from biofm_jax.plan.topology import Topology
from biofm_jax.train.compile_cache import cache_folder
from biofm_jax.train.step import Program

log = logging.getLogger("biofm_jax")


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler made of a step.

    Attributes:
        text: the program of one device; empty where it was refused.
        memory: of one chip; of a refused one as far as the compiler told.
        seconds: CPU time of tracing and compiling, over all threads; as it was when it was done.
    """

    text: str
    memory: Memory
    seconds: float


def compile_step(experiment: Experiment, topology: Topology) -> tuple[Compiled, Program]:
    """Trace and compile the step that `biofm train` would run on that topology.

    Raises:
        UserError: as `Experiment.check` and `Topology.devices`.
        jax.errors.JaxRuntimeError: the compiler failed for another reason than memory.
    """
    experiment.check(topology.chips)
    began = time.process_time()
    mesh, shapes = experiment.mesh.build(topology.devices()), experiment.shapes()
    program = experiment.program(mesh, shapes)
    lowered = program.step.lower(program.shapes, shapes)
    capacity = topology.chip.memory if topology.chip else 0
    path = cache_folder() / "plans" / f"{_key(lowered.as_text(), topology)}.json.gz"
    if path.is_file():
        kept = json.loads(gzip.decompress(path.read_bytes()))
        return Compiled(kept["text"], Memory(**kept["memory"]), kept["seconds"]), program
    try:
        compiled = lowered.compile()
        text, memory = compiled.as_text(), memory_of(compiled, capacity)
    except jax.errors.JaxRuntimeError as error:
        arguments = argument_bytes(program, mesh, shapes)
        memory = refused_memory(str(error), arguments, capacity)
        if memory is None:
            raise
        text = ""
    made = Compiled(text, memory, time.process_time() - began)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, gzip.compress(json.dumps(dataclasses.asdict(made)).encode()))
    return made, program


def _key(text: str, topology: Topology) -> str:
    """Names a program, its hardware and the compiler."""
    parts = [text, topology.name, jax.__version__]
    if topology.chip is not None:
        parts.append(importlib.metadata.version("libtpu"))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
