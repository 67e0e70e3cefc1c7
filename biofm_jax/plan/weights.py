"""A model's parameters on a mesh, by the names of their axes."""

import dataclasses
import math
from collections.abc import Iterator

import jax

from biofm_jax.array_types import PyTree
from biofm_jax.train.mesh import AXES, PARAMETERS, abstract_mesh, layout


@dataclasses.dataclass(frozen=True)
class Weight:
    """One parameter.

    Attributes:
        shape: of all of it, layers stacked.
        names: logical, of its axes.
        cut: mesh axes that cut it, each with the number of its parts.
    """

    shape: tuple[int, ...]
    names: tuple[str | None, ...]
    cut: dict[str, int]

    def parts(self, *axes: str) -> int:
        """Into how many parts some mesh axes cut it."""
        return math.prod(self.cut.get(axis, 1) for axis in axes)

    def on_chip(self, *axes: str) -> float:
        """Numbers of it that one chip holds where only some mesh axes cut; none: all do."""
        return math.prod(self.shape) / self.parts(*(axes or AXES))

    def along(self, name: str) -> int:
        """Its size along a logical axis; 1 where it has none."""
        return self.shape[self.names.index(name)] if name in self.names else 1

    @property
    def reduces(self) -> bool:
        """Whether its product sums over what tensor parallelism cuts.

        So do the second of two layers and the output of attention (Shoeybi et al. 2019, arXiv
        1909.08053, section 3); each costs an all-reduce, and one in the backward pass of the
        weights before it.
        """
        order = [name for name in self.names if name in ("heads", "mlp", "embed")]
        return self.parts("tensor") > 1 and len(order) > 1 and order[-1] == "embed"


def weights(sizes: tuple[int, ...], params: PyTree, axes: PyTree) -> Iterator[Weight]:
    """The parameters of a model.

    Args:
        sizes: of the mesh axes, in the order of `AXES`.
        params: tree of their shapes.
        axes: tree of the logical names of their axes, from `Model.axes`.
    """
    mesh = abstract_mesh(sizes)
    every = jax.tree.leaves(axes, is_leaf=lambda x: isinstance(x, tuple))
    for leaf, names in zip(jax.tree.leaves(params), every, strict=True):
        spec = layout(mesh, PARAMETERS, names, leaf.shape)
        cut = {axis: mesh.shape[axis] for axis in spec if axis is not None}
        yield Weight(leaf.shape, names, cut)
