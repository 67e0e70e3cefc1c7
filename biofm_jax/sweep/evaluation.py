"""The evaluation of one trained cell, in a process of its own.

    python -m biofm_jax.sweep.evaluation JOB

JOB is JSON: the cell's workdir, label and seed, the folder of results, the command to record,
and what to evaluate. Each finished evaluation is noted in the workdir at once.
"""

import json
import sys
from pathlib import Path

from biofm_jax import compare, specs
from biofm_jax.errors import UserError
from biofm_jax.evaluate.run import Contender, evaluate
from biofm_jax.evaluate.task import get_task
from biofm_jax.experiment import load_encoder
from biofm_jax.files import write_whole
from biofm_jax.sweep.cells import EVALUATED
from biofm_jax.train.compile_cache import enable_compile_cache
from biofm_jax.train.host_memory import keep_freed_memory


def run(job: dict) -> None:
    """Evaluate a cell on some (task, method) pairs.

    The cell's seed is that of the adaptation and of the control's random parameters too, so
    that the deviation over seeds is of the whole procedure.
    """
    workdir, label, seed = Path(job["workdir"]), job["label"], job["seed"]
    note = workdir / EVALUATED
    done = json.loads(note.read_text()) if note.exists() else []
    encoder = load_encoder(str(workdir))
    control = encoder.control()
    adapters = {}  # by options: they keep what they embedded
    for item in job["evaluated"]:
        task, method = get_task(item["task"]), item["method"]
        options, dataset = specs.decode(item["options"]), task.data(None)
        adapt = adapters.setdefault(options, compare.Adapters(options))
        of_task = task.kind, dataset.wild_type, compare.prompts_for(method, task, dataset)
        contender = Contender(
            model=label,
            method=method,
            adapter=adapt.of(encoder, method, *of_task),
            control=adapt.of(control, method, *of_task),
        )
        evaluate(
            task,
            contender,
            seeds=[seed],
            dataset=dataset,
            out=Path(job["results"]),
            command=job["command"],
            progress=lambda line: print(line, flush=True),
        )
        same = {key: item[key] for key in ("task", "method")}
        done = [other for other in done if not same.items() <= other.items()] + [item]
        write_whole(note, json.dumps(done) + "\n")


def main() -> int:
    """Do the job of the command line; returns the exit code."""
    keep_freed_memory()
    enable_compile_cache()
    try:
        run(json.loads(sys.argv[1]))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
