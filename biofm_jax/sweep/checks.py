"""Checks of all cells before the first one starts, in a process of their own.

    python -m biofm_jax.sweep.checks < JSON

The sweep itself never touches an accelerator: a GPU or TPU that it held would be missing in the
processes of the cells. This process looks at the devices as a cell would, and is gone before.
"""

import json
import logging
import subprocess
import sys

from biofm_jax.errors import UserError
from biofm_jax.evaluate.task import get_task
from biofm_jax.experiment import Experiment, describe


def check(experiments: dict[str, Experiment], tasks: list[str]) -> dict[str, dict]:
    """Check and trace every experiment, and read the data of every task.

    Args:
        experiments: by label.
        tasks: names.

    Returns:
        What `experiment.describe` says of each, by label.

    Raises:
        UserError: an impossible experiment or a task without its data.
    """
    request = {
        "experiments": {label: one.to_json() for label, one in experiments.items()},
        "tasks": tasks,
    }
    command = [sys.executable, "-m", "biofm_jax.sweep.checks"]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True)
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise RuntimeError(f"the checks of the cells died: {done.stderr[-2000:]}") from None
    if "error" in answer:
        raise UserError(answer["error"])
    return answer["rows"]


def main() -> None:
    """Answer one request on the standard input."""
    logging.getLogger("biofm_jax").setLevel(logging.ERROR)
    request = json.loads(sys.stdin.read())
    rows, where = {}, ""
    try:
        for label, value in request["experiments"].items():
            where = f"{label}: "
            rows[label] = describe(Experiment.from_json(value))
        where = ""
        for name in request["tasks"]:
            get_task(name).data(None)
        print(json.dumps({"rows": rows}))
    except UserError as error:
        print(json.dumps({"error": f"{where}{error}"}))


if __name__ == "__main__":
    main()
