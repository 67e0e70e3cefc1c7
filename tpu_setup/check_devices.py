"""Are all devices there, do they talk, are they fast? Says in words what is wrong.

    python tpu_setup/check_devices.py [--mesh.fsdp 8] [--expect 16]
    tpu_setup/launch.sh -- python tpu_setup/check_devices.py --distributed True --expect 16

Prints the mesh, one all-reduce over each axis with its bandwidth, and the rate of a matrix product
on every device. Exit code: 0 all is well, 1 something is wrong, 2 misused.
"""

import dataclasses
import glob
import os
import socket
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from biofm_jax.cli_output import CONFIG, DONE, FAILED, MISUSED
from biofm_jax.errors import UserError
from biofm_jax.evaluate.provenance import same_everywhere
from biofm_jax.plan.chips import CHIPS
from biofm_jax.train import hosts
from biofm_jax.train.mesh import AXES, MeshSpec

# Published peaks in bfloat16, TFLOP/s of one device, by the beginning of JAX's name for it.
PEAKS = {
    "TPU v4": CHIPS["v4"].flops / 1e12,
    "TPU v5 lite": CHIPS["v5e"].flops / 1e12,
    "TPU v5": CHIPS["v5p"].flops / 1e12,
    "TPU v6": CHIPS["v6e"].flops / 1e12,
    "NVIDIA A100": 312,
    "NVIDIA H100": 989,
    "NVIDIA H200": 989,
}
LEAST = 0.3  # share of the peak that a healthy device reaches in a large product
SLOW = 0.7  # of the median rate: below, one device holds all others up


@dataclasses.dataclass(frozen=True)
class Check:
    """Look at the devices of this run: mesh, all-reduce over each axis, matrix product.

    Attributes:
        mesh: sizes of the axes, as in an experiment.
        distributed: join the other processes first. On TPU pods and SLURM JAX finds them; else
            BIOFM_COORDINATOR (host:port), BIOFM_PROCESSES and BIOFM_PROCESS_ID name them.
        expect: how many devices there must be; 0 takes what there is.
        size: rows and columns of the matrices; 0 chooses by device.
        mebibytes: what each device sends in the all-reduce.
    """

    mesh: MeshSpec = MeshSpec()
    distributed: bool = False
    expect: int = 0
    size: int = 0
    mebibytes: int = 4


def all_reduce(mesh, axis: str, mebibytes: int) -> tuple[bool, float]:
    """Sum over one axis the numbers of its devices.

    Args:
        mesh: the mesh.
        axis: its name.
        mebibytes: float32 payload of each device.

    Returns:
        Whether every device of this process got the right sum, and the bytes a second that a
        ring moves through each device: 2 (n - 1) / n of the payload in the best time of three.
    """
    sizes = tuple(mesh.shape.values())
    numbers = np.arange(mesh.size, dtype=np.float32).reshape(*sizes, 1)
    length = mebibytes * 2**18
    spec = PartitionSpec(*AXES)
    x = jax.make_array_from_callback(
        (*sizes, length),
        NamedSharding(mesh, spec),
        lambda index: np.broadcast_to(numbers[index[:-1]], (1, 1, 1, 1, length)),
    )
    reduce = jax.jit(
        jax.shard_map(
            lambda part: jax.lax.psum(part, axis),
            mesh=mesh,
            in_specs=spec,
            out_specs=spec,
            check_vma=False,  # the sum is written to every place that gave a part
        )
    )
    total = reduce(x)
    best = min(seconds(reduce, x) for _ in range(3))
    expected = np.broadcast_to(numbers.sum(AXES.index(axis), keepdims=True), (*sizes, 1))
    right = all(
        bool((np.asarray(shard.data) == expected[shard.index[:-1]]).all())
        for shard in total.addressable_shards
    )
    n = mesh.shape[axis]
    return right, 2 * (n - 1) / n * mebibytes * 2**20 / best


def matmul_rate(device, size: int) -> float:
    """TFLOP/s of bfloat16 products of (size, size) matrices on one device, best of three."""
    repeats = 10

    @jax.jit
    def products(x, w):
        return jax.lax.fori_loop(0, repeats, lambda _, x: x @ w, x)

    w = jax.device_put(jnp.eye(size, dtype=jnp.bfloat16), device)
    products(w, w).block_until_ready()
    best = min(seconds(products, w, w) for _ in range(3))
    return repeats * 2 * size**3 / best / 1e12


def seconds(function, *arguments) -> float:
    """Wall time of one call, in seconds, with its result waited for."""
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start


def missing_devices(expect: int, found: int, processes: int) -> list[str]:
    """What is wrong with the number of devices, in words."""
    if expect in (0, found):
        return []
    why = (
        "the workers do not know of each other: start it on all of them with --distributed True"
        if processes == 1
        else "some workers are missing, or a device is held by another process"
    )
    return [f"expected {expect} devices and found {found} in {processes} process(es): {why}"]


