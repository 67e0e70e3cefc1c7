"""The sbatch file: what srun gets, and the way back into the queue."""

import os
import shlex
import signal
import subprocess
import time

import pytest
from pretended_cloud import SCRIPTS, script

SBATCH = SCRIPTS / "slurm/train.sbatch"
# As SLURM's: a srun that is told to end kills its tasks, and scancel signals them alone.
SRUN = """shift
"$@" &
echo $! >"{0}/task"
trap 'kill -KILL $(cat "{0}/task")' TERM
wait $!"""
SCANCEL = """echo "$@" >>"{0}/scancel"
kill -TERM $(cat "{0}/task")"""


def start(tmp_path, *words: str, **environment: str) -> subprocess.Popen:
    script(tmp_path / "bin/scontrol", f'echo "$@" >>"{tmp_path}/scontrol"')
    script(tmp_path / "bin/srun", SRUN.format(tmp_path))
    script(tmp_path / "bin/scancel", SCANCEL.format(tmp_path))
    path = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "SLURM_JOB_ID": "42"}
    return subprocess.Popen(
        ["bash", SBATCH, *words],
        env=os.environ | path | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_training_joins_its_processes(tmp_path):
    out, _ = start(tmp_path, "biofm", "train", "x y.py", BIOFM_DRY_RUN="1").communicate()
    train = ["biofm", "train", "x y.py", "--distributed", "True"]
    assert shlex.split(out) == ["srun", "--kill-on-bad-exit=1", *train]
    process = start(tmp_path)
    assert "no command" in process.communicate()[1] and process.returncode == 2


def test_the_exit_code_is_the_commands(tmp_path):
    process = start(tmp_path, "sh", "-c", "exit 5")
    process.communicate()
    assert process.returncode == 5 and not (tmp_path / "scontrol").exists()


@pytest.mark.parametrize("code, queued", [(1, True), (0, False)])
def test_before_the_time_limit_it_saves_and_queues_again(tmp_path, code, queued):
    save = f'trap "sleep 0.3; touch {tmp_path}/saved; exit {code}" TERM; touch {tmp_path}/up'
    process = start(tmp_path, "bash", "-c", f"{save}; while :; do sleep 0.1; done")
    while not (tmp_path / "up").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == code
    assert (tmp_path / "saved").exists()
    assert (tmp_path / "scancel").read_text() == "--signal=TERM 42\n"
    assert (tmp_path / "scontrol").exists() == queued
