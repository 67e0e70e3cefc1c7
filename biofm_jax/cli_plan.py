"""The verb `biofm plan`."""

import dataclasses
import json

from biofm_jax.cli_output import DONE, ERR, FAILED, MISUSED, OUT, parse, print_rows

USAGE = (
    "usage: biofm plan EXPERIMENT.py[:variant] --topology NAME [--path.to.field VALUE ...]\n"
    "                  [--search True] [--tries N] [--document TOKENS] [--json True]\n\n"
    "Compiles the step that `biofm train` would run for hardware that is not here, and says what\n"
    "it takes: memory of a chip, FLOPs, bytes sent, time and chip-hours. An estimate: nothing is\n"
    "run. NAME is a slice of v4, v5e, v5p or v6e by its shape (v5e:4x4) or its accelerator type\n"
    "(v5e-16; v5p-8 is four chips), which needs `pip install 'biofm_jax[plan]'`, or cpu:8 for\n"
    "simulated devices. A compilation takes a minute and is kept. --search compiles the likeliest\n"
    "meshes, rematerialisations and microbatches. Exit code 1: it does not fit.\n\n"
    "  biofm plan experiments/computational_biology/esm2_masked.py:3B --topology v5p:4x4x4 \\\n"
    "      --loop.batch_size 2048 --mesh.data 1 --mesh.fsdp 64"
)


def plan(arguments: list[str]) -> int:
    """Compile an experiment for absent hardware: memory, FLOPs, bytes sent, time and cost."""
    import jax

    from biofm_jax.experiment import Experiment, load_experiment
    from biofm_jax.plan import report
    from biofm_jax.plan.planning import make_plan
    from biofm_jax.plan.searching import nearest_fit
    from biofm_jax.plan.topology import parse_topology

    if not arguments or arguments[0].startswith("-"):
        print(USAGE)
        return DONE if arguments[:1] in (["--help"], ["-h"]) else MISUSED
    name = arguments[0]
    default = load_experiment(name)
    parts = {f.name: getattr(default, f.name) for f in dataclasses.fields(default)}
    kind = dataclasses.make_dataclass(
        "Plan",
        [
            ("topology", str, dataclasses.field(default="cpu:8")),
            ("search", bool, dataclasses.field(default=False)),
            ("tries", int, dataclasses.field(default=6)),
            ("document", float | None, dataclasses.field(default=None)),
            ("json", bool, dataclasses.field(default=False)),
        ],
        bases=(Experiment,),
        frozen=True,
        namespace={
            "__doc__": f"""Plan {name}. The defaults are the experiment's own values.

    Attributes:
        topology: slice to compile for: v5e:4x4, v5e-16, v5p-8, cpu:8.
        search: try meshes, rematerialisations and microbatches, and rank those that fit.
        tries: how many of them to compile.
        document: mean tokens of a document, for model FLOPs; default: of the data, or a row.
        json: print JSON instead of tables.
    """
        },
    )
    chosen = parse(kind, arguments[1:], f"plan {name}", default=kind(**parts))
    topology = parse_topology(chosen.topology)
    # Before the first device is asked for: no accelerator is needed, and none is to be taken.
    jax.config.update("jax_platforms", "cpu")
    if topology.chip is None:
        _simulate(topology.chips)
    jax.config.update("jax_enable_compilation_cache", False)  # plans are kept by themselves
    experiment = Experiment(**{field: getattr(chosen, field) for field in parts})
    if chosen.search:
        return _search(experiment, topology, chosen)
    made = _busy(f"compiling for {topology.name}", make_plan, experiment, topology, chosen.document)
    nearest = None
    if not made.memory.fits:
        nearest = _busy("looking for what fits", nearest_fit, made, _tell)
    words = report.advice(made, nearest)
    if chosen.json:
        print(json.dumps([made.to_json() | {"advice": words}]))
    else:
        title = f"estimate of {name}; nothing was run"
        print_rows(title, [report.summary(made)], False, across=False)
        if rows := report.sent_rows(made):
            print_rows("sent by a chip in a step", rows, False)
        for line in words:
            OUT.print(line, highlight=False)
    return DONE if made.memory.fits else FAILED


def _search(experiment, topology, chosen) -> int:
    from biofm_jax.plan import report
    from biofm_jax.plan.searching import search

    document = chosen.document or experiment.data.attended
    found = _busy("searching", search, experiment, topology, document, chosen.tries, _tell)
    if chosen.json:
        rows = [p.to_json() | {"options": c.flags(experiment)} for c, p in found]
        print(json.dumps(rows))
    else:
        title = f"estimates for {topology.name}, the fastest that fits first; nothing was run"
        print_rows(title, report.search_rows(found, experiment), False)
    return DONE if found[0][1].memory.fits else FAILED


def _simulate(devices: int) -> None:
    """So many CPU devices, unless this process has its devices already."""
    import jax

    try:
        jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError:
        return  # they are counted, and too few refused, by the topology


def _busy(words: str, run, *arguments):
    with ERR.status(words):
        return run(*arguments)


def _tell(line: str) -> None:
    ERR.print(line, highlight=False)
