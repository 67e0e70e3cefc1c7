"""Adapters alone on disk: a safetensors file of a few MB that belongs to one set of weights."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from biofm_jax.adapt.lora import Lora, init_adapters
from biofm_jax.errors import UserError
from biofm_jax.files import write_whole
from biofm_jax.train.optimizer import parameter_path

FORMAT = "biofm_jax adapters 1"


def fingerprint(params: Any) -> str:
    """16 hexadecimal digits of the names, shapes, types and values of parameters."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(params):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{parameter_path(path)} {array.shape} {array.dtype}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:16]


def save_adapters(path: Path, adapters: Any, lora: Lora, params: Any) -> None:
    """Write adapters, and which weights they belong to, without those weights.

    Args:
        path: the file, by custom `*.safetensors`; written whole.
        adapters: as `init_adapters` makes them; a head or other plain arrays may stand beside.
        lora: their rank, scale and targets.
        params: the weights that they change (without what stands beside the adapters).
    """
    tensors = {
        parameter_path(at): np.ascontiguousarray(leaf)
        for at, leaf in jax.tree.leaves_with_path(adapters)
    }
    record = {
        "format": FORMAT,
        "lora": json.dumps(dataclasses.asdict(lora)),
        "base": fingerprint(params),
    }
    write_whole(path, save(tensors, metadata=record))


def load_adapters(path: Path, params: Any, axes: Any) -> tuple[Any, Lora]:
    """Read adapters for the weights they were trained beside.

    Args:
        path: the file.
        params: those weights.
        axes: the tree of their logical axis names.

    Returns:
        The adapters (with what stood beside them, as numpy arrays), and their rank, scale and
        targets.

    Raises:
        UserError: no such file, not one of ours, of other weights, or with missing, unused or
            misshaped tensors, which are listed.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: name a file that save_adapters wrote")
    try:
        with safe_open(path, framework="numpy") as file:
            record = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error})") from error
    if record.get("format") != FORMAT:
        raise UserError(f"{path} holds no adapters: its format is {record.get('format')!r}")
    fields = json.loads(record["lora"])
    lora = Lora(**fields | {"targets": tuple(fields["targets"])})
    if record["base"] != (mine := fingerprint(params)):
        raise UserError(
            f"{path}: adapters of the weights {record['base']}, but these are {mine}; adapters "
            "are good for the checkpoint that they were trained on, in the same dtype"
        )
    expected = {
        parameter_path(at): leaf.shape
        for at, leaf in jax.tree.leaves_with_path(
            jax.eval_shape(lambda: init_adapters(lora, params, axes, jax.random.key(0)))
        )
    }
    wrong = [f"{name} is missing" for name in expected.keys() - tensors.keys()]
    for name, array in tensors.items():
        if name in expected and array.shape != expected[name]:
            wrong.append(f"{name} has shape {array.shape}, not {expected[name]}")
        elif name not in expected and name.split("/")[0] in params:
            wrong.append(f"{name} is of no target")
    if wrong:
        raise UserError(f"{path} does not fit its own targets: {'; '.join(sorted(wrong))}")
    return _nested(tensors), lora


def _nested(tensors: dict[str, np.ndarray]) -> dict:
    tree: dict = {}
    for name, array in tensors.items():
        *folders, last = name.split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = array
    return tree
