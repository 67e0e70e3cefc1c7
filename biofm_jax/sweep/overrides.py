"""One field of a spec changed by its path and a value written as text."""

import contextlib
import dataclasses
import difflib
import io
import re
import typing
from typing import Any

import tyro

from biofm_jax import specs
from biofm_jax.errors import UserError

CHOICE = re.compile(r"(\w+)\s*(?:\((.*)\))?$", re.DOTALL)


def split_values(text: str) -> list[str]:
    """Text cut at its commas, except those inside round brackets."""
    values, depth = [""], 0
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            values.append("")
        else:
            values[-1] += letter
    return [value.strip() for value in values]


def override(spec: Any, path: str, text: str) -> Any:
    """A spec with one field changed.

    Plain fields are read as `biofm train --PATH VALUE` reads them; the members of a tuple are
    separated by spaces. A field that holds one of several specs takes the name of one, in any
    case, with its defaults or with arguments: `Alibi`, `Learned(maximum=256)`, `None`.

    Args:
        spec: a frozen dataclass.
        path: `model.positions`, `loop.batch_size` (or `loop.batch-size`).
        text: the value.

    Raises:
        UserError: an unknown path, which names the nearest one, or a value the field cannot take.
    """
    names = path.replace("-", "_").split(".")
    owners = [spec]
    for depth, name in enumerate(names):
        fields = _fields(owners[-1])
        if name not in fields:
            raise UserError(f"{path}: {_unknown(spec, names, depth, owners[-1])}")
        owners.append(getattr(owners[-1], name))
    owner, old = owners[-2:]
    choices = _choices(type(owner), names[-1])
    if choices:
        value = _choose(path, choices, text)
        for parent, name in zip(owners[-2::-1], names[::-1], strict=True):
            value = dataclasses.replace(parent, **{name: value})
        return value
    if dataclasses.is_dataclass(old):
        raise UserError(
            f"{path}: this is a whole {type(old).__name__}; name one of its fields "
            f"({', '.join(_fields(old))}), or make it a variant of the experiment's file and "
            "use --over variant=..."
        )
    return _parse(spec, path, text, several=isinstance(old, tuple))


def _fields(spec) -> list[str]:
    return [field.name for field in dataclasses.fields(spec)] if _is_spec(spec) else []


def _is_spec(value) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _unknown(spec, names: list[str], depth: int, owner) -> str:
    """What is wrong with a path whose part number `depth` is no field of `owner`."""
    inside = ".".join(names[:depth])
    if not _is_spec(owner):
        return f"{inside} is {owner!r} and has no fields"
    known = [key for key in specs.flatten(specs.encode(spec)) if not key.endswith(specs.TYPE)]
    branches = {key.rsplit(".", count)[0] for key in known for count in range(key.count(".") + 1)}
    near = difflib.get_close_matches(".".join(names), branches, 1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else f"; it has {', '.join(_fields(owner))}"
    holder = f"{inside}, a {type(owner).__name__}," if inside else "the experiment"
    return f"{holder} has no field {names[depth]}{hint}"


def _choices(owner: type, name: str) -> dict[str, type]:
    """The specs that a field's annotation names, by lower-case name; none for other fields."""
    members = typing.get_args(typing.get_type_hints(owner)[name])
    kinds = {kind.__name__.lower(): kind for kind in members if dataclasses.is_dataclass(kind)}
    return kinds | {"none": type(None)} if kinds and type(None) in members else kinds


def _choose(path: str, choices: dict[str, type], text: str) -> Any:
    found = CHOICE.match(text)
    kind = choices.get(found[1].lower()) if found else None
    if kind is None:
        known = ", ".join("None" if k is type(None) else k.__name__ for k in choices.values())
        raise UserError(f"{path}={text}: it is one of {known}")
    value = kind()
    for argument in split_values(found[2]) if found[2] else []:
        name, equals, given = argument.partition("=")
        if not equals:
            raise UserError(f"{path}={text}: write {found[1]}(name=value, ...)")
        try:
            value = override(value, name.strip(), given.strip())
        except UserError as error:
            raise UserError(f"{path}={text}: {error}") from None
    return value


def _parse(spec, path: str, text: str, several: bool):
    """The spec as tyro reads it from the command line."""
    name = path.replace("-", "_")
    # With "=", a value may begin with a dash.
    arguments = [f"--{name}", *text.split()] if several else [f"--{name}={text}"]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            return tyro.cli(
                type(spec),
                args=arguments,
                default=spec,
                prog="biofm sweep",
                config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff),
                use_underscores=True,
            )
    except SystemExit:
        raise UserError(f"{path}={text}: {_message(said.getvalue())}") from None


def _message(printed: str) -> str:
    """What tyro complained of, without its frame, title and hints."""
    lines = [line.strip(" │╭╮╰╯─") for line in printed.splitlines()]
    lines = [line for line in lines[1:] if line.strip("-")]
    ends = [i for i, line in enumerate(lines) if re.match(r"(Argument helptext|For full)", line)]
    return " ".join(lines[: ends[0] if ends else None]) or "this value cannot be read"
