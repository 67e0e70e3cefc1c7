"""How a model's arrays lie on a mesh while the step is traced: what `models/api.py` calls."""

import dataclasses

import jax
from jax.sharding import Mesh, NamedSharding

from biofm_jax.train.mesh import ACTIVATIONS, GATHERED, PARAMETERS, extent, layout


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

    @property
    def platform(self) -> str:
        """Of the mesh's devices; of an abstract mesh, this process's."""
        if isinstance(self.mesh, Mesh):
            return self.mesh.devices.flat[0].platform
        return jax.default_backend()

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
        return extent(self.mesh, axis)

    def gather_tokens(self, x, axis: int):
        """Within `per_shard`: the runs of tokens of all devices, one behind the other."""
        return jax.lax.all_gather(x, ACTIVATIONS["tokens"], axis=axis, tiled=True)

    def _place(self, x, table, names):
        spec = layout(self.mesh, table, names, x.shape)
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, spec))