def unused_accelerators(platform: str, files: list[str]) -> list[str]:
    """What is wrong when a machine has accelerators and JAX computes on its processor.

    Args:
        platform: of the devices JAX found.
        files: device files of the machine.
    """
    if platform != "cpu" or os.environ.get("JAX_PLATFORMS") == "cpu":
        return []
    for extra, beginning in (("tpu", "/dev/accel"), ("tpu", "/dev/vfio/"), ("cuda", "/dev/nvidia")):
        if any(name.startswith(beginning) for name in files):
            return [
                f"this machine has an accelerator ({beginning}*) and JAX does not use it: "
                f"install biofm_jax[{extra}], and see that no other process holds it"
            ]
    return []


def slow_devices(kind: str, rates: list[float], names: list[str]) -> list[str]:
    """What is wrong with the rates, in words.

    Args:
        kind: JAX's name for the devices.
        rates: TFLOP/s of each.
        names: of each.
    """
    median = statistics.median(rates)
    found = [
        f"{name} is slow: {rate:.0f} TFLOP/s where the median is {median:.0f}; it will hold all "
        "others up. Is another process on it? Otherwise have it replaced"
        for name, rate in zip(names, rates, strict=True)
        if rate < SLOW * median
    ]
    peak = next((p for name, p in PEAKS.items() if kind.startswith(name)), None)
    if peak and median < LEAST * peak:
        found.append(
            f"the median device reaches {median:.0f} of {peak:.0f} TFLOP/s ({kind}): is another "
            "process on them, or are the matrices too small (--size)?"
        )
    return found


def main(arguments: list[str]) -> int:
    """Run all checks; the first process prints, and each process what is wrong on its machine."""
    try:
        return hosts.leave(check(arguments))
    except UserError as error:
        print(f"error: {error}", flush=True)
        hosts.failing(error)
        return hosts.leave(MISUSED)


def check(arguments: list[str]) -> int:
    """The checks.

    Raises:
        UserError: processes that are missing or differ, or a mesh that does not fit.
    """
    options = tyro.cli(
        Check, args=arguments, prog="check_devices.py", config=CONFIG, use_underscores=True
    )
    if options.distributed:
        hosts.join(True, lambda: same_everywhere({}))
    devices, local = jax.devices(), jax.local_devices()
    first = jax.process_index() == 0
    kind, platform = devices[0].device_kind, devices[0].platform

    def tell(line: str) -> None:
        if first:
            print(line, flush=True)

    tell(
        f"devices   {len(devices)} x {kind}, {jax.process_count()} process(es) of {len(local)}, "
        f"JAX {jax.__version__}"
    )
    wrong = missing_devices(options.expect, len(devices), jax.process_count())
    # Before the first collective, which a machine without its accelerator may hold up.
    files = glob.glob("/dev/*") + glob.glob("/dev/vfio/*")
    here = unused_accelerators(local[0].platform, files)
    for line in here:
        print(f"wrong: {hosts.host_name()}: {line}", flush=True)
    mesh = options.mesh.build()
    tell("mesh      " + ", ".join(f"{name} {size}" for name, size in mesh.shape.items()))

    for axis, size in mesh.shape.items():
        if size == 1:
            continue
        right, rate = all_reduce(mesh, axis, options.mebibytes)
        everywhere = bool(multihost_utils.process_allgather(np.array([right])).all())
        tell(f"all-reduce over {axis} ({size}): {rate / 1e9:.2f} GB/s a device")
        if not everywhere:
            wrong.append(f"the all-reduce over {axis} gave a wrong sum: a link or a chip is broken")

    size = options.size or (256 if platform == "cpu" else 8192)
    mine = np.array([matmul_rate(device, size) for device in local], np.float32)
    host = np.frombuffer(socket.gethostname().encode()[:64].ljust(64), np.uint8)
    rates = multihost_utils.process_allgather(mine).reshape(-1, len(local))
    machines = multihost_utils.process_allgather(host).reshape(-1, 64)
    names = [
        f"device {number} of process {process} on {bytes(name).decode().strip()}"
        for process, name in enumerate(machines)
        for number in range(len(local))
    ]
    tell(
        f"matmul    {size} x {size} bfloat16: {np.median(rates):.3g} TFLOP/s a device "
        f"({rates.min():.3g} to {rates.max():.3g})"
    )
    if platform == "cpu":
        tell("          simulated devices share a processor, so their rates are not judged")
    else:
        wrong += slow_devices(kind, rates.ravel().tolist(), names)
    for line in wrong:
        tell(f"wrong: {line}")
    count = len(wrong) + int(multihost_utils.process_allgather(np.array([len(here)])).sum())
    tell("all is well" if not count else f"{count} thing(s) are wrong")
    return FAILED if count else DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
