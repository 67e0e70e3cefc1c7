"""Goals 15 and 16: the packed bf16 training step on one GPU, against transformers.

    python benchmarks/gpu.py --out gpu.json              # 650M: 341 s on an H100, most compiling
    python benchmarks/gpu.py --out gpu.json --sizes 3B   # one size; other rows in the file stay
    python benchmarks/gpu.py --sizes 3B --contenders ours --steps 10 30   # a shorter run
    python benchmarks/gpu.py --toy --out toy.json        # any machine, a minute, proves nothing

ESM-2 at 1,024 tokens a row, float32 parameters, AdamW, random proteins with the lengths of real
ones. This package packs them; transformers (SDPA, torch.compile, bf16 autocast) pads them to the
row. Both are also given rows that one protein fills. Unpadded tokens are counted. Each contender
has its own process and takes the first of its settings that fits in memory. This package runs
its layers unrolled, which compile for half a minute longer than scanned ones and are faster.
MFU is over the dense bf16 peak and counts, per token, 6 FLOPs a weight of the layers, 12 L D T
for attention over the mean attended length T of a document, and the head for the 15 % masked
positions.
Writes FILE.json, which `python -m benchmarks.run --add` takes, and FILE.md.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[0] = str(REPOSITORY)

from benchmarks.gpu_worker import MASKED_SHARE, Job, add_toy  # noqa: E402
from benchmarks.results import Row, judged, machine  # noqa: E402
from biofm_jax.zoo.esm import ESM2  # noqa: E402

# Dense bf16 FLOP/s by NVIDIA's data sheets; the first name found in the device's counts.
PEAKS = {"H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12}

# Settings to try, in order: rows of a batch, remat, and the least memory in GB to try it with.
OURS = {
    "650M": [(64, "dots", 120), (48, "dots", 0), (16, "dots", 0)],
    "3B": [(16, "dots", 120), (8, "dots", 0), (4, "full", 0)],
    "150M": [(64, "dots", 0), (16, "dots", 0)],
}
TRANSFORMERS = {
    "650M": [(32, "", 120), (16, "", 0), (8, "", 0)],
    "3B": [(8, "", 120), (4, "", 0), (2, "", 0), (1, "", 0)],
    "150M": [(32, "", 0), (16, "", 0)],
}
TOY = [(4, "none", 0)]
MFU_GOALS = {"650M": 0.45, "3B": 0.50, "150M": 0.35}
NAMES = {"ours": "this package", "transformers": "transformers SDPA"}


def model_flops(size: str, attended: float) -> float:
    """FLOPs of forward and backward for one token; see the module's docstring."""
    return ESM2[size].train_flops(attended, predicted=MASKED_SHARE)


