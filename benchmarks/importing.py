"""Host memory of an import: ESM-2 3B, from shards of 5 GB to eight devices.

    python -m benchmarks.run importing     # 12 GB of disk for the generated file, 14 GB of memory

The published layout is generated with random numbers. The devices are simulated, so the parameters
themselves lie in the host's memory too: what counts is the peak beyond them, of memory that is not
the page cache of the files read (`RssAnon` of Linux), over the largest shard of the file.
"""

import json
import os
import tempfile
import threading
import time
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
import numpy as np
from safetensors.numpy import save_file

from benchmarks.results import Row, judged, run_part
from biofm_jax.train.mesh import MeshSpec, parameter_shardings
from biofm_jax.zoo.importing import model_places, plan_import, read_params
from biofm_jax.zoo.registry import published
from biofm_jax.zoo.weights import open_weights

MODEL = os.environ.get("BIOFM_BENCH_IMPORT", "esm2_3b")
SHARD = 5_000_000_000  # bytes, as transformers cuts them


def generate(folder: Path) -> int:
    """Write a model's published layout; returns the bytes of its largest shard."""
    model = published(MODEL)
    rng = np.random.default_rng(0)
    shard, size, shards = {}, 0, []
    for place in model_places(model.family, model.spec):
        tensor = rng.standard_normal(place.published_shape, np.float32)
        if size + tensor.nbytes > SHARD:
            shards.append(_written(folder, len(shards), shard))
            shard, size = {}, 0
        shard[place.name], size = tensor, size + tensor.nbytes
    shards.append(_written(folder, len(shards), shard))
    index = {"weight_map": {name: file for file, names in shards for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return max((folder / file).stat().st_size for file, _ in shards)


def _written(folder: Path, number: int, tensors: dict) -> tuple[str, list[str]]:
    name = f"model-{number + 1:05d}.safetensors"
    save_file(tensors, folder / name, metadata={"format": "pt"})
    return name, list(tensors)


class Peak(threading.Thread):
    """The largest anonymous memory of this process while it runs."""

    def __init__(self):
        super().__init__(daemon=True)
        self.bytes, self.going = 0, True

    def run(self) -> None:
        """Look every 10 ms."""
        while self.going:
            self.bytes = max(self.bytes, anonymous())
            time.sleep(0.01)


def anonymous() -> int:
    """Bytes of this process's memory that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def measure() -> list[Row]:
    """Generate, import, and compare the peak with the largest shard."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        largest = generate(folder)
        model = published(MODEL)
        mesh = MeshSpec(data=1, fsdp=8).build()
        weights = open_weights(folder)
        plan = plan_import(weights, model.family, model.spec)
        shardings = parameter_shardings(mesh, plan.spec.build().axes(plan.shapes), plan.shapes)
        before, began = anonymous(), time.monotonic()
        peak = Peak()
        peak.start()
        params = jax.block_until_ready(read_params(weights, plan, shardings))
        peak.going = False
        seconds = time.monotonic() - began
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    beyond = peak.bytes - before - held
    return [
        judged(
            "importing",
            None,
            f"{MODEL} onto 8 devices: host memory beyond the parameters, over the largest shard",
            beyond / largest,
            at_most=1.3,
            note=f"{beyond / 1e9:.2f} GB beyond {held / 1e9:.2f} GB of parameters; largest shard "
            f"{largest / 1e9:.2f} GB; {seconds:.0f} s",
            beyond=beyond,
            held=held,
            largest=largest,
            seconds=seconds,
        )
    ]


if __name__ == "__main__":
    run_part(measure)
