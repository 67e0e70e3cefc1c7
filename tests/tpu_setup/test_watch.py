"""watch.sh: a preempted run is brought back and goes on; what is broken is not repeated."""

import json
import subprocess
import sys
import time

import pytest
from pretended_cloud import script

# Stands for `biofm` on every worker, which launch.sh tells its workdir. Counts in
# the bucket as a run does: goes on from the newest line; hangs at step 2 the first time.
COUNT = """
import json, os, sys, time
workdir = sys.argv[sys.argv.index("--workdir") + 1]
home, path = os.environ["HOME"], workdir + "/metrics.jsonl"
if not home.endswith("-w-0"):
    sys.exit()
os.makedirs(workdir, exist_ok=True)
with open(workdir + "/argv.jsonl", "a") as file:
    print(json.dumps(sys.argv[1:]), file=file)
begun = len(open(path).readlines()) if os.path.exists(path) else 0
for step in range(begun + 1, 5):
    with open(path, "a") as file:
        file.write('{"step": %d, "loss": %.1f}\\n' % (step, 9 - step))
    if step == 2:
        time.sleep(1000)
"""


def test_a_preempted_run_goes_on_until_it_is_done(cloud):
    (cloud.folder / "count.py").write_text(COUNT)
    fake = cloud.folder / "image/biofm_venv/bin/biofm"
    script(fake, f'exec "{sys.executable}" "{cloud.folder}/count.py" "$@"')
    cloud.run("create", "--yes")
    cloud.run("install")
    command = ["train", "an experiment.py:650M", "--data.path", "gs://my-bucket/x", "--note", "a b"]
    (cloud.folder / "buckets/my-bucket/x").touch()
    cloud.run("launch", "--detach", "--", "biofm", *command)
    watch = subprocess.Popen(
        cloud.command("watch", "--yes"),
        cwd=cloud.here,
        env=cloud.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    metrics = cloud.folder / "buckets/my-bucket/runs/esm2/metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and len(metrics.read_text().splitlines()) == 2):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    cloud.zones({"us-west4-a": "full"})  # somebody else got it
    cloud.preempt()
    out, _ = watch.communicate(timeout=90)
    assert watch.returncode == 0, out
    assert metrics.read_text().count("step") == 4  # each step once: it went on
    bucket = f"{cloud.folder}/buckets/my-bucket"
    command[3] = f"{bucket}/x"
    command += ["--distributed", "True", "--workdir", f"{bucket}/runs/esm2"]
    given = (metrics.parent / "argv.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in given] == [command] * 2
    assert "loss 1 of at most 20" in out and "done" in out
    assert "step 4 loss 5.0" in out and "lost 1 times" in out
    assert (cloud.folder / "slices/us-central1-a.json").exists()
    assert not (cloud.folder / "slices/us-west4-a.json").exists()


def test_a_command_that_fails_is_not_repeated(cloud):
    cloud.up()
    cloud.run("launch", "--", "sh", "-c", "exit 4", code=4)
    assert "failed with exit code 4" in cloud.run("watch", "--yes", code=4).stderr
    assert cloud.called("create") == [] and cloud.called("delete") == []


def test_a_finished_run(cloud):
    cloud.up()
    cloud.run("launch", "--", "true")
    assert "done" in cloud.run("watch", "--yes").stderr


def record(cloud, *command: str) -> None:
    path = cloud.here / "runs/tpu/esm2/command"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{word}\0" for word in command))


@pytest.mark.parametrize("preempted", [True, False])
def test_a_refused_command_is_final(cloud, preempted):
    cloud.up()
    record(cloud, "biofm", "train", "x.py", "--workdir", "gs://my-bucket/runs/esm2")
    if preempted:
        cloud.preempt()
    said = cloud.run("watch", "--yes", code=2).stderr
    assert "the workdir stands in tpu.conf" in said and "launch.sh refuses the command" in said
    assert "loss 1" not in said and "dry run" not in said
    assert cloud.called("delete") == cloud.called("create") == cloud.called("scp") == []


def test_a_command_refused_by_the_new_slice_is_final(cloud):
    cloud.configure(WORKDIR="runs/local")
    cloud.up()
    record(cloud, "biofm", "train", "x.py")
    cloud.preempt()
    said = cloud.run("watch", "--yes", code=2).stderr
    assert "WORKDIR must be gs://" in said and "launch.sh refuses the command" in said
    assert len(cloud.called("create")) == 1


def test_it_gives_up(cloud):
    cloud.up()
    cloud.run("launch", "--detach", "--", "sleep", "100")
    cloud.preempt()
    cloud.zones({"us-west4-a": "full", "us-central1-a": "full"})
    done = cloud.run("watch", "--yes", "--restarts", "1", code=1)
    assert "loss 1 of at most 1" in done.stderr and "given up" in done.stderr


def test_a_broken_connection_deletes_nothing(cloud):
    cloud.up()
    cloud.run("launch", "--detach", "--", "sleep", "100")
    cloud.zones({"us-west4-a": "unreachable", "us-central1-a": "unreachable"})
    assert "ten failures in a row" in cloud.run("watch", "--yes", code=1).stderr
    assert cloud.called("delete") == []


def test_it_asks_once_and_needs_a_launch(cloud):
    cloud.up()
    assert "nothing was launched" in cloud.run("watch", "--yes", code=2).stderr
    cloud.run("launch", "--detach", "--", "sleep", "100")
    assert "Type esm2" in cloud.run("watch", typed="yes\n", code=2).stderr
