"""Measure, and bring `benchmarks/RESULTS.md` up to date.

    python -m benchmarks.run                        # all parts: under 20 minutes on two cores
    python -m benchmarks.run train_step packing     # some; the rows of the others stay
    python -m benchmarks.run --add gpu.json         # add the rows that benchmarks/gpu.py wrote

Each part runs in a process of its own, on the CPU. Leave the machine alone meanwhile.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import results

PARTS = (
    "train_step", "embed", "packing", "checkpoint", "compile", "restart", "recompile", "lora",
    "generate", "importing", "costs", "meshes", "graphs", "image_loader",
)  # fmt: skip


def main() -> int:
    """Run the parts that were named, or all; 1 where one of them failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--add", type=Path, metavar="FILE", help="rows to add, measured before")
    options = parser.parse_args()
    if unknown := sorted(set(options.parts) - set(PARTS)):
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if options.add:
        added = json.loads(options.add.read_text())
        results.merge(added["rows"], added["machine"])
    failed = []
    for part in options.parts or (() if options.add else PARTS):
        began = time.monotonic()
        print(f"== {part}", flush=True)
        rows = measure(part)
        if rows is None:
            failed.append(part)
            continue
        results.merge(rows, results.machine())
        for row in rows:
            print(f"   {row['figure']}: {row['value']}  {row['target']}  {row['met']}")
        print(f"   {time.monotonic() - began:.0f} s", flush=True)
    print(f"wrote {results.TABLE} and {results.RESULTS}")
    if failed:
        print(f"failed, and their former rows kept: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def measure(part: str) -> list[dict] | None:
    """The rows of a part, or None where its process failed."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "BIOFM_CHECK_TYPES": "0"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        command = [sys.executable, "-m", f"benchmarks.{part}", "--rows", str(path)]
        done = subprocess.run(command, env=environment, check=False)
        return json.loads(path.read_text()) if done.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main())
