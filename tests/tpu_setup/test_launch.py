"""launch.sh, install.sh and fetch.sh with worker.sh run for real, two workers a slice."""

import json
import subprocess
import sys
import time

import pytest
from pretended_cloud import ROOT

PLACE = ["--project=my-project", "--zone=us-west4-a", "--quiet"]
HOSTILE = [
    "--a.b", "two  words", "it's", '"quoted"', "$(touch caught)", "`touch caught`", "$HOME",
    "a;touch caught", "a|b&c", "-rf", "--", "*", "~", "back\\slash", "new\nline\n", "", "ünï",
    "{a,b}", "#x", "!x", "(x)", "=x", "%s", "<x>",
]  # fmt: skip
# Writes what it was given beside the run's log, from the worker's own folder.
SHOW = "import json,os,sys; json.dump(sys.argv[1:], open(os.environ['HOME']+'/got','w'))"


def test_hostile_words_reach_the_command_as_they_are(cloud):
    homes = cloud.up()
    cloud.run("launch", "--", sys.executable, "-c", SHOW, *HOSTILE)
    for home in homes:
        assert json.loads((home / "got").read_text()) == HOSTILE
    assert not list(cloud.folder.rglob("caught"))


def test_the_commands_of_a_launch(cloud):
    cloud.up()
    cloud.run("launch", "--", "true")
    ssh = [*cloud.called("ssh")]
    worker = "--command=bash biofm_jax/tpu_setup/worker.sh"
    assert ssh[0] == (
        ["compute", "tpus", "tpu-vm", "ssh", "esm2", "--worker=all", f"{worker} start esm2 true"]
        + PLACE
    )
    assert [words[6] for words in ssh[1:3]] == [f"{worker} follow esm2", f"{worker} status esm2"]


def test_all_slices_get_the_command_at_once(cloud):
    cloud.configure(SLICES="2")
    homes = cloud.up(nodes=2)
    cloud.run("launch", "--", sys.executable, "-c", SHOW, "x")
    assert cloud.called("ssh")[0][:7] == [
        "compute", "tpus", "queued-resources", "ssh", "esm2", "--node=all", "--worker=all"
    ]  # fmt: skip
    assert len(homes) == 4 and all((home / "got").exists() for home in homes)


def test_training_joins_the_workers_and_keeps_its_workdir(cloud):
    cloud.up()
    shown = cloud.run("launch", "--dry-run", "--", "biofm", "train", "x.py", "--loop.steps", "9")
    assert (
        "start esm2 biofm train x.py --loop.steps 9 --distributed True --workdir "
        "gs://my-bucket/runs/esm2'" in shown.stdout
    )
    words = ["--", "biofm", "train", "x.py", "--workdir", "there"]
    assert "WORKDIR" in cloud.run("launch", *words, code=2).stderr
    cloud.configure(WORKDIR="runs/local")
    assert "must be gs://" in cloud.run("launch", "--", "biofm", "train", "x.py", code=2).stderr
    assert "no command" in cloud.run("launch", code=2).stderr


def test_the_worst_exit_code_and_the_logs(cloud):
    cloud.up()
    code = "echo out of $BIOFM_HOST; echo err >&2; case $BIOFM_HOST in *-1) exit 3 ;; esac; exit 5"
    done = cloud.run("launch", "--", "sh", "-c", code, code=5)
    assert "[esm2-w-0] out of esm2-w-0" in done.stdout
    assert "esm2-w-0 exit 5" in done.stderr and "esm2-w-1 exit 3" in done.stderr
    log = cloud.here / "runs/tpu/esm2/logs/esm2-w-1.log"
    assert log.read_text() == "out of esm2-w-1\nerr\n"


def test_a_worker_that_no_longer_answers(cloud):
    cloud.up()
    gone = 'case $BIOFM_HOST in *-1) rm "$HOME/biofm_jax" ;; esac'
    done = cloud.run("launch", "--", "sh", "-c", gone, code=255)
    assert "1 of 2 workers told how it ended" in done.stderr


def test_a_worker_that_vanishes_is_the_worst(cloud):
    homes = cloud.up()
    cloud.run("launch", "--detach", "--", "sleep", "100")
    assert "esm2-w-1 already runs esm2" in cloud.run("launch", "--", "true", code=1).stderr
    once = cloud.run("watch", "--once").stdout
    assert "READY, 2 of 2 workers at work, no step" in once
    cloud.kill()
    bash = ["bash", str(ROOT / "tpu_setup/worker.sh"), "status", "esm2"]
    here = cloud.environment | {"HOME": str(homes[0]), "BIOFM_HOST": "w0"}
    assert subprocess.check_output(bash, env=here, text=True) == "biofm-status w0 exit 255\n"


def test_stop_lets_the_command_save(cloud):
    homes = cloud.up()
    save = (
        'trap "echo saved >$HOME/saved; exit 7" TERM; touch $HOME/up; while :; do sleep 0.1; done'
    )
    cloud.run("launch", "--detach", "--", "bash", "-c", save)
    while not all((home / "up").exists() for home in homes):
        time.sleep(0.05)
    cloud.run("launch", "--stop")
    for home in homes:
        assert (home / "saved").exists()
        assert (home / "biofm_runs/esm2/exit").read_text() == "7\n"


