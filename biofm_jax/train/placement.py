"""Which rows of a batch a process reads, and where they lie on the mesh."""

import jax
import numpy as np
from jax.sharding import NamedSharding

from biofm_jax.train.mesh import ACTIVATIONS, layout, row_shards


def _own_parts(mesh, process: int | None = None) -> list[int]:
    """Which of the `row_shards` parts of a batch's rows a process's devices hold, ascending."""
    process = jax.process_index() if process is None else process
    parts = mesh.devices.reshape(row_shards(mesh), -1)
    return [i for i, part in enumerate(parts) if any(d.process_index == process for d in part)]


def host_rows(mesh, batch_size: int, process: int | None = None) -> np.ndarray:
    """Numbers of the rows of a batch that a process's devices hold, ascending.

    Processes whose devices hold other heads or other tokens of the same rows share them.

    Args:
        mesh: the mesh.
        batch_size: rows over all processes, divisible by `row_shards`.
        process: by default this one.
    """
    parts = np.arange(batch_size).reshape(row_shards(mesh), -1)
    return parts[_own_parts(mesh, process)].ravel()


def global_shapes(mesh, batch):
    """Shapes of the batch of all processes together, of which `batch` is this one's rows."""
    parts, own = row_shards(mesh), len(_own_parts(mesh))
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((x.shape[0] * parts // own, *x.shape[1:]), x.dtype), batch
    )


def batch_shardings(mesh, batch):
    """Shardings of a batch: rows over data and fsdp, the tokens of a row over context."""

    def sharding(path, leaf):
        per_token = leaf.ndim == 2 and path[-1].name not in ("examples", "contents")
        names = ("batch", "tokens" if per_token else None) + (None,) * leaf.ndim
        return NamedSharding(mesh, layout(mesh, ACTIVATIONS, names[: leaf.ndim], leaf.shape))

    return jax.tree.map_with_path(sharding, batch)


def to_devices(mesh, batch):
    """Put this process's rows of a batch of numpy arrays on the devices of the mesh."""
    whole = global_shapes(mesh, batch)
    shardings = batch_shardings(mesh, whole)
    if jax.process_count() == 1:
        return jax.tree.map(jax.device_put, batch, shardings)
    parts = _own_parts(mesh)

    def put(leaf, shape, sharding):
        leaf, rows = np.asarray(leaf), shape.shape[0] // row_shards(mesh)

        def shard(index):
            place = parts.index((index[0].start or 0) // rows) * rows
            return leaf[(slice(place, place + rows), *index[1:])]

        return jax.make_array_from_callback(shape.shape, sharding, shard)

    return jax.tree.map(put, batch, whole, shardings)
