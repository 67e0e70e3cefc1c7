"""Which rows of a batch a process reads, and where they lie on the mesh."""

import dataclasses

import jax
import numpy as np
from jax.sharding import NamedSharding

from biofm_jax.errors import UserError
from biofm_jax.train.mesh import ACTIVATIONS, layout, row_shards


@dataclasses.dataclass(frozen=True)
class HostRows:
    """The share of a global batch that a process reads.

    Processes whose devices hold the same rows (other heads or other tokens of them) read the same.

    Attributes:
        index: number of the share.
        count: of equal shares.
        parts: which of the mesh's `row_shards` parts of the rows they are, in order.
    """

    index: int
    count: int
    parts: tuple[int, ...]


def host_rows(mesh, process: int | None = None) -> HostRows:
    """The share of a process, by default of this one.

    Raises:
        UserError: a mesh in which two processes would share some rows and not others.
    """
    process = jax.process_index() if process is None else process
    held: dict[int, set[int]] = {}
    for part, devices in enumerate(mesh.devices.reshape(row_shards(mesh), -1)):
        for device in devices:
            held.setdefault(device.process_index, set()).add(part)
    shares = sorted({tuple(sorted(parts)) for parts in held.values()})
    if sum(len(parts) for parts in shares) != row_shards(mesh) or len({*map(len, shares)}) > 1:
        raise UserError(
            f"on the mesh {dict(mesh.shape)} two processes would share a part of their rows only; "
            "let mesh.tensor x mesh.context divide the devices of a process, or be a multiple of "
            "them"
        )
    mine = tuple(sorted(held[process]))
    return HostRows(shares.index(mine), len(shares), mine)


def global_shapes(mesh, batch):
    """Shapes of the batch of all processes together, of which `batch` is this one's rows."""
    count = host_rows(mesh).count
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((x.shape[0] * count, *x.shape[1:]), x.dtype), batch
    )


def batch_shardings(mesh, batch):
    """Shardings of a batch: rows over data and fsdp, the tokens of a row over context."""

    def sharding(path, leaf):
        per_token = leaf.ndim == 2 and path[-1].name != "examples"
        names = ("batch", "tokens" if per_token else None) + (None,) * leaf.ndim
        return NamedSharding(mesh, layout(mesh, ACTIVATIONS, names[: leaf.ndim], leaf.shape))

    return jax.tree.map_with_path(sharding, batch)


def to_devices(mesh, batch):
    """Put this process's rows of a batch of numpy arrays on the devices of the mesh."""
    whole = global_shapes(mesh, batch)
    shardings = batch_shardings(mesh, whole)
    if jax.process_count() == 1:
        return jax.tree.map(jax.device_put, batch, shardings)
    parts = host_rows(mesh).parts

    def put(leaf, shape, sharding):
        leaf, rows = np.asarray(leaf), shape.shape[0] // row_shards(mesh)

        def shard(index):
            place = parts.index((index[0].start or 0) // rows) * rows
            return leaf[(slice(place, place + rows), *index[1:])]

        return jax.make_array_from_callback(shape.shape, sharding, shard)

    return jax.tree.map(put, batch, whole, shardings)
