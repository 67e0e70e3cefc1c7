"""A sweep whose training processes are pretended: what starts, what is skipped, what is said."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from biofm_jax import cli
from biofm_jax.errors import UserError
from biofm_jax.sweep import command, processes
from biofm_jax.sweep.cells import claimed
from biofm_jax.sweep.command import Sweep, dry_run, make_plan

RATES = "objective.rate=0.1,0.2"


def options(tiny, tmp_path, *over, **more):
    more = {"seeds": 2, "out": tmp_path / "out"} | more
    return Sweep(tiny, over=over or (RATES,), **more)


def run(*arguments, **more):
    lines = []
    return command.run(make_plan(options(*arguments, **more)), lines.append), lines


def test_a_sweep_from_grid_to_table(tiny, tmp_path, pretend):
    outcome, lines = run(tiny, tmp_path)
    assert not outcome.failed and not outcome.unfinished
    assert pretend() == ["rate=0.1_0", "rate=0.2_0", "rate=0.1_1", "rate=0.2_1"]
    assert lines[0].startswith("[1/4] rate=0.1 seed 0: 4 steps, log in ")
    assert lines[-1].startswith("[4/4] rate=0.2 seed 1: done, ")
    first, second = outcome.losses
    assert (first.label, first.seeds) == ("rate=0.1", (0, 1))
    assert first.values == pytest.approx([0.1, 0.11]) and first.mean == pytest.approx(0.105)
    assert second.deviation == pytest.approx(0.01 / 2**0.5)
    record = json.loads((tmp_path / "out/cells/rate=0.2_1/experiment.json").read_text())
    assert (record["objective"]["rate"], record["loop"]["seed"]) == (0.2, 1)
    assert record["loop"]["eval_every"] == 4  # without tasks the held-out loss is what counts
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| rate=0.1 | 2 | 4 | 2048 |" in table and "0.105 sd 0.007" in table
    # Other rates hide other tokens.
    assert "does not rank them" in table
    assert (tmp_path / "out" / "comparison.png").read_bytes()[:4] == b"\x89PNG"


def test_finished_cells_are_not_run_again_and_a_grid_can_grow(tiny, tmp_path, pretend):
    run(tiny, tmp_path, "objective.rate=0.1,0.2", seeds=1)
    outcome, lines = run(tiny, tmp_path, "objective.rate=0.1,0.2,0.3")
    assert pretend() == ["rate=0.1_0", "rate=0.2_0", "rate=0.3_0"] + [
        f"rate={rate}_1" for rate in ("0.1", "0.2", "0.3")
    ]
    assert "finished before" in lines[0]
    assert [len(row.seeds) for row in outcome.losses] == [2, 2, 2]


def test_a_cell_that_fails_does_not_stop_the_rest(tiny, tmp_path, pretend):
    over = "objective.rate=0.4,0.5,0.2"
    outcome, lines = run(tiny, tmp_path, over, seeds=1)
    assert pretend() == ["rate=0.4_0", "rate=0.5_0", "rate=0.2_0"]
    assert outcome.failed and [row.label for row in outcome.losses] == ["rate=0.2"]
    crashed, killed = outcome.unfinished
    assert (crashed["cell"], crashed["state"]) == ("rate=0.4 seed 0", "failed")
    log = tmp_path / "out/cells/rate=0.4_0/log.txt"
    assert crashed["why"] == f"biofm train: it went wrong; log: {log}"
    assert log.read_text().startswith("$ ") and "training" in log.read_text()
    assert killed["why"].startswith("killed by SIGKILL, as the system does when memory runs out")
    table = (tmp_path / "out" / "table.md").read_text()
    assert "rate=0.4 seed 0" in table and "it went wrong" in table
    assert any("failed: biofm train: it went wrong" in line for line in lines)
    # Started again, it tries again what failed.
    run(tiny, tmp_path, over, seeds=1)
    assert pretend()[3:] == ["rate=0.4_0", "rate=0.5_0"]


def test_the_command_says_what_failed_and_exits_with_1(tiny, tmp_path, pretend, capsys):
    arguments = ["sweep", tiny, "--over", "objective.rate=0.4,0.2", "--out", str(tmp_path / "o")]
    assert cli.main([*arguments, "--seeds", "1"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "rate=0.4" in printed and "held-out loss" in printed
    assert cli.main([*arguments, "--seeds", "1", "--json", "True"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [row["label"] for row in found["losses"]] == ["rate=0.2"]
    assert found["unfinished"][0]["state"] == "failed"
    arguments[3] = "objective.rate=0.1,0.2"
    assert cli.main([*arguments, "--over", "loop.steps=4", "--seeds", "1"]) == 0


def test_two_at_once_share_the_cells(tiny, tmp_path, pretend, monkeypatch):
    quick = processes.train_command
    monkeypatch.setattr(processes, "train_command", lambda cell: quick(cell, 0.5))
    plan = make_plan(options(tiny, tmp_path, "objective.rate=0.1,0.2,0.3"))
    outcomes, lines = [], []

    def work():
        outcomes.append(command.run(plan, lines.append))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pretend()) == len(set(pretend())) == 6
    assert sum("done," in line for line in lines) == 6
    # Whoever ends last has seen everything.
    last = outcomes[-1]
    assert not last.unfinished and [len(row.seeds) for row in last.losses] == [2, 2, 2]


def test_shards_are_disjoint_and_complete(tiny, tmp_path, pretend, monkeypatch):
    over, done = "objective.rate=0.1,0.2,0.3", []
    for index in range(4):
        outcome, _ = run(tiny, tmp_path, over, shard=f"{index}/4")
        assert len(outcome.unfinished) == 6 - len(pretend())
        done.append(set(pretend()))
    assert [len(part) for part in done] == [2, 4, 5, 6]
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    for name, value in (("COUNT", "3"), ("MIN", "1"), ("MAX", "3")):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    plan = make_plan(options(tiny, tmp_path, over))
    assert plan.mine == plan.cells[1::3] and len(plan.cells) == 6


def test_a_cell_that_runs_elsewhere_is_left_to_it(tiny, tmp_path, pretend):
    with claimed(tmp_path / "out/cells/rate=0.1_0"):
        outcome, lines = run(tiny, tmp_path, seeds=1)
        assert lines[0].endswith("running in another process")
        assert pretend() == ["rate=0.2_0"] and not outcome.failed
        assert outcome.unfinished[0]["state"] == "running"


@pytest.mark.parametrize(
    ("over", "more", "words"),
    [
        (("objective.rte=1,2",), {}, "did you mean objective.rate"),
        (("objective.rate=0.1,x",), {}, "--over objective.rate=x"),
        (("loop.steps=1,2",), {"match": "tokens"}, "--match chooses the steps"),
        ((), {"seeds": 0}, "--seeds is 0"),
        ((), {"shard": "3/2"}, "write i/n"),
        ((), {"task": ("nothing",)}, "nothing"),
        ((), {"fraction": (10.0,)}, "give --task"),
        ((), {"task": ("esol",)}, "esol is a task of molecule models"),
        (("data.holdout=0",), {}, "nothing to compare"),
        (("data.path=absent.fasta",), {}, "absent.fasta"),
        (("data.path=",), {}, "--data.path"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(tiny, tmp_path, pretend, over, more, words):
    with pytest.raises(UserError, match=words):
        make_plan(options(tiny, tmp_path, *over, **more))
    assert not pretend() and not (tmp_path / "out").exists()


def test_a_changed_experiment_is_refused_before_anything_runs(tiny, tmp_path, pretend):
    run(tiny, tmp_path, seeds=1)
    with pytest.raises(UserError, match=r"model\.dropout: 0\.0 there, 0\.1 here"):
        make_plan(options(tiny, tmp_path, RATES, "model.dropout=0.1", seeds=1))
    assert len(pretend()) == 2


def test_budgets_are_matched_to_the_first_cell(tiny, tmp_path, pretend):
    plan = make_plan(
        options(tiny, tmp_path, "loop.batch_size=8,16", "loop.steps=8", match="tokens")
    )
    assert [cell.experiment.loop.steps for cell in plan.cells] == [8, 4, 8, 4]
    assert [cell.experiment.optimizer.warmup for cell in plan.cells] == [2, 1, 2, 1]
    lines = dry_run(plan)
    assert {line["tokens"] for line in lines[:-1]} == {8 * 8 * 64}
    over = ["loop.batch_size=8,16", "loop.steps=8", "optimizer.warmup=3,4"]
    plan = make_plan(options(tiny, tmp_path, *over, match="tokens", seeds=1))
    assert [cell.experiment.optimizer.warmup for cell in plan.cells] == [3, 4, 3, 4]


def test_a_dry_run_counts_and_estimates(tiny, tmp_path, pretend):
    over = ("model.layers=1,2", "loop.steps=8")
    before = dry_run(make_plan(options(tiny, tmp_path, *over, seeds=1)))
    assert [line["minutes left"] for line in before] == ["unknown"] * 3
    assert [line["state"] for line in before[:-1]] == ["waiting"] * 2
    assert not pretend() and not (tmp_path / "out").exists()
    assert before[0]["parameters"] == 7 and before[0]["steps"] == 8
    assert before[2]["TFLOPs"] == pytest.approx(before[0]["TFLOPs"] + before[1]["TFLOPs"])
    run(tiny, tmp_path, *over, seeds=1, shard="0/2")
    first, second, total = dry_run(make_plan(options(tiny, tmp_path, *over, seeds=1)))
    # 1,000 tokens a second were measured, and half as many are expected of twice the layers.
    assert first["state"] == "finished" and first["minutes left"] == 0
    share = second["TFLOPs"] / first["TFLOPs"]
    assert 1.5 < share < 2
    assert second["minutes left"] == pytest.approx(8 * 8 * 64 / 1000 * share / 60, abs=0.06)
    assert total["minutes left"] == pytest.approx(second["minutes left"], abs=0.06)


UNTOUCHED = """
import os
os.environ["JAX_PLATFORMS"] = "absent"
import sys
from pathlib import Path
from biofm_jax.sweep import command, processes
command.check = lambda made, tasks: {name: {"parameters": 7} for name in made}
processes.train_command = lambda cell: [sys.executable, "-c", "pass"]
plan = command.make_plan(command.Sweep(
    sys.argv[1], over=("model.layers=1,2",), match="flops", out=Path(sys.argv[2])))
