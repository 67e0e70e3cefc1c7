"""Shape-annotated array aliases and the decorator that checks them.

Letters in shapes: `b` rows of a batch, `t` tokens of a row, `s` packed examples of a row,
`d` width, `h` heads, `k` selected positions or label columns, `v` vocabulary.
"""

import os
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Bool, Float, Int32, Shaped, jaxtyped

ArrayLike = jax.Array | np.ndarray | jax.ShapeDtypeStruct

Tokens = Int32[ArrayLike, "b t"]
Examples = Int32[ArrayLike, "b s"]
Hidden = Float[ArrayLike, "b t d"]
Pooled = Float[ArrayLike, "b s d"]
Heads = Float[ArrayLike, "b t h d"]
TokenMask = Bool[ArrayLike, "b t"]
AnyArray = Shaped[ArrayLike, "..."]
Scalar = Float[ArrayLike, ""]

PyTree = object  # a nested dict of arrays

F = TypeVar("F", bound=Callable)


def typed(function: F) -> F:
    """Check the jaxtyping shapes and dtypes of `function` when `BIOFM_CHECK_TYPES=1`.

    The tests set the variable; outside them the function is returned as it is, so that a
    training step pays nothing.
    """
    if os.environ.get("BIOFM_CHECK_TYPES") != "1":
        return function
    from beartype import beartype

    return jaxtyped(function, typechecker=beartype)
