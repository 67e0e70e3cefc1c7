"""Parameters back to published tensors: the inverse of an import, to the last bit."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from biofm_jax.array_types import PyTree
from biofm_jax.zoo.importing import model_shapes
from biofm_jax.zoo.tensors import Place, by_path, places


def published_tensors(
    params: PyTree, family: Any, spec: Any, wanted: Sequence[str] | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor of the family's table, float32, one at a time.

    Args:
        params: as the model's `init` makes them, on any devices.
        family: of the model.
        spec: its architecture.
        wanted: names in the table; None: all.

    Yields:
        Name and array, in the table's order. Tied tensors come once.
    """
    leaves = by_path(params)
    for place in places(family.tensors(spec), by_path(model_shapes(spec))):
        if wanted is None or place.name in wanted:
            yield place.name, published_tensor(leaves, place)


def published_tensor(leaves: dict[str, Any], place: Place) -> np.ndarray:
    """One tensor of the table, float32.

    Args:
        leaves: the parameters by path.
        place: where it lies.
    """
    piece = np.asarray(leaves[place.path][place.slices])
    return np.ascontiguousarray(place.layout.to_published(piece))