def test_a_bucket_is_read_where_it_is_mounted(cloud):
    homes = cloud.up()
    words = ["gs://my-bucket/a b/c", "--data.path=gs://my-bucket/x", "about gs://my-bucket"]
    cloud.run("launch", "--", sys.executable, "-c", SHOW, *words)
    mount = f"{cloud.folder}/buckets/my-bucket"
    got = json.loads((homes[0] / "got").read_text())
    assert got == [f"{mount}/a b/c", f"--data.path={mount}/x", "about gs://my-bucket"]
    done = cloud.run("launch", "--", "cat", "gs://other/x", code=1)
    assert "gs://other is not mounted on esm2-w-0" in done.stderr


def test_install_sends_the_commit_and_compares_the_workers(cloud, checkout):
    for home in cloud.up():
        (home / "biofm_jax").unlink()
        (home / ".local/bin").mkdir(parents=True)
        (home / ".local/bin/uv").symlink_to(cloud.folder / "image/.local/bin/uv")
    done = cloud.run("install")
    commit = subprocess.check_output(
        ["git", "-C", checkout, "rev-parse", "HEAD"], text=True
    ).strip()
    assert f"2 biofm-versions {commit} python 3." in done.stderr
    assert "installed on 2 workers" in done.stderr
    home = cloud.folder / "workers/esm2-w-1"
    asked = (home / "uv").read_text()
    assert "-c constraints.txt -e .[tpu]" in asked
    assert "my-bucket" in (cloud.folder / "gcsfuse").read_text()
    scp = cloud.called("scp")[0]
    assert scp[2:4] == ["tpu-vm", "scp"] and scp[6:] == ["esm2:", "--worker=all", *PLACE]


def test_workers_that_differ_are_an_error(cloud):
    versions = "#!/bin/sh\necho python 3.12 jax 0.1 $BIOFM_HOST\n"
    for home in cloud.up():
        (home / "biofm_jax").unlink()
        for name, text in ((".local/bin/uv", "#!/bin/sh\n"), ("biofm_venv/bin/python", versions)):
            (home / name).parent.mkdir(parents=True)
            (home / name).write_text(text)
            (home / name).chmod(0o755)
    done = cloud.run("install", code=1)
    assert "jax 0.1 esm2-w-1" in done.stderr and "the workers differ" in done.stderr


def test_install_refuses_what_no_commit_holds(cloud, checkout):
    cloud.up()
    (checkout / "mine.py").write_text("")
    try:
        assert "mine.py" in cloud.run("install", code=2).stderr
    finally:
        (checkout / "mine.py").unlink()
    assert cloud.called("scp") == []


def test_fetch(cloud):
    run = cloud.folder / "buckets/my-bucket/runs/esm2"
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text("{}\n")
    cloud.run("fetch", "--no-checkpoints", "a folder")
    assert (cloud.here / "a folder/metrics.jsonl").exists()
    assert cloud.calls() == [
        ["storage", "rsync", "gs://my-bucket/runs/esm2", "a folder", "--recursive",
         "--project=my-project", "--exclude=^checkpoints/.*"]
    ]  # fmt: skip
    assert "one folder" in cloud.run("fetch", "a", "b", code=2).stderr


def test_fetch_from_a_worker(cloud):
    cloud.configure(WORKDIR="kept")
    home = cloud.up()[0]
    (home / "biofm_jax").unlink()
    (home / "biofm_jax/kept").mkdir(parents=True)
    (home / "biofm_jax/kept/metrics.jsonl").write_text("{}\n")
    assert "copied to here" in cloud.run("fetch", "here").stderr
    (home / "biofm_jax/kept/metrics.jsonl").write_text("{}\n{}\n")
    (cloud.here / "here/mine").touch()
    cloud.run("fetch", "here")  # what is there already stays, or becomes new
    assert {path.name for path in (cloud.here / "here").iterdir()} == {"metrics.jsonl", "mine"}
    assert (cloud.here / "here/metrics.jsonl").read_text() == "{}\n{}\n"
    assert cloud.called("scp") == [
        ["compute", "tpus", "tpu-vm", "scp", "--recurse", "esm2:biofm_jax/kept", "here/.fetched",
         "--worker=0", *PLACE]
    ] * 2  # fmt: skip


def test_fetch_without_a_workdir_fills_the_folder_that_is_evaluated(cloud):
    cloud.configure(WORKDIR="")
    home = cloud.up()[0]
    (home / "biofm_jax").unlink()
    (home / "biofm_jax/runs/esm2/checkpoints/9").mkdir(parents=True)
    assert "copied to runs/esm2" in cloud.run("fetch").stderr
    assert (cloud.here / "runs/esm2/checkpoints/9").is_dir()


@pytest.mark.parametrize("name", ["launch", "install", "fetch"])
def test_without_a_slice_they_say_so(cloud, name):
    cloud.configure(WORKDIR="")
    words = ["--", "true"] if name == "launch" else []
    assert "create.sh makes it" in cloud.run(name, *words, code=1).stderr
