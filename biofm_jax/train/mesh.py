"""The device mesh and the table that says which array dimension lies on which mesh axis.

The only file that builds a mesh. Models name the dimensions of parameters and activations
(`embed`, `heads`, `batch`, ...) and know nothing of devices; the two tables below are all
there is to change for another layout.
"""

import dataclasses
import math

import jax
from jax.experimental.mesh_utils import create_device_mesh, create_hybrid_device_mesh
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
    "buffer": None,
}

# Parameters inside a layer's computation: gathered over fsdp, still split over tensor.
GATHERED = {**PARAMETERS, "embed": None}

# Bytes of a layer's parameter, from which on a copy on every device is a mistake.
LARGE = 2**20

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
            raise UserError(f"{self._flags()}: sizes must be positive, with at most one -1")
        fixed = math.prod(size for size in sizes if size != -1)
        if free and devices % fixed == 0:
            sizes[free[0]] = devices // fixed
        if math.prod(sizes) != devices or devices % fixed:
            raise UserError(
                f"{self._flags()} cannot be laid over {devices} devices: "
                f"the product must be {devices}; set one axis to -1 to take what is left"
            )
        return tuple(sizes)

    def _flags(self) -> str:
        return " ".join(f"--mesh.{name} {getattr(self, name)}" for name in AXES)

    def build(self, devices=None) -> Mesh:
        """The mesh over `devices`, by default all of them.

        Slices of TPUs, joined by the data centre's network, are the outer part of `data`: only
        the sums of gradients cross it.

        Raises:
            UserError: the sizes cannot be laid over the devices.
        """
        devices = jax.devices() if devices is None else devices
        sizes = self.sizes(len(devices))
        kinds = (AxisType.Auto,) * len(AXES)
        slices = slice_count(devices)
        if slices == 1 and devices[0].platform != "tpu":
            return jax.make_mesh(sizes, AXES, kinds, devices=devices)
        if slices == 1:
            # 2 x 8 on a torus of 4 x 4: a dimension of the torus may serve two axes.
            placed = create_device_mesh(sizes, devices, allow_split_physical_axes=True)
            return Mesh(placed, AXES, axis_types=kinds)
        if sizes[0] % slices:
            raise UserError(
                f"mesh.data {sizes[0]} must be a multiple of the {slices} slices, so that only "
                f"gradients cross the network between them; set --mesh.data {slices} and fit "
                f"the other axes into the {len(devices) // slices} devices of a slice"
            )
        inner = (sizes[0] // slices, *sizes[1:])
        placed = create_hybrid_device_mesh(
            inner, (slices, 1, 1, 1), devices, allow_split_physical_axes=True
        )
        return Mesh(placed, AXES, axis_types=kinds)


def slice_count(devices) -> int:
    """How many slices of TPUs the devices are; 1 for devices of another kind."""
    if devices[0].platform != "tpu":
        return 1
    return len({getattr(device, "slice_index", 0) for device in devices})


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

    Raises:
        KeyError: a name that is not in the table.
    """
    axes = []
    for name, size in zip(names, shape, strict=True):
        axis = None if name is None else table[name]
        if axis is not None and size % extent(mesh, axis):
            axis = None
        axes.append(axis)
    return PartitionSpec(*axes)


def extent(mesh, axis) -> int:
    """Into how many parts an axis of the table cuts: a mesh axis, several, or None."""
    return math.prod(mesh.shape[a] for a in (axis if isinstance(axis, tuple) else (axis,)) if a)


def parameter_shardings(mesh, axes, shapes):
    """A NamedSharding for every parameter.

    Args:
        mesh: the mesh.
        axes: tree of tuples of logical names, from `Model.axes`.
        shapes: the same tree of arrays or ShapeDtypeStructs.

    Raises:
        UserError: a parameter of more than a MiB in a layer that the mesh is meant to cut and does
            not divide.
    """

    def place(path, leaf, names):
        spec = layout(mesh, PARAMETERS, names, leaf.shape)
        _refuse_replicated(mesh, path, leaf, names, spec)
        return NamedSharding(mesh, spec)

    return jax.tree.map_with_path(place, shapes, axes)


def _refuse_replicated(mesh, path, leaf, names, spec) -> None:
    size = leaf.size * leaf.dtype.itemsize
    if "layers" in names:
        size //= leaf.shape[names.index("layers")]
    cut = {axis for axis in spec if axis is not None and mesh.shape[axis] > 1}
    missed = {
        PARAMETERS[name]: (name, n)
        for name, n in zip(names, leaf.shape, strict=True)
        if name is not None and PARAMETERS[name] is not None
        if mesh.shape[PARAMETERS[name]] > 1 and PARAMETERS[name] not in cut
    }
    # What tensor does not divide (50,257 tokens) may still be cut by fsdp; not the other way round.
    whole = not cut and (missed or mesh.shape["fsdp"] > 1)
    if size <= LARGE or not ("fsdp" in missed or whole):
        return
    sizes = ", ".join(f"{name or 'unnamed'} {n}" for name, n in zip(names, leaf.shape))
    reasons = [
        f"mesh.{axis} {mesh.shape[axis]} does not divide {name} {n} "
        f"({_divisor(n, mesh.shape[axis])} does)"
        for axis, (name, n) in missed.items()
    ] or ["none of its axes is named for mesh.fsdp"]
    other = "" if mesh.shape["fsdp"] > 1 else "; --mesh.fsdp 2 would cut its embed axis instead"
    raise UserError(
        f"the parameter {jax.tree_util.keystr(path, simple=True, separator='/')} ({sizes}; "
        f"{size / 2**20:.1f} MiB) would be copied to devices that are meant to share it: "
        + " and ".join(reasons)
        + other
    )


def _divisor(number: int, most: int) -> int:
    """The largest divisor of a number, up to a bound."""
    return next(n for n in range(min(most, number), 0, -1) if number % n == 0)


def replicated(mesh) -> NamedSharding:
    """The sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())