command.dry_run(plan)
command.run(plan, print)
import jax
try:
    jax.devices()
except RuntimeError:
    print("untouched")
"""


def test_the_sweep_itself_touches_no_device(tiny, tmp_path):
    """A GPU that it held would be missing in the processes of the cells."""
    done = subprocess.run(
        [sys.executable, "-c", UNTOUCHED, tiny, str(tmp_path / "out")],
        capture_output=True,
        text=True,
    )
    assert done.stdout.endswith("untouched\n"), done.stderr[-2000:]


STOPPED = """
import sys
from pathlib import Path
from biofm_jax import cli
from biofm_jax.sweep import command, processes
command.check = lambda made, tasks: {name: {"parameters": 7} for name in made}
child = '''
import signal, sys, time
from biofm_jax.train.stop import StopSignal
with StopSignal() as stop:
    print("up", flush=True)
    while stop.number is None:
        time.sleep(0.05)
    time.sleep(0.5)
print("saved after", signal.Signals(stop.number).name, flush=True)
sys.exit(1)
'''
processes.train_command = lambda cell: [sys.executable, "-c", child]
sys.exit(cli.main(["sweep", sys.argv[1], "--seeds", "2", "--out", sys.argv[2]]))
"""


@pytest.mark.parametrize("whole_group", [False, True])
def test_a_stop_lets_the_child_save(tiny, tmp_path, whole_group):
    """A batch system signals the sweep alone or all its processes; both must save once."""
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, tiny, str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    log = tmp_path / "out/cells/tiny_0/log.txt"
    last = time.monotonic() + 120
    while not (log.exists() and "up" in log.read_text().splitlines()):
        assert time.monotonic() < last and process.poll() is None
        time.sleep(0.05)
    (os.killpg if whole_group else os.kill)(process.pid, 15)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1 and "stopped by SIGTERM; the same command goes on" in said
    assert "saved after" in log.read_text()
    assert not Path(tmp_path / "out/cells/tiny_1").exists()
    assert not (log.parent / "failure.json").exists()  # stopped is not failed