def gpu() -> tuple[str, float]:
    """Name and memory (GB) of the first GPU; ("", 0) without one."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "", 0.0
    name, memory = found.splitlines()[0].rsplit(",", 1)
    return name.strip(), float(memory) * 2**20 / 1e9


def attempt(job: Job, deadline: float) -> tuple[list[dict], str]:
    """What a contender's process measured, and why it ended early ("" if it did not)."""
    command = [sys.executable, "-m", "benchmarks.gpu_worker", json.dumps(dataclasses.asdict(job))]
    environment = os.environ | {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.94"}
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True
    )
    why = ""
    try:
        output, _ = process.communicate(timeout=max(1.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        why = "the time was up"
    said = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    errors = [line["error"] for line in said if "error" in line]
    if not why and process.returncode and not errors:
        why = f"ended with status {process.returncode}"
    return [line for line in said if "error" not in line], (errors or [why])[0]


def contend(jobs: list[Job], deadline: float) -> tuple[list[dict], str]:
    """The measurements of the first job that fits, and what was missing ("" for nothing)."""
    made, why = [], "no setting for this memory"
    for job in jobs:
        setting = f"{job.rows} x {job.length}" + (f", remat {job.remat}" if job.remat else "")
        print(f"{job.size} {job.contender}: {setting}, attention {job.backend}", flush=True)
        made, why = attempt(job, deadline)
        name = NAMES[job.contender] + (", torch.compile" if job.compiled else "")
        facts = {"setting": setting, "contender": job.contender, "name": name}
        made = [m | facts for m in made]
        for m in made:
            print(
                f"   {m['kind']}: {m['tokens'] / m['seconds']:,.0f} unpadded tokens/s, "
                f"{m['seconds'] * 1e3:.1f} ms a step, loss {m['loss']:.3f}, peak "
                f"{m['peak_gb']:.1f} GB, compile {m['compile_seconds']:.0f} s",
                flush=True,
            )
        if why:
            print(f"   {why}", flush=True)
        if why != "out of memory":
            break
    return made, why


def rows_of(
    size: str, made: list[dict], missing: dict[str, str], peak: float | None, steps: str
) -> list[Row]:
    """The table's rows of one size: throughput, MFU, ratios, and what did not run."""
    part, rows, rate = f"gpu_{size}", [], {}
    for m in made:
        rate[m["contender"], m["kind"]] = tokens = m["tokens"] / m["seconds"]
        mfu = None if peak is None else tokens * model_flops(size, m["attended"]) / peak
        judge = m["contender"] == "ours" and m["kind"] == "packed" and mfu is not None
        figure = f"ESM-2 {size} bf16, {m['kind']} rows, {m['name']}"
        share = "" if mfu is None else f", {mfu:.1%} MFU"
        note = f"{m['setting']}, attention {m['attention']}, {m['seconds'] * 1e3:.1f} ms a step"
        rows.append(
            judged(part, 15, f"{figure}, unpadded tokens/s", tokens, form="{:,.0f}",
                   note=note + share, mfu=mfu, **m)
        )  # fmt: skip
        if judge and size in MFU_GOALS:
            bound = MFU_GOALS[size]
            rows.append(judged(part, 15, f"{figure}, MFU", mfu, at_least=bound, form="{:.1%}"))
    for mine, theirs, bound in (("packed", "padded", 2.1), ("full", "full", 1.15)):
        ours, peer = rate.get(("ours", mine)), rate.get(("transformers", theirs))
        if ours and peer:
            figure = f"ESM-2 {size} bf16, unpadded tokens/s, {mine} against {theirs} rows"
            bound = None if peak is None else bound
            rows.append(judged(part, 16, f"{figure} of transformers", ours / peer, at_least=bound))
    for contender, why in missing.items():
        goal, figure = (15 if contender == "ours" else 16), f"ESM-2 {size} bf16, {NAMES[contender]}"
        rows.append(Row(part, goal, figure, why, met="failed"))
    chosen = "--toy" if size == "toy" else f"--sizes {size} {steps}"
    command = f"python benchmarks/gpu.py --out gpu.json {chosen}"
    return [dataclasses.replace(row, command=command) for row in rows]


def main() -> int:
    """Measure the sizes in turn and write the files after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--sizes", nargs="+", choices=list(OURS), default=list(OURS))
    parser.add_argument("--contenders", nargs="+", choices=list(NAMES), default=list(NAMES))
    parser.add_argument("--steps", nargs=2, type=int, default=(20, 50), metavar=("WARM", "TIMED"))
    parser.add_argument("--toy", action="store_true", help="a tiny model, a few steps")
    parser.add_argument("--backend", help="attention: cudnn on a GPU, xla elsewhere")
    parser.add_argument("--minutes", type=float, default=20.0, help="what is not done then, is not")
    options = parser.parse_args()
    add_toy()
    deadline = time.monotonic() + 60 * options.minutes
    name, memory = gpu()
    peak = next((flops for key, flops in PEAKS.items() if key in name), None)
    backend = options.backend or ("cudnn" if name and not options.toy else "xla")
    print(f"device: {name or 'cpu'}, {memory:.0f} GB, attention backend: {backend}", flush=True)
    sizes = ["toy"] if options.toy else options.sizes
    length, (warm, timed) = (128, (1, 2)) if options.toy else (1024, options.steps)
    # One kind a process for transformers: a second graph of torch.compile leaves less memory.
    kinds = {"ours": [["packed", "full"]], "transformers": [["padded"], ["full"]]}
    tables = {"ours": OURS, "transformers": TRANSFORMERS}
    content = json.loads(options.out.read_text()) if options.out.exists() else {"rows": []}
    for size in sizes:
        made, missing = [], {}
        for contender, chosen in [(c, chosen) for c in options.contenders for chosen in kinds[c]]:
            jobs = [
                Job(contender, size, chosen, rows, length, remat, scan=options.toy,
                    backend=backend if contender == "ours" else "sdpa",
                    compiled=contender == "transformers" and not options.toy,
                    on_gpu=bool(name), warm=warm, timed=timed)
                for rows, remat, least in tables[contender].get(size, TOY) if memory >= least
            ]  # fmt: skip
            measured, why = contend(jobs, deadline)
            made += measured
            if why:
                missing[contender] = why
            # After each process: the machine may be taken away.
            rows = rows_of(size, made, missing, peak, f"--steps {warm} {timed}")
            kept = [row for row in content["rows"] if row["part"] != f"gpu_{size}"]
            rows = kept + [dataclasses.asdict(row) for row in rows]
            content = {"rows": rows, "machine": machine() | {"gpu": name}}
            options.out.write_text(json.dumps(content, indent=1) + "\n")
            options.out.with_suffix(".md").write_text(table_of(content))
    print(table_of(content))
    return 0


def table_of(content: dict) -> str:
    """The rows as Markdown."""
    lines = ["| goal | figure | value | target | met |", "| --- | --- | --- | --- | --- |"]
    for row in content["rows"]:
        cells = [str(row[name]) for name in ("goal", "figure", "value", "target", "met")]
        lines.append("| " + " | ".join(cells) + " |")
    where = content["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    lines += ["", f"{where['gpu'] or where['cpu']}; {versions}; {where['date']}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
