"""A stand-in for `gcloud` that the tests put first on PATH: it records and pretends.

Run as `gcloud WORDS...`. Its folder is $CLOUD:

    calls.jsonl         the words of every call
    zones.json          zone -> ok, full, lapse (the queue runs out), denied or unreachable
    slices/ZONE.json    what exists there: its state and its nodes
    workers/NAME/       the home of each worker; `ssh` runs its command there, with bash
    buckets/NAME/       what gs://NAME holds
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

FULL = (
    'ERROR: (gcloud.compute.tpus.tpu-vm.create) There is no more capacity in the zone "{}"; you can'
    " try in another zone where Cloud TPU Nodes are offered [EID: 0x0]"
)
CLOUD = Path(os.environ["CLOUD"])


def main(words: list[str]) -> int:
    with open(CLOUD / "calls.jsonl", "a") as calls:
        calls.write(json.dumps(words) + "\n")
    flags = dict(w[2:].partition("=")[::2] for w in words if w.startswith("--"))
    plain = [word for word in words if not word.startswith("--")]
    if plain[0] == "storage":
        return storage(plain[1:])
    noun, verb, *names = plain[2:]
    zone = flags["zone"]
    kind = json.loads((CLOUD / "zones.json").read_text()).get(zone, "ok")
    if kind == "unreachable":
        return error("ERROR: There was a problem refreshing your current auth tokens")
    slice_ = CLOUD / "slices" / f"{zone}.json"
    if verb == "create":
        return create(kind, zone, slice_, names[0], flags)
    if not slice_.exists():
        return error(f"ERROR: NOT_FOUND: Resource {names[0]} was not found")
    found = json.loads(slice_.read_text())
    if verb == "describe":
        return describe(noun, names[0], found, flags)
    if verb == "delete":
        for worker in found["workers"]:
            shutil.rmtree(CLOUD / "workers" / worker, ignore_errors=True)
        slice_.unlink()
        return 0
    if verb == "scp":
        return scp(names, found["workers"], "recurse" in flags)
    return ssh(flags, found["workers"])


def error(line: str) -> int:
    print(line, file=sys.stderr)
    return 1


def create(kind: str, zone: str, slice_: Path, name: str, flags: dict) -> int:
    if kind == "full":
        return error(FULL.format(zone))
    if kind == "denied":
        return error("ERROR: PERMISSION_DENIED: Cloud TPU API has not been used in project")
    count = int(flags.get("node-count", 1))
    nodes = [name] if count == 1 else [f"{flags['node-prefix']}-{i}" for i in range(count)]
    workers = [f"{node}-w-{i}" for node in nodes for i in range(2)]
    state = "FAILED" if kind == "lapse" else "ACTIVE"
    slice_.write_text(json.dumps({"state": state, "nodes": nodes, "workers": workers}))
    for worker in workers:
        home = CLOUD / "workers" / worker
        shutil.copytree(CLOUD / "image", home, symlinks=True)
    return 0


def describe(noun: str, name: str, found: dict, flags: dict) -> int:
    if noun == "queued-resources":
        print(found["state"])
    elif name not in found["nodes"]:
        return error(f"ERROR: NOT_FOUND: {name}")
    elif "flatten" in flags:
        print("10.0.0.1\n10.0.0.2")
    else:
        print({"ACTIVE": "READY"}.get(found["state"], "PREEMPTED"))
    return 0


def ssh(flags: dict, workers: list[str]) -> int:
    chosen = workers if flags["worker"] == "all" else workers[:1]
    started = []
    for number, worker in enumerate(workers):
        home = CLOUD / "workers" / worker
        if worker in chosen and home.exists():
            more = {"HOME": str(home), "BIOFM_HOST": worker, "BIOFM_PROCESS_ID": str(number)}
            more["PWD"] = str(home)
            command = ["bash", "-c", flags["command"]]
            started.append(subprocess.Popen(command, env=os.environ | more, cwd=home))
    codes = [process.wait() for process in started]
    return next((code for code in codes if code), 0)


def scp(names: list[str], workers: list[str], recurse: bool) -> int:
    *sources, destination = names
    if ":" in destination:
        for worker in workers:
            for source in sources:
                shutil.copy(source, CLOUD / "workers" / worker)
    else:
        path = CLOUD / "workers" / workers[0] / sources[0].partition(":")[2]
        assert recurse
        there = Path(destination)  # as scp: into a folder that exists, else as one of that name
        shutil.copytree(path, there / path.name if there.is_dir() else there)
    return 0


def storage(words: list[str]) -> int:
    verb, source = words[:2]
    path = CLOUD / "buckets" / source.removeprefix("gs://")
    if not path.exists():
        return error(f"ERROR: {source} matched no objects")
    if verb == "cat":
        sys.stdout.write(path.read_text())
    else:
        shutil.copytree(path, words[2], dirs_exist_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
