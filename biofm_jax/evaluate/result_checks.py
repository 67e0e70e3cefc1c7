"""Whether what was read from a result's files is a result: types, shapes and names."""

import dataclasses
import math
import types
import typing
from typing import Any

import numpy as np

from biofm_jax.errors import UserError
from biofm_jax.evaluate.metrics import METRICS, label_columns


def check_types(value: Any, kind: Any, name: str) -> None:
    """Refuse a value that is not of an annotated type, to the bottom of its dataclasses.

    Args:
        value: of any type.
        kind: a type as dataclass fields name it: a plain one, a union, a tuple or dict of such,
            or a dataclass. Arrays, and what else cannot be told here, pass.
        name: of the value, for the message.

    Raises:
        UserError: a part has another type, or a number is not finite.
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in inner:
            return
        kinds = [each for each in inner if each is not type(None)]
        if len(kinds) == 1:
            check_types(value, kinds[0], name)
    elif origin is dict:
        _require(isinstance(value, dict), value, kind, name)
        for key, item in value.items():
            check_types(key, inner[0], f"a key of {name}")
            check_types(item, inner[1], f"{name}[{key!r}]")
    elif origin is tuple:
        _require(isinstance(value, tuple), value, kind, name)
        same = len(inner) == 2 and inner[1] is Ellipsis
        kinds = (inner[0],) * len(value) if same else inner
        _require(len(kinds) == len(value), value, kind, name)
        for place, (item, each) in enumerate(zip(value, kinds)):
            check_types(item, each, f"{name}[{place}]")
    elif dataclasses.is_dataclass(kind):
        _require(isinstance(value, kind), value, kind, name)
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            check_types(getattr(value, field.name), hints[field.name], f"{name}.{field.name}")
    elif kind is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        _require(is_number and math.isfinite(value), value, "a finite number", name)
    elif kind in (int, str, bool):
        _require(type(value) is kind, value, kind, name)
        if kind is str:  # JSON can hold half of a character, which no file can
            halves = value.encode("utf-8", "replace").decode() != value
            _require(not halves, value, "Unicode text", name)


def _require(holds: bool, value: Any, kind: Any, name: str) -> None:
    if not holds:
        wanted = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
        raise UserError(f"{name} is {repr(value)[:60]}, not {wanted}")


def check_result(result) -> None:
    """Refuse a `Result` whose parts have wrong types or do not fit one another.

    Raises:
        UserError: as `check_types`; an unknown metric; predictions that are not one finite
            number for each test item and label.
    """
    check_types(result, type(result), "result")
    if result.metric not in METRICS:
        raise UserError(f"{result.metric!r} is no metric of this version")
    if result.direction != METRICS[result.metric].direction:
        raise UserError(f"the direction of {result.metric} is not {result.direction!r}")
    found = result.predictions
    if len(found.ids) != result.n_test:
        raise UserError(f"{result.n_test} test items, but {len(found.ids)} predictions")
    given = {"truth": found.truth, "predicted": found.predicted, "control": found.control}
    if result.control is not None and found.control is None:
        raise UserError("the control has a score, but no predictions")
    shape = (result.n_test, *found.truth.shape[1:2])
    for name, array in given.items():
        if array is None:
            continue
        if array.dtype != np.float64 or array.ndim != 2 or array.shape != shape:
            raise UserError(
                f"{name} is {array.dtype} of shape {array.shape}, not float64 of shape (n, k) "
                f"with n = {result.n_test}"
            )
        if name != "truth" and not np.isfinite(array).all():
            raise UserError(f"{name} holds a number that is not finite")
    labelled = all(have.any() for have, _ in label_columns(result.metric, found.truth))
    if not labelled or np.isinf(found.truth).any():
        raise UserError("truth has a column without labels, or a number that is not finite")
