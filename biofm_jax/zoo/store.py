"""An imported model as a folder: parameters, record, tokenizer, and what an export gives back."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from safetensors.numpy import save

from biofm_jax import specs
from biofm_jax.array_types import PyTree
from biofm_jax.data.api import ExampleData
from biofm_jax.data.published_tokenizers import copy_tokenizer
from biofm_jax.errors import UserError
from biofm_jax.files import whole_folder, write_whole
from biofm_jax.models.spec import ModelSpec
from biofm_jax.zoo.config import PREPROCESSOR
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.importing import Plan, model_shapes
from biofm_jax.zoo.registry import FAMILIES
from biofm_jax.zoo.tensors import by_path
from biofm_jax.zoo.weights import Weights, open_weights

RECORD, PARAMS, TOKENIZER = "model.json", "params", "tokenizer"
LEFT_OUT = "left_out.safetensors"
FORMAT = "biofm_jax model 1"


@dataclasses.dataclass(frozen=True)
class Stored:
    """An imported model.

    Attributes:
        name: as it was imported.
        folder: where it lies.
        family: of the model.
        spec: the architecture.
        data: how texts or images become its input; None where its modality has no text pipeline
            here or the import came without the tokenizer's files.
        record: the whole content of `model.json`.
    """

    name: str
    folder: Path
    family: Family
    spec: ModelSpec
    data: ExampleData | None
    record: dict[str, Any]

    def params(self, shardings: PyTree | None = None) -> PyTree:
        """The parameters, float32.

        Args:
            shardings: tree of shardings; None: whole on the first device.

        Raises:
            UserError: they cannot be read.
        """
        shapes = model_shapes(self.spec)
        if shardings is None:
            one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
            shardings = jax.tree.map(lambda _: one, shapes)
        placed = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
                  for (name, leaf), sharding in zip(
                      _flat(shapes).items(), jax.tree.leaves(shardings), strict=True)}  # fmt: skip
        try:
            with _checkpointer() as checkpointer:
                leaves = checkpointer.restore(
                    (self.folder / PARAMS).absolute(),
                    args=ocp.args.PyTreeRestore(
                        placed, restore_args=ocp.checkpoint_utils.construct_restore_args(placed)
                    ),
                )
        except Exception as error:  # Orbax and TensorStore raise many kinds for a bad file
            raise UserError(
                f"{self.folder / PARAMS} cannot be read ({str(error).splitlines()[0][:200]}); "
                "import the model again"
            ) from error
        return jax.tree.unflatten(
            jax.tree.structure(shapes), [leaves[name] for name in _flat(shapes)]
        )

    def left_out(self) -> Weights | None:
        """Published tensors that are no weights of the language model; None: there are none."""
        path = self.folder / LEFT_OUT
        return open_weights(path) if path.is_file() else None


def is_stored(folder: Path) -> bool:
    """Whether a folder holds an imported model."""
    return (folder / RECORD).is_file()


def load_stored(folder: Path) -> Stored:
    """Read the record of an imported model; its parameters are read when asked for.

    Raises:
        UserError: no imported model, or one of another version of this package.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} holds no imported model: {error}") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise UserError(f"{path} is no record of an imported model ({FORMAT})")
    data = None if record["data"] is None else specs.decode(record["data"])
    if getattr(data, "tokenizer_path", ""):
        data = dataclasses.replace(data, tokenizer_path=str(folder / TOKENIZER))
    family, spec = FAMILIES[record["family"]], specs.decode(record["model"])
    return Stored(record["name"], folder, family, spec, data, record)


def store(
    out: Path,
    plan: Plan,
    weights: Weights,
    params: PyTree,
    *,
    data: ExampleData | None,
    facts: dict[str, Any],
    config: Path | None,
    tokenizer: Path | None,
) -> None:
    """Write an imported model whole, under a temporary name first.

    Args:
        out: the folder; it must not exist.
        plan: of the import.
        weights: the checkpoint.
        params: the parameters, on any devices.
        data: see `Stored`.
        facts: more of the record: name, licence, source, citation, versions.
        config: the published configuration; what it says of images may lie beside it.
        tokenizer: a folder with the published tokenizer's files.
    """
    record = facts | {
        "format": FORMAT,
        "family": plan.family.name,
        "model": specs.encode(plan.spec),
        "data": None if data is None else specs.encode(data),
        "tensors": {
            name: {
                "as": original,
                "dtype": weights.tensors[original].dtype,
                "file": weights.tensors[original].file.name,
            }
            for name, original in plan.kept().items()
        },
        "metadata": weights.metadata,
        "index": weights.index,
    }
    with whole_folder(out) as temporary:
        with _checkpointer() as checkpointer:
            checkpointer.save(
                (temporary / PARAMS).absolute(), args=ocp.args.PyTreeSave(_flat(params))
            )
        if plan.left_out:
            aside = {name: np.ascontiguousarray(weights.read(name)) for name in plan.left_out}
            write_whole(temporary / LEFT_OUT, save(aside))
        if config is not None:
            shutil.copyfile(config, temporary / plan.family.config)
            if (images := config.parent / PREPROCESSOR).is_file():
                shutil.copyfile(images, temporary / PREPROCESSOR)
        if tokenizer is not None:
            copy_tokenizer(tokenizer, temporary / TOKENIZER)
        write_whole(temporary / RECORD, json.dumps(record, indent=1) + "\n")


def _flat(tree: PyTree) -> dict[str, Any]:
    """Leaves by a name without slashes, as Orbax wants them."""
    return {path.replace("/", "."): leaf for path, leaf in by_path(tree).items()}


def _checkpointer() -> ocp.Checkpointer:
    # Trained floats hardly compress. One parameter at a time travels from the devices.
    handler = ocp.PyTreeCheckpointHandler(use_compression=False, save_concurrent_gb=1)
    return ocp.Checkpointer(handler)
