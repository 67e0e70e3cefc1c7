"""A pretended cloud: a copy of the scripts in a small git repository, and `gcloud` recorded."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "tpu_setup"
# What `worker_install.sh` calls on a worker, without its effects.
TOOLS = {
    "sudo": 'exec "$@"',
    "mountpoint": "exit 1",
    "gcsfuse": 'echo "$@" >>"$CLOUD/gcsfuse"',
}
UV = f"""case "$1" in venv) mkdir -p "$HOME/biofm_venv/bin"
printf '#!/bin/sh\\n%s\\n' 'exec "{sys.executable}" "$@"' >"$HOME/biofm_venv/bin/python"
chmod +x "$HOME/biofm_venv/bin/python" ;; esac
echo "$@" >>"$HOME/uv"
"""


def script(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", "-C", folder, *who, *words], check=True, capture_output=True)


class Cloud:
    """What the stand-in pretends, and the scripts run against it."""

    def __init__(self, folder: Path, checkout: Path):
        self.folder, self.checkout = folder, checkout
        self.here = folder / "laptop"
        for part in ("slices", "workers", "buckets/my-bucket", "image", "bin", "laptop"):
            (folder / part).mkdir(parents=True)
        stand_in = Path(__file__).with_name("gcloud_stand_in.py")
        script(folder / "bin/gcloud", f'exec "{sys.executable}" -S -E "{stand_in}" "$@"')
        for name, body in TOOLS.items():
            script(folder / "bin" / name, body)
        script(folder / "image/.local/bin/uv", UV)
        self.zones({})
        self.configure()
        self.environment = os.environ | {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "CLOUD": str(folder),
            "BIOFM_TPU_POLL": "0",
            "BIOFM_GCS_ROOT": str(folder / "buckets"),
        }

    def zones(self, kinds: dict[str, str]) -> None:
        (self.folder / "zones.json").write_text(json.dumps(kinds))

    def configure(self, **changes: str) -> None:
        values = {
            "PROJECT": "my-project",
            "NAME": "esm2",
            "ZONES": "us-west4-a us-central1-a",
            "ACCELERATOR": "v5litepod-16",
            "WORKDIR": "gs://my-bucket/runs/esm2",
        } | changes
        lines = "".join(f"{key} = {value}\n" for key, value in values.items())
        (self.here / "tpu.conf").write_text(lines)

    def command(self, name: str, *words: str) -> list[str]:
        return ["bash", str(self.checkout / "tpu_setup" / f"{name}.sh"), *words]

    def run(self, name: str, *words: str, typed: str = "", code: int = 0, **environment: str):
        """Run a script; its exit code must be `code`."""
        done = subprocess.run(
            self.command(name, *words),
            cwd=self.here,
            env=self.environment | environment,
            input=typed,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    def calls(self) -> list[list[str]]:
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def called(self, verb: str) -> list[list[str]]:
        return [words for words in self.calls() if verb in words]

    def up(self, zone: str = "us-west4-a", nodes: int = 1) -> list[Path]:
        """A slice that exists, with this checkout on its workers; their homes."""
        names = ["esm2"] if nodes == 1 else [f"esm2-{i}" for i in range(nodes)]
        workers = [f"{name}-w-{i}" for name in names for i in range(2)]
        found = {"state": "ACTIVE", "nodes": names, "workers": workers}
        (self.folder / f"slices/{zone}.json").write_text(json.dumps(found))
        homes = [self.folder / "workers" / worker for worker in workers]
        for home in homes:
            home.mkdir()
            (home / "biofm_jax").symlink_to(self.checkout)
        return homes

    def preempt(self, zone: str = "us-west4-a") -> None:
        """Google takes the slice away: processes and disks are gone."""
        path = self.folder / f"slices/{zone}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"state": "SUSPENDED"}))
        self.kill()
        shutil.rmtree(self.folder / "workers")
        (self.folder / "workers").mkdir()

    def kill(self) -> None:
        """End every command that a worker started, and wait until they are gone."""
        for pid in self.folder.glob("workers/*/biofm_runs/*/pid"):
            held = Path("/proc", pid.read_text().strip(), "cmdline")
            if not pid.with_name("exit").exists():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(int(held.parent.name), signal.SIGKILL)
                while held.exists() and held.read_bytes():
                    time.sleep(0.01)
