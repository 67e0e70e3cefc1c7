"""Parameters back to published files: the inverse of an import, to the last bit."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (NumPy then knows bfloat16 by name)
import numpy as np
from safetensors.numpy import save_file

from biofm_jax.array_types import PyTree
from biofm_jax.data.published_tokenizers import copy_tokenizer
from biofm_jax.errors import UserError
from biofm_jax.files import whole_folder, write_whole
from biofm_jax.models.dual_encoder import DualEncoderSpec
from biofm_jax.models.encoder_decoder import EncoderDecoderSpec
from biofm_jax.models.masked_autoencoder import MaskedAutoencoderSpec
from biofm_jax.models.spec import ModelSpec
from biofm_jax.zoo.config import PREPROCESSOR
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.importing import model_places
from biofm_jax.zoo.store import TOKENIZER, Stored
from biofm_jax.zoo.tensors import Place, by_path
from biofm_jax.zoo.weights import TORCH_ENDINGS

INDEX = "model.safetensors.index.json"


def published_tensors(
    params: PyTree, family: Family, spec: ModelSpec
) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor of the family's table, float32, one at a time; tied ones come once.

    Args:
        params: as the model's `init` makes them, on any devices.
        family: of the model.
        spec: its architecture.
    """
    leaves = by_path(params)
    for place in model_places(family, spec):
        yield place.name, published_tensor(leaves, place)


def published_tensor(leaves: dict[str, Any], place: Place) -> np.ndarray:
    """One tensor of the table, float32, from parameters by path."""
    piece = np.asarray(leaves[place.path][place.slices])
    return np.asarray(place.layout.to_published(piece), order="C")


def export_stored(stored: Stored, out: Path, advance: Callable[[int], None]) -> list[Path]:
    """Write an imported model as it was published: names, types, shards, configuration, tokenizer.

    Weights that came from torch files are written as safetensors of the same names.

    Args:
        stored: the model.
        out: the folder; it must not exist.
        advance: takes the number of tensors written since its last call.

    Returns:
        The files.
    """
    leaves = by_path(stored.params())
    at = {place.name: place for place in model_places(stored.family, stored.spec)}
    aside = stored.left_out()
    shards: dict[str, dict[str, tuple[str, str]]] = {}
    for name, facts in stored.record["tensors"].items():
        shard = shards.setdefault(_safe_name(facts["file"]), {})
        shard[facts["as"]] = name, facts["dtype"]

    def tensor(name: str, dtype: str) -> np.ndarray:
        advance(1)
        source = stored.family.copies.get(name, name) if name not in at else name
        if source not in at:
            return aside.read(name)
        return published_tensor(leaves, at[source]).astype(np.dtype(dtype))

    def fill(folder: Path) -> None:
        for file, wanted in shards.items():
            arrays = {original: tensor(*facts) for original, facts in wanted.items()}
            # That of a file with none stays away; a torch file gets that of transformers.
            metadata = stored.record["metadata"].get(file, {"format": "pt"}) or None
            save_file(arrays, folder / file, metadata=metadata)
        if (index := stored.record["index"]) is not None:
            write_whole(folder / index["name"], index["text"])
        elif len(shards) > 1:
            _write_index(folder, {n: file for file, names in shards.items() for n in names})
        config = stored.folder / stored.family.config
        if config.is_file():
            shutil.copyfile(config, folder / config.name)
        else:
            _write_config(folder, stored.family, stored.spec)
        if (images := stored.folder / PREPROCESSOR).is_file():
            shutil.copyfile(images, folder / PREPROCESSOR)
        if (stored.folder / TOKENIZER).is_dir():
            copy_tokenizer(stored.folder / TOKENIZER, folder)

    return _written(out, fill)


def export_params(
    params: PyTree, family: Family, spec: ModelSpec, out: Path, advance: Callable[[int], None]
) -> list[Path]:
    """Write a model that was trained here in the layout of a published family, float32.

    Args:
        params: its parameters.
        family: in whose layout.
        spec: its architecture.
        out: the folder; it must not exist.
        advance: as of `export_stored`.

    Returns:
        The files.

    Raises:
        UserError: as `require_layout`.
    """
    require_layout(family, spec)

    def fill(folder: Path) -> None:
        arrays = {}
        for name, array in published_tensors(params, family, spec):
            arrays[name] = array
            advance(1)
        save_file(arrays, folder / family.weights, metadata={"format": "pt"})
        _write_config(folder, family, spec)

    return _written(out, fill)


def require_layout(family: Family, spec: ModelSpec) -> None:
    """Refuse an architecture that a family's layout cannot hold.

    Raises:
        UserError: it cannot.
    """
    try:
        same = not same_architecture(family.spec_of(family.config_of(spec)), spec)
    except (AttributeError, KeyError, TypeError, StopIteration):
        same = False
    if not same:
        raise UserError(
            f"the layout of {family.name} cannot hold this architecture; another --family may"
        )


# What a `config.json` does not say, and what changes no output.
_FREE = ("special", "pooling", "dropout", "attention_dropout", "dtype", "backend", "scan", "remat",
         "init_std", "init_by_depth")  # fmt: skip


def _decisive(spec: ModelSpec) -> dict[str, Any]:
    """What decides a model's outputs, in one form however it was written."""
    stacks = ()
    if isinstance(spec, EncoderDecoderSpec):
        stacks = ("encoder", "decoder")
    elif isinstance(spec, DualEncoderSpec):
        stacks = ("first", "second")
    elif isinstance(spec, MaskedAutoencoderSpec):
        return _decisive(spec.encoder) | {"decoder": spec.decoder}
    if stacks:
        return {
            f"{name}.{field}": value
            for name in stacks
            for field, value in _decisive(getattr(spec, name)).items()
        }
    fields = {name: getattr(spec, name) for name in spec.__dataclass_fields__ if name not in _FREE}
    return fields | {
        "kv_heads": spec.key_heads,
        "head_width": spec.head_size,
        "feedforward": spec.hidden_width,
    }


def same_architecture(one: ModelSpec, other: ModelSpec) -> list[str]:
    """The fields in which two architectures differ, as `width: 320 and 480`; none if equal."""
    mine, yours = _decisive(one), _decisive(other)
    return [f"{name}: {mine[name]} and {yours[name]}" for name in mine if mine[name] != yours[name]]


def _written(out: Path, fill: Callable[[Path], None]) -> list[Path]:
    with whole_folder(out) as temporary:
        fill(temporary)
    return sorted(out.iterdir())


def _write_index(folder: Path, weight_map: dict[str, str]) -> None:
    size = sum((folder / file).stat().st_size for file in set(weight_map.values()))
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    write_whole(folder / INDEX, json.dumps(index, indent=2) + "\n")


def _write_config(folder: Path, family: Family, spec: ModelSpec) -> None:
    write_whole(folder / family.config, json.dumps(family.config_of(spec), indent=2) + "\n")


def _safe_name(file: str) -> str:
    """The name of the safetensors file that stands for a file of weights."""
    stem, ending = os.path.splitext(file)
    if ending not in TORCH_ENDINGS:
        return file
    return f"{stem.replace('pytorch_model', 'model')}.safetensors"
