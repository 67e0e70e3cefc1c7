"""The device mesh and the table that says which array dimension lies on which mesh axis.

The only file that builds a mesh. Models name the dimensions of parameters and activations
(`embed`, `heads`, `batch`, ...) and know nothing of devices; the two tables below are all
there is to change for another layout.
"""

import dataclasses
import math

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from biofm_jax.errors import UserError

AXES = ("data", "fsdp", "tensor", "context")

# Parameters at rest. `embed` is the model width: sharding it is what FSDP means.
PARAMETERS = {
    "embed": "fsdp",
    "heads": "tensor",
    "mlp": "tensor",
    "vocab": "tensor",
    "layers": None,
}

# Parameters inside a layer's computation: gathered over fsdp, still split over tensor.
GATHERED = {**PARAMETERS, "embed": None}

# Activations between operations.
ACTIVATIONS = {
    "batch": ("data", "fsdp"),
    "tokens": "context",
    "heads": "tensor",
    "mlp": "tensor",
    "vocab": "tensor",
    "width": None,
}


@dataclasses.dataclass(frozen=True)
class MeshSpec:
    """Sizes of the mesh axes; -1 on one axis means all devices that are left.

    Attributes:
        data: copies of the model, each with its own rows of the batch.
        fsdp: devices that share one copy, each with its own rows (ZeRO-3).
        tensor: devices that split each layer's heads, MLP and vocabulary.
        context: devices that split the tokens of a row.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    context: int = 1

    def sizes(self, devices: int) -> tuple[int, int, int, int]:
        """The sizes of (data, fsdp, tensor, context) for a number of devices.

        Raises:
            UserError: the sizes cannot be laid over that many devices.
        """
        sizes = [getattr(self, name) for name in AXES]
        free = [i for i, size in enumerate(sizes) if size == -1]
        if len(free) > 1 or any(size < 1 and size != -1 for size in sizes):
            raise UserError(f"mesh sizes {self} must be positive, with at most one -1")
        fixed = math.prod(size for size in sizes if size != -1)
        if free and devices % fixed == 0:
            sizes[free[0]] = devices // fixed
        if math.prod(sizes) != devices or devices % fixed:
            flags = " ".join(f"--mesh.{name} {getattr(self, name)}" for name in AXES)
            raise UserError(
                f"{flags} cannot be laid over {devices} devices: "
                f"the product must be {devices}; set one axis to -1 to take what is left"
            )
        return tuple(sizes)

    def build(self, devices=None) -> Mesh:
        """The mesh over `devices`, by default all of them."""
        devices = jax.devices() if devices is None else devices
        sizes = self.sizes(len(devices))
        return jax.make_mesh(sizes, AXES, (AxisType.Auto,) * len(AXES), devices=devices)


def abstract_mesh(sizes: tuple[int, int, int, int]):
    """A mesh of the given sizes without devices, for tracing and shape checks only."""
    return jax.sharding.AbstractMesh(sizes, AXES, (AxisType.Auto,) * len(AXES))


def row_shards(mesh) -> int:
    """The number of parts into which the rows of a batch are cut."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def layout(mesh, table: dict, names: tuple, shape: tuple) -> PartitionSpec:
    """The mesh axes of an array's dimensions.

    A dimension that the mesh axis does not divide (33 amino-acid tokens over 2 devices) is
    left whole.

    Args:
        mesh: the mesh.
        table: PARAMETERS, GATHERED or ACTIVATIONS.
        names: one logical name or None per dimension.
        shape: the array's shape.
    """
    axes = []
    for name, size in zip(names, shape, strict=True):
        axis = table.get(name)
        if axis is not None and size % _extent(mesh, axis):
            axis = None
        axes.append(axis)
    return PartitionSpec(*axes)


def _extent(mesh, axis) -> int:
    return math.prod(mesh.shape[a] for a in (axis if isinstance(axis, tuple) else (axis,)))


def parameter_shardings(mesh, axes, shapes):
    """A NamedSharding for every parameter.

    Args:
        mesh: the mesh.
        axes: tree of tuples of logical names, from `Model.axes`.
        shapes: the same tree of arrays or ShapeDtypeStructs.
    """
    return jax.tree.map(
        lambda leaf, names: NamedSharding(mesh, layout(mesh, PARAMETERS, names, leaf.shape)),
        shapes,
        axes,
    )


def replicated(mesh) -> NamedSharding:
    """The sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_shardings(mesh, batch):
    """Shardings of a batch: rows over data and fsdp, the tokens of a row over context."""

    def sharding(leaf):
        names = ("batch", "tokens") if leaf.ndim == 2 else ("batch",)
        names += (None,) * (leaf.ndim - len(names))
        return NamedSharding(mesh, layout(mesh, ACTIVATIONS, names[: leaf.ndim], leaf.shape))

    return jax.tree.map(sharding, batch)


def to_devices(mesh, batch):
    """Put this process's rows of a batch of numpy arrays on the devices of the mesh."""
    shares = jax.process_count()

    def put(leaf, sharding):
        if shares == 1:
            return jax.device_put(leaf, sharding)
        return jax.make_array_from_process_local_data(sharding, np.asarray(leaf))

    whole = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((x.shape[0] * shares, *x.shape[1:]), x.dtype), batch
    )
    return jax.tree.map(put, batch, batch_shardings(mesh, whole))


@dataclasses.dataclass(frozen=True)
class Partitioner:
    """Places a model's activations and gathers its layers' parameters on a mesh.

    Models call it through `models.api`; without it they run on one device.
    """

    mesh: Mesh

    @property
    def devices(self) -> int:
        """Number of devices of the mesh."""
        return self.mesh.size

    def constrain(self, x, names: tuple):
        """Place an activation whose dimensions have the given logical names."""
        return self._place(x, ACTIVATIONS, names)

    def gather(self, param, names, dtype):
        """A layer's parameter gathered over fsdp, in the computation's dtype.

        The cast comes before the gather, so that bfloat16 travels; the gradient travels back
        in the same dtype as a reduce-scatter.
        """

        @jax.custom_vjp
        def collect(x):
            x = self._place(x.astype(dtype), PARAMETERS, names)
            return self._place(x, GATHERED, names)

        def backward(_, gradient):
            return (self._place(gradient, PARAMETERS, names).astype(param.dtype),)

        collect.defvjp(lambda x: (collect(x), None), backward)
        return collect(param)

    def per_shard(self, function, inputs, output):
        """`function` run on each device's shard; the arguments are activations by name."""

        def run(*arrays):
            specs = [
                layout(self.mesh, ACTIVATIONS, names, x.shape)
                for names, x in zip(inputs, arrays, strict=True)
            ]
            return jax.shard_map(
                function,
                mesh=self.mesh,
                in_specs=tuple(specs),
                out_specs=layout(self.mesh, ACTIVATIONS, output, arrays[0].shape),
                check_vma=False,
            )(*arrays)

        return run

    def parts(self, name: str, size: int) -> int:
        """Into how many parts an activation's axis of that name and size is cut."""
        (axis,) = layout(self.mesh, ACTIVATIONS, (name,), (size,))
        return 1 if axis is None else _extent(self.mesh, axis)

    def gather_tokens(self, x, axis: int):
        """Within `per_shard`: the runs of tokens of all devices, one behind the other."""
        return jax.lax.all_gather(x, ACTIVATIONS["tokens"], axis=axis, tiled=True)

    def _place(self, x, table, names):
        spec = layout(self.mesh, table, names, x.shape)
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, spec))
