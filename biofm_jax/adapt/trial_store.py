"""A model of trial outcomes on disk: one safetensors file with its spec and its ICD-10 codes."""

import json
from pathlib import Path

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from biofm_jax import specs
from biofm_jax.adapt.trial_outcome import Outcomes, TrialModel
from biofm_jax.data.icd10 import Hierarchy
from biofm_jax.errors import UserError
from biofm_jax.files import write_whole
from biofm_jax.train.optimizer import parameter_path

FORMAT = "biofm_jax trial outcomes 1"


def save_model(path: Path, model: TrialModel) -> None:
    """Write a model, whole or not at all."""
    tensors = {
        parameter_path(at): np.ascontiguousarray(leaf)
        for at, leaf in jax.tree.leaves_with_path(model.params)
    }
    record = {
        "format": FORMAT,
        "outcomes": json.dumps(specs.encode(model.outcomes)),
        "codes": json.dumps(model.hierarchy.nodes),
    }
    write_whole(path, save(tensors, metadata=record))


def load_model(path: Path) -> TrialModel:
    """Read what `save_model` wrote.

    Raises:
        UserError: no such file, not one of ours, of another version, or with other tensors than
            its spec has.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: name a file that `biofm trial` wrote")
    try:
        with safe_open(path, framework="numpy") as file:
            record = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error})") from error
    if record.get("format") != FORMAT:
        raise UserError(f"{path} holds no model of trials: its format is {record.get('format')!r}")
    outcomes = specs.decode(json.loads(record["outcomes"]))
    if not isinstance(outcomes, Outcomes):
        raise UserError(f"{path} holds no model of trials, but a {type(outcomes).__name__}")
    shapes = jax.eval_shape(outcomes.model.build().init, jax.random.key(0), None)
    leaves, tree = jax.tree.flatten_with_path(shapes)
    wanted = {parameter_path(at): leaf.shape for at, leaf in leaves}
    if wanted != {name: array.shape for name, array in tensors.items()}:
        raise UserError(f"{path}: its tensors are not those of its model; train it again")
    params = jax.tree.unflatten(tree, [tensors[name] for name in wanted])
    return TrialModel(outcomes, Hierarchy(tuple(json.loads(record["codes"]))), params)
