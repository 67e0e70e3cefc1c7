"""Where each published tensor lies in our parameters: a table per family, read both ways."""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import jax
import numpy as np

from biofm_jax.array_types import PyTree

Shape = tuple[int, ...]
# Of the parameters of a stack's blocks, `blocks/...` or `decoder/blocks/...`, the first axis is the
# layer; a tensor belongs to one layer of them.
BLOCKS = "blocks"


class Layout(Protocol):
    """How the numbers of a part of a parameter are laid out in a published tensor."""

    def published_shape(self, shape: Shape) -> Shape:
        """The published tensor's shape, from the part's."""

    def to_ours(self, array: np.ndarray, shape: Shape) -> np.ndarray:
        """A published tensor as the part of that shape."""

    def to_published(self, array: np.ndarray) -> np.ndarray:
        """The inverse of `to_ours`."""


@dataclasses.dataclass(frozen=True)
class Flat:
    """The same numbers in the same order, axes merged: (inputs merged, outputs merged).

    With no input axis a vector. Embedding tables, norms, biases, GPT-2's `Conv1D`.

    Attributes:
        inputs: how many axes of ours come first.
    """

    inputs: int = 0

    def published_shape(self, shape: Shape) -> Shape:
        """The published tensor's shape, from the part's."""
        outputs = math.prod(shape[self.inputs :])
        return (math.prod(shape[: self.inputs]), outputs) if self.inputs else (outputs,)

    def to_ours(self, array: np.ndarray, shape: Shape) -> np.ndarray:
        """A published tensor as the part of that shape."""
        return array.reshape(shape)

    def to_published(self, array: np.ndarray) -> np.ndarray:
        """The inverse of `to_ours`."""
        return array.reshape(self.published_shape(array.shape))


@dataclasses.dataclass(frozen=True)
class Linear:
    """`torch.nn.Linear`: (outputs, inputs), where ours are (*inputs, *outputs).

    Attributes:
        inputs: how many axes of ours a product contracts.
    """

    inputs: int = 1

    def published_shape(self, shape: Shape) -> Shape:
        """The published tensor's shape, from the part's."""
        return Flat(self.inputs).published_shape(shape)[::-1]

    def to_ours(self, array: np.ndarray, shape: Shape) -> np.ndarray:
        """A published tensor as the part of that shape."""
        return array.T.reshape(shape)

    def to_published(self, array: np.ndarray) -> np.ndarray:
        """The inverse of `to_ours`."""
        return Flat(self.inputs).to_published(array).T


@dataclasses.dataclass(frozen=True)
class OneBatch:
    """The same numbers behind axes of length 1.

    Attributes:
        axes: how many.
    """

    axes: int = 1

    def published_shape(self, shape: Shape) -> Shape:
        """The published tensor's shape, from the part's."""
        return (1,) * self.axes + shape

    def to_ours(self, array: np.ndarray, shape: Shape) -> np.ndarray:
        """A published tensor as the part of that shape."""
        return array.reshape(shape)

    def to_published(self, array: np.ndarray) -> np.ndarray:
        """The inverse of `to_ours`."""
        return array.reshape(self.published_shape(array.shape))


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One published tensor, or one of every layer.

    Attributes:
        name: published; `{i}` stands for the layer.
        path: of our parameter, such as `blocks/attention/qkv/kernel`.
        layout: how the two correspond.
        part: which part of the parameter it is: an index of each of the first axes (not the
            layer's), None for all of an axis: queries are (None, 0) of a kernel (d, 3, h, w).
        first: the first layer that has it.
    """

    name: str
    path: str
    layout: Layout = Flat()
    part: tuple[int | None, ...] = ()
    first: int = 0


@dataclasses.dataclass(frozen=True)
class Place:
    """One published tensor and the part of our parameter that it fills.

    Attributes:
        name: of the tensor.
        path: of the parameter.
        index: of the part, one entry for each of the parameter's first axes; None: all of it.
        shape: of the part, fixed axes left out.
        layout: how the two correspond.
    """

    name: str
    path: str
    index: tuple[int | None, ...]
    shape: Shape
    layout: Layout

    @property
    def published_shape(self) -> Shape:
        """Shape of the published tensor."""
        return self.layout.published_shape(self.shape)

    @property
    def slices(self) -> tuple:
        """The part as a NumPy index."""
        return tuple(slice(None) if i is None else i for i in self.index)


def places(tensors: Iterable[Tensor], shapes: dict[str, Any]) -> list[Place]:
    """Every published tensor of a model, layer by layer, and where it lies.

    Args:
        tensors: a family's table.
        shapes: arrays or shapes by path, from `by_path`.
    """
    found = []
    for tensor in tensors:
        stacked = BLOCKS in tensor.path.split("/")
        whole = shapes[tensor.path].shape
        for i in range(tensor.first, whole[0] if stacked else 1):
            index = ((i,) if stacked else ()) + tensor.part
            shape = tuple(
                size for axis, size in enumerate(whole) if axis >= len(index) or index[axis] is None
            )
            name = tensor.name.format(i=i) if stacked else tensor.name
            found.append(Place(name, tensor.path, index, shape, tensor.layout))
    return found


def by_path(params: PyTree) -> dict[str, Any]:
    """The leaves of a parameter tree by path, `embed/tokens`."""
    leaves = jax.tree.leaves_with_path(params)
    return {"/".join(str(key.key) for key in path): leaf for path, leaf in leaves}


def dense(name: str, path: str, inputs: int = 1, bias: bool = True, **options) -> Iterator[Tensor]:
    """The weight and bias of a `torch.nn.Linear`.

    Args:
        name: without `.weight`.
        path: without `/kernel`.
        inputs: axes of our kernel that the product contracts.
        bias: whether there is one.
        options: of `Tensor`, such as `part`.
    """
    yield Tensor(f"{name}.weight", f"{path}/kernel", Linear(inputs), **options)
    if bias:
        part = options.pop("part", ())[inputs:]
        yield Tensor(f"{name}.bias", f"{path}/bias", part=part, **options)


def norm(name: str, path: str, bias: bool = True, **options) -> Iterator[Tensor]:
    """The weight and bias of a LayerNorm, or the weight of an RMSNorm; arguments as of `dense`."""
    yield Tensor(f"{name}.weight", f"{path}/scale", **options)
    if bias:
        yield Tensor(f"{name}.bias", f"{path}/bias", **options)
