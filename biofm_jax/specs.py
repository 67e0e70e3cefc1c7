"""Frozen dataclass specs as JSON, and back."""

import dataclasses
import importlib
from typing import Any

from biofm_jax.errors import UserError

TYPE = "type"


def encode(value: Any) -> Any:
    """A spec as plain JSON values; a dataclass becomes an object that names its type."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {TYPE: f"{kind.__module__}.{kind.__qualname__}", **fields}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a spec holds numbers, text, tuples and specs, not {type(value).__name__}")


def decode(value: Any) -> Any:
    """The inverse of `encode`. Only dataclasses of this package are made.

    Raises:
        UserError: an unknown type or field: the file comes from another version.
    """
    if isinstance(value, list):
        return tuple(decode(item) for item in value)
    if not isinstance(value, dict):
        return value
    module, _, name = value.get(TYPE, "").rpartition(".")
    if not module.startswith("biofm_jax."):
        raise UserError(f"experiment JSON names the type {value.get(TYPE)!r}, not one of biofm_jax")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise UserError(f"this version of biofm_jax has no {module}.{name}") from None
    if not dataclasses.is_dataclass(kind):
        raise UserError(f"{module}.{name} is not a spec")
    known = {field.name for field in dataclasses.fields(kind)}
    given = {key: decode(item) for key, item in value.items() if key != TYPE}
    if unknown := sorted(given.keys() - known):
        raise UserError(f"{name} has no field {', '.join(unknown)} in this version of biofm_jax")
    return kind(**given)


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Nested JSON as `path.to.field` -> value, for comparing two experiments."""
    if not isinstance(value, dict):
        return {path: value}
    flat = {}
    for key, item in value.items():
        flat |= flatten(item, f"{path}.{key}" if path else key)
    return flat
