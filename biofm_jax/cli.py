"""The command `biofm`: parses, prints, calls; no logic of its own."""

import dataclasses
import json
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import tyro

from biofm_jax import __version__, cli_models, cli_plan
from biofm_jax.cli_output import DONE, ERR, FAILED, MISUSED, OUT, parse, print_rows
from biofm_jax.errors import UserError

Positional = tyro.conf.Positional


@dataclasses.dataclass(frozen=True)
class List:
    """List what there is.

    Attributes:
        what: experiments of the current folder, published models, tasks, or data formats.
        json: print JSON instead of a table.
    """

    what: Positional[Literal["experiments", "models", "tasks", "data"]] = "experiments"
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


def list_(arguments: list[str]) -> int:
    """Show experiments, models, tasks or data formats."""
    from biofm_jax import catalogue

    options = parse(List, arguments, "list")
    print_rows(options.what, catalogue.LISTS[options.what](), options.json)
    return DONE


def train(arguments: list[str]) -> int:
    """Pretrain from an experiment file; goes on by itself where the workdir has a checkpoint."""
    from biofm_jax import experiment as experiments
    from biofm_jax import starting
    from biofm_jax.evaluate.provenance import same_everywhere
    from biofm_jax.train import hosts

    usage = (
        "usage: biofm train EXPERIMENT.py[:variant] [--path.to.field VALUE ...] [--workdir DIR]\n"
        "                   [--start MODEL] [--dry-run True] [--json True] [--distributed True]\n\n"
        "EXPERIMENT.py is one of `biofm list experiments` or your own. `biofm train EXPERIMENT.py\n"
        "--help` lists every field with its value, for example:\n\n"
        "  biofm train experiments/computational_biology/esm2_masked.py \\\n"
        "      --data.path proteins.fasta --loop.steps 200 --workdir runs/esm2\n\n"
        "--start MODEL begins with the parameters of an import or of a finished run; its\n"
        "architecture, image size and tokenizer take the place of the experiment's.\n\n"
        "Killed at any moment and started again with the same command, it goes on."
    )
    if not arguments or arguments[0].startswith("-"):
        print(usage)
        return DONE if arguments[:1] in (["--help"], ["-h"]) else MISUSED
    name = arguments[0]
    default = experiments.load_experiment(name)
    parts = {f.name: getattr(default, f.name) for f in dataclasses.fields(default)}
    kind = dataclasses.make_dataclass(
        "Train",
        [
            ("workdir", Path, dataclasses.field(default=_workdir(name))),
            ("start", str, dataclasses.field(default="")),
            ("dry_run", bool, dataclasses.field(default=False)),
            ("json", bool, dataclasses.field(default=False)),
            ("distributed", bool, dataclasses.field(default=False)),
        ],
        bases=(experiments.Experiment,),
        frozen=True,
        namespace={"__doc__": f"Train {name}. The defaults are the experiment's own values."},
    )
    chosen = parse(kind, arguments[1:], f"train {name}", default=kind(**parts))
    experiment = experiments.Experiment(**{field: getattr(chosen, field) for field in parts})
    start = None
    if chosen.start:
        experiment, start = starting.started(experiment, chosen.start)
    hosts.join(chosen.distributed, lambda: same_everywhere(experiment.to_json()))
    if chosen.dry_run:
        row = experiments.describe(experiment)
        if hosts.is_first():
            print_rows("dry run: nothing was written", [row], chosen.json, across=False)
        return DONE
    result = experiments.train(experiment, chosen.workdir, show=not chosen.json, start=start)
    row = {
        "workdir": str(chosen.workdir),
        "steps": experiment.loop.steps,
        "resumed_from": result.resumed_from,
        **{k: v for k, v in (result.rows[-1] if result.rows else {}).items() if k != "step"},
    }
    if hosts.is_first():
        print_rows("trained", [row], chosen.json, across=False)
    return DONE


def _workdir(name: str) -> Path:
    path, _, variant = name.partition(":")
    return Path("runs") / (Path(path).stem + (f"_{variant}" if variant else ""))


def data(arguments: list[str]) -> int:
    """Fetch benchmarks, prepare files into records, inspect them (fetch, prepare, inspect)."""
    from biofm_jax import cli_data

    return cli_data.main(arguments)


def evaluate(arguments: list[str]) -> int:
    """Adapt a model to tasks and score it beside its control and simple baselines."""
    from biofm_jax import compare
    from biofm_jax.adapt.methods import Tuning
    from biofm_jax.evaluate.table import rows_by_task, rows_to_table

    options = parse(compare.Evaluate, arguments, "evaluate")
    plan = compare.plan(options.task, compare.methods(options), options.seeds)
    if options.dry_run:
        print_rows("dry run", [{"task": t.name, "method": m} for t, m in plan], options.json)
        return DONE
    rows = compare.run(
        options.model,
        plan,
        options.seeds,
        Tuning(options.finetune, options.lora),
        options.out,
        progress=lambda line: ERR.print(line, highlight=False),
        groups=options.groups,
        apart=options.apart,
        partner=options.partner,
    )
    if options.json:
        header, cells = rows_to_table(rows)
        print_rows("", [dict(zip(header, line, strict=True)) for line in cells], True)
        return DONE
    for title, lines in rows_by_task(rows):
        print_rows(title, lines, False)
    OUT.print(f"results in {options.out}", highlight=False)
    return DONE


def sweep(arguments: list[str]) -> int:
    """Train and evaluate every combination of some values and seeds; table, intervals, plot."""
    from biofm_jax.sweep import command

    options = parse(command.Sweep, arguments, "sweep")
    plan = command.make_plan(options)
    if options.dry_run:
        print_rows("dry run", command.dry_run(plan), options.json)
        return DONE
    outcome = command.run(plan, progress=lambda line: ERR.print(line, highlight=False))
    if options.json:
        print(json.dumps(outcome.to_json()))
    else:
        for title, lines in outcome.tables():
            print_rows(title, lines, False)
        OUT.print(f"table and plot in {plan.out}", highlight=False)
    return FAILED if outcome.failed else DONE


