"""One contender of the GPU benchmark, in a process of its own so that its memory is freed.

    python -m benchmarks.gpu_worker JOB

JOB is the JSON of a `Job`. Each measurement is printed as a line of JSON as soon as it is made;
running out of device memory is the last line `{"error": "out of memory"}`.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Callable

from benchmarks import gpu_data
from benchmarks.train_worker import torch_model

MASKED_SHARE = 0.15


@dataclasses.dataclass(frozen=True)
class Job:
    """What to run.

    Attributes:
        contender: "ours" or "transformers".
        size: a published size of ESM-2, or "toy".
        kinds: of rows, in order; see `gpu_data.make`.
        rows: b.
        length: t.
        remat: of this package's model.
        scan: of this package's model.
        backend: of this package's attention.
        compiled: whether transformers goes through torch.compile.
        on_gpu: whether there is a GPU, without which the job then fails.
        warm: steps before the clock starts.
        timed: steps on the clock.
    """

    contender: str
    size: str
    kinds: list[str]
    rows: int
    length: int
    remat: str
    scan: bool
    backend: str
    compiled: bool
    on_gpu: bool
    warm: int
    timed: int


def tell(**facts) -> None:
    """A line for the benchmark that started this process."""
    print(json.dumps(facts), flush=True)


def ours(job: Job) -> None:
    """The step that `biofm train` compiles: packed rows, bf16, masked-only head, donated."""
    import jax

    from biofm_jax.data.batch import batch_shapes
    from biofm_jax.data.tokenizers import esm2_tokenizer
    from biofm_jax.objectives.masked import MaskedLM
    from biofm_jax.train.mesh import MeshSpec
    from biofm_jax.train.optimizer import OptimizerSpec
    from biofm_jax.train.placement import to_devices
    from biofm_jax.train.step import build_program
    from biofm_jax.zoo.esm import ESM2

    spec = dataclasses.replace(
        ESM2[job.size],
        dtype="bfloat16",
        remat=job.remat,
        scan=job.scan,
        backend=job.backend,
    )
    demand_gpu(job, jax.default_backend() == "gpu")
    mesh = MeshSpec(data=1).build(jax.devices()[:1])
    shapes = batch_shapes(job.rows, job.length, gpu_data.SEGMENTS)
    with jax.set_mesh(mesh):
        program = build_program(
            spec.build(),
            MaskedLM(rate=MASKED_SHARE).build(esm2_tokenizer().vocabulary),
            lambda axes: OptimizerSpec().build(1000, axes),
            mesh,
            shapes,
        )
        began = time.monotonic()
        step = program.step.lower(program.shapes, shapes).compile()
        compile_seconds = time.monotonic() - began
        if job.backend == "cudnn" and "fmha" not in step.as_text():
            raise RuntimeError(
                'attention "cudnn" was asked for, the program has no fused attention'
            )
        state = program.init(0)
        for kind in job.kinds:
            rows = gpu_data.make(kind, job.rows, job.length)
            batches = [to_devices(mesh, batch) for batch in rows.batches]
            metrics = {}

            def run(count: int, batches=batches):
                nonlocal state, metrics
                for i in range(count):
                    state, metrics = step(state, batches[i % len(batches)])
                jax.block_until_ready((state, metrics))

            seconds = timed(job, run)
            peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
            tell(
                kind=kind,
                seconds=seconds,
                tokens=rows.tokens,
                attended=rows.attended,
                loss=float(metrics["loss"]),
                peak_gb=peak / 1e9,
                compile_seconds=compile_seconds,
                device=jax.devices()[0].device_kind,
                attention=job.backend,
            )


def transformers(job: Job) -> None:
    """Transformers as its users train it: autocast to bf16, SDPA, torch.compile, fused AdamW."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    demand_gpu(job, device == "cuda")
    torch.set_float32_matmul_precision("high")
    model = torch_model(job.size).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 4e-4, (0.9, 0.98), fused=True)
    forward = torch.compile(model) if job.compiled else model
    for kind in job.kinds:
        rows = gpu_data.make(kind, job.rows, job.length)
        batches = []
        for batch in rows.batches:
            tokens, labels = (torch.from_numpy(x).to(device) for x in gpu_data.masked(batch))
            given = {"input_ids": tokens, "labels": labels}
            if kind == "padded":  # full rows go without a mask, which is SDPA's fastest path
                mask = torch.from_numpy(batch.segment_ids.astype("int64")).to(device)
                given["attention_mask"] = mask
            batches.append(given)
        loss = None

        def run(count: int, batches=batches):
            nonlocal loss
            for i in range(count):
                with torch.autocast(device, torch.bfloat16):
                    loss = forward(**batches[i % len(batches)]).loss
                loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            if device == "cuda":
                torch.cuda.synchronize()

        began = time.monotonic()
        run(1)
        compile_seconds = time.monotonic() - began
        seconds = timed(job, run)
        on_gpu = device == "cuda"
        tell(
            kind=kind,
            seconds=seconds,
            tokens=rows.tokens,
            attended=rows.attended,
            loss=loss.item(),
            peak_gb=torch.cuda.max_memory_allocated() / 1e9 if on_gpu else 0.0,
            compile_seconds=compile_seconds,
            device=torch.cuda.get_device_name() if on_gpu else "cpu",
            attention="sdpa",
        )


def demand_gpu(job: Job, found: bool) -> None:
    """Raise where the machine's GPU is not the one that would be measured."""
    if job.on_gpu and not found:
        raise RuntimeError(f"there is a GPU, but {job.contender} does not see it")


def timed(job: Job, run: Callable[[int], None]) -> float:
    """Seconds of a step; `run` takes a number of steps and waits for the last."""
    run(job.warm)
    began = time.monotonic()
    run(job.timed)
    return (time.monotonic() - began) / job.timed


def add_toy() -> None:
    """A model small enough for one core, under the name "toy"."""
    from biofm_jax.zoo.esm import ESM2

    ESM2["toy"] = dataclasses.replace(ESM2["8M"], layers=2, width=64, heads=4)


def main() -> int:
    """Run the job."""
    job = Job(**json.loads(sys.argv[1]))
    add_toy()
    try:
        (ours if job.contender == "ours" else transformers)(job)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        exhausted = "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower()
        tell(error="out of memory" if exhausted else text.splitlines()[0][:300])
        if not exhausted:
            raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