def interpret(arguments: list[str]) -> int:
    """Show why a model says what it says: attention, mutagenesis, gradients, a map."""
    from biofm_jax.interpretation import Interpret, Interpreter

    options = parse(Interpret, arguments, "interpret")
    interpreter = Interpreter(options)
    rows = [dataclasses.asdict(piece) for piece in interpreter.pieces()]
    if options.dry_run:
        print_rows("dry run", rows, options.json)
        return DONE
    for row, piece in zip(rows, interpreter.pieces(), strict=True):
        ERR.print(f"{piece.kind} by {piece.readout} {piece.text[:40]}", highlight=False)
        row["file"] = str(interpreter.make(piece))
    print_rows("interpretations; `biofm report` draws them", rows, options.json)
    return DONE


def repurpose(arguments: list[str]) -> int:
    """Rank drugs for a disease by a model of a knowledge graph, with the paths between them."""
    from biofm_jax import cli_repurpose

    return cli_repurpose.repurpose(arguments)


def retrieve(arguments: list[str]) -> int:
    """Find one view of held-out records by the other: recall@k of a contrastive run."""
    from biofm_jax import cli_retrieve

    return cli_retrieve.run(arguments)


def trial(arguments: list[str]) -> int:
    """Predict outcomes of clinical trials and say which sentence or drug moved each one."""
    from biofm_jax import cli_trial

    return cli_trial.trial(arguments)


@dataclasses.dataclass(frozen=True)
class Report:
    """Write the results and runs under some folders to one HTML page and a Markdown table.

    Attributes:
        folders: result folders and workdirs, searched to the bottom.
        out: the page; the Markdown table goes beside it.
        title: heading of the page.
    """

    folders: Positional[tuple[Path, ...]]
    out: Path = Path("report.html")
    title: str = "Results"


def report(arguments: list[str]) -> int:
    """Gather results and runs into one HTML page and a Markdown table."""
    from biofm_jax.evaluate.report import write_report

    options = parse(Report, arguments, "report")
    written = write_report(options.folders, options.out, options.title)
    for problem in written.problems:
        ERR.print(f"not read: {problem}", highlight=False)
    OUT.print(f"{written.html} and {written.markdown}", highlight=False)
    return DONE


VERBS: dict[str, Callable[[list[str]], int]] = {
    "list": list_,
    "train": train,
    "plan": cli_plan.plan,
    "evaluate": evaluate,
    "sweep": sweep,
    "interpret": interpret,
    "score": cli_models.score,
    "embed": cli_models.embed,
    "generate": cli_models.generate,
    "repurpose": repurpose,
    "retrieve": retrieve,
    "trial": trial,
    "report": report,
    "data": data,
    "import": cli_models.import_,
    "export": cli_models.export,
    "parity": cli_models.parity,
}


def help_text() -> str:
    """What `biofm --help` prints."""
    verbs = "\n".join(f"  {name:10} {run.__doc__.splitlines()[0]}" for name, run in VERBS.items())
    return (
        f"biofm {__version__}: pretrain, adapt and evaluate biomedical foundation models.\n\n"
        f"usage: biofm VERB ...\n\n{verbs}\n\n"
        "`biofm VERB --help` says more. Exit code: 0 done, 1 failed, 2 misused.\n"
        "BIOFM_DATA names the folder of benchmark data, BIOFM_CACHE that of prepared data and\n"
        "compiled programs (default ~/.cache/biofm_jax)."
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code: 0 done, 1 failed, 2 misused."""
    arguments = sys.argv[1:] if arguments is None else arguments
    logging.basicConfig(format="%(message)s", level=logging.WARNING, force=True)
    logging.getLogger("biofm_jax").setLevel(logging.INFO)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(help_text())
        return DONE if arguments else MISUSED
    if arguments[0] == "--version":
        print(__version__)
        return DONE
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        import difflib

        near = difflib.get_close_matches(verb, VERBS, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        print(f"biofm: there is no verb {verb!r}.{hint} See biofm --help", file=sys.stderr)
        return MISUSED
    from biofm_jax.train.absent_tpu import quiet_libtpu
    from biofm_jax.train.compile_cache import enable_compile_cache
    from biofm_jax.train.host_memory import keep_freed_memory

    keep_freed_memory()
    quiet_libtpu()
    enable_compile_cache()
    return _run(verb, rest)


def _run(verb: str, arguments: list[str]) -> int:
    """A verb's exit code; its errors are told to the user and to the run's other processes."""
    from biofm_jax.train import hosts
    from biofm_jax.train.checkpoint import CheckpointError
    from biofm_jax.train.nonfinite import NonFiniteLoss
    from biofm_jax.train.stop import Stopped

    try:
        code = VERBS[verb](arguments)
    except Exception as error:
        if not isinstance(error, Stopped):  # all processes stop together, and leave in peace
            hosts.failing(error)
        code = MISUSED if isinstance(error, UserError) else FAILED
        if isinstance(error, UserError | CheckpointError | NonFiniteLoss | Stopped):
            print(f"biofm {verb}: {error}", file=sys.stderr)
        elif hosts.joined():
            traceback.print_exc()
        else:
            raise
    except KeyboardInterrupt as error:
        hosts.failing(error)
        print(f"biofm {verb}: stopped", file=sys.stderr)
        code = FAILED
    return hosts.leave(code)


if __name__ == "__main__":
    sys.exit(main())
