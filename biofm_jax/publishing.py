"""Published weights in and out: `biofm import` and `biofm export`."""

import dataclasses
import hashlib
import tempfile
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro

from biofm_jax.data.api import ExampleData
from biofm_jax.data.esmc_tokenizer import write_esmc_tokenizer
from biofm_jax.data.genome import GenomeData
from biofm_jax.data.imaging import ImageData
from biofm_jax.data.molecule import MoleculeData
from biofm_jax.data.molecule_conformer import ConformerData
from biofm_jax.data.notes import NotesData
from biofm_jax.data.progress import told
from biofm_jax.data.protein import ProteinData
from biofm_jax.data.published_tokenizers import FILES, load_tokenizer
from biofm_jax.data.sequence import SequenceData
from biofm_jax.data.tokenizers import Tokenizer
from biofm_jax.errors import UserError
from biofm_jax.evaluate.provenance import package_versions
from biofm_jax.experiment import load_encoder
from biofm_jax.files import require_new_folder
from biofm_jax.models.dual_encoder import DualEncoderSpec
from biofm_jax.models.pair_transformer import PairTransformerSpec
from biofm_jax.models.spec import ModelSpec
from biofm_jax.train.mesh import MeshSpec, parameter_shardings
from biofm_jax.zoo.config import read_config
from biofm_jax.zoo.exporting import (
    export_params,
    export_stored,
    require_layout,
    same_architecture,
)
from biofm_jax.zoo.family import Family, Published
from biofm_jax.zoo.importing import Plan, model_places, model_shapes, plan_import, read_params
from biofm_jax.zoo.registry import FAMILIES, PUBLISHED, layout_of, published
from biofm_jax.zoo.store import is_stored, load_stored, store
from biofm_jax.zoo.vision_layout import caption_data, image_data, with_preprocessor
from biofm_jax.zoo.weights import open_weights

# Modalities whose texts this package can read; models of others are imported without.
DATA: dict[str, type[SequenceData]] = {
    "protein": ProteinData,
    "molecule": MoleculeData,
    "genome": GenomeData,
    "notes": NotesData,
    "social": NotesData,
}


@dataclasses.dataclass(frozen=True)
class Import:
    """Read published weights, check every tensor, and write a model that the other verbs take.

    Attributes:
        name: of `biofm list models`, such as esm2_8m; or a family (esm, bert, gpt2, ...), whose
            size then is read from config.json (open_clip_config.json of BiomedCLIP).
        source: the published weights: a safetensors file, its index with the shards beside it, a
            torch file of tensors, or the folder with one of these, config.json and the
            tokenizer's files.
        out: folder of the model; it must not exist.
        tokenizer: folder with the tokenizer's files, where they are not beside the weights.
        modality: of a family's model: protein, molecule, genome or notes.
        mesh: the devices that the parameters are put on, piece by piece.
        dry_run: check everything, from the files' headers; write nothing.
        json: print JSON instead of a table.
    """

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")]
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    tokenizer: Path | None = None
    modality: str = "notes"
    mesh: MeshSpec = MeshSpec()
    dry_run: bool = False
    json: bool = False


def import_model(options: Import) -> dict[str, Any]:
    """Import a published model.

    Returns:
        What was found, for the table.

    Raises:
        UserError: an unknown name, files that are damaged or absent, a configuration of another
            model, or tensors that do not fit; nothing is written then.
    """
    require_new_folder(options.out)
    with tempfile.TemporaryDirectory() as made:
        return _import(options, Path(made))


def _import(options: Import, made: Path) -> dict[str, Any]:
    """`import_model`; into the folder `made` goes the tokenizer of a family that has no files."""
    folder = options.source if options.source.is_dir() else options.source.parent
    entry = None if options.name in FAMILIES else published(options.name)
    family = FAMILIES[options.name] if entry is None else entry.family
    config = folder / family.config if (folder / family.config).is_file() else None
    weights = open_weights(options.source)
    spec = _spec(options, family, entry, config)
    family = layout_of(weights.tensors, family, spec)
    plan = plan_import(weights, family, spec)
    if config is not None and plan.spec.head is None and spec.head is not None:
        _demand_no_head(config, family)
    tokenizer_folder = options.tokenizer or (folder if _has_tokenizer(folder) else None)
    if tokenizer_folder is None and family.name.startswith("esmc"):
        write_esmc_tokenizer(made)
        tokenizer_folder = made
    data, tokenizer = _data(entry, options.modality, tokenizer_folder, plan)
    towers = isinstance(plan.spec, DualEncoderSpec)
    if tokenizer is not None and not family.mean_of_all and not towers:
        plan = dataclasses.replace(plan, spec=pooled_as_published(plan.spec, tokenizer, folder))
    wide = sum(weights.tensors[plan.names[p.name]].dtype == "float64" for p in plan.places)
    row = {
        "model": options.name,
        "tensors": len(plan.places),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(plan.shapes)),
        **_head(plan.spec, data),
        "left out": _listed(plan.left_out) or "nothing",
        **({"not read": f"{plan.ignored} tensors of other parts"} if plan.ignored else {}),
        **({"rounded": f"{wide} float64 tensors, to float32"} if wide else {}),
        **_reads(
            data, None if tokenizer_folder == made else tokenizer_folder, tokenizer, plan.spec
        ),
        "licence": "as its source says" if entry is None else entry.licence,
        "out": "(dry run)" if options.dry_run else str(options.out),
    }
    if options.dry_run:
        return row
    mesh = options.mesh.build()
    shardings = parameter_shardings(mesh, plan.spec.build().axes(plan.shapes), plan.shapes)
    with told(len(plan.places), "tensors") as advance:
        params = read_params(weights, plan, shardings, advance)
    files = {header.file for header in weights.tensors.values()}
    facts = {
        "name": options.name,
        "licence": row["licence"],
        "source": "" if entry is None else entry.source,
        "citation": "" if entry is None else entry.citation,
        "sha256": {file.name: _sha256(file) for file in sorted(files)},
        "versions": package_versions(),
    }
    store(options.out, plan, weights, params, data=data, facts=facts, config=config,
          tokenizer=tokenizer_folder)  # fmt: skip
    return row


def _spec(
    options: Import, family: Family, entry: Published | None, config: Path | None
) -> ModelSpec:
    """The architecture asked for, held against the configuration that is there."""
    if config is None:
        if entry is None:
            raise UserError(
                f"a model of the family {family.name} needs its {family.config} beside the "
                "weights; or name a published model"
            )
        return entry.spec
    content = with_preprocessor(read_config(config), config.parent)
    if entry is not None:  # what neither file says
        known = {name: entry.config[name] for name in IMAGE_FIELDS if name in entry.config}
        content = known | content
        if args := entry.config.get("model_args"):  # timm's, in part of its caller
            content["model_args"] = args | content.get("model_args", {})
    wanted = family.model_type or family.name
    if (kind := content.get("model_type", wanted)) != wanted:
        raise UserError(f"{config} is of a model of {kind!r}, and {options.name} is {wanted}")
    try:
        found = family.spec_of(content)
        model_shapes(found)
    except UserError:
        raise
    except KeyError as missing:
        raise UserError(f"{config} has no field {missing}, which {family.name} needs") from None
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise UserError(
            f"{config}: a field holds what a configuration of {family.name} cannot ({error})"
        ) from None
    if entry is not None and (differ := same_architecture(entry.spec, found)):
        raise UserError(
            f"{config} describes another model than {options.name} ({'; '.join(differ)}: the "
            f"first is {options.name}'s); import it as its own name or as `{family.name}`"
        )
    return found


# Of a preprocessing of images, which may lie beside the weights or not.
IMAGE_FIELDS = ("image_mean", "image_std", "crop_size", "pooling", "add_pooling_layer")

# Ends of the names of transformers' classes that have a head of words or of classes.
WITH_HEAD = ("ForMaskedLM", "ForCausalLM", "LMHeadModel", "ForConditionalGeneration",
             "ForImageClassification")  # fmt: skip


def _demand_no_head(config: Path, family: Family) -> None:
    """Refuse a checkpoint whose head is lost."""
    said = [str(name) for name in read_config(config).get("architectures") or ()]
    if with_head := [name for name in said if name.endswith(WITH_HEAD)]:
        raise UserError(
            f"{config} says {', '.join(with_head)}, and the checkpoint has no tensor of its "
            f"head ({', '.join(family.head)}*): it is not whole, or the body alone; for "
            'the body alone, take "architectures" out of the configuration'
        )


def _listed(names: list[str], shown: int = 6) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in FILES)


def _data(
    entry: Published | None, modality: str, folder: Path | None, plan: Plan
) -> tuple[ExampleData | None, Tokenizer | None]:
    """How texts or images become the model's input, if that can be known."""
    modality, spec = modality if entry is None else entry.modality, plan.spec
    if (images := image_data(spec, plan.family.cropped)) is not None:
        if folder is None or not isinstance(spec, DualEncoderSpec):
            return images, None
        tokenizer = _tokenizer(folder, spec.second.vocabulary)
        if tokenizer.vocabulary.size != spec.second.vocabulary:
            raise _strangers(folder, tokenizer, spec.second.vocabulary)
        return caption_data(images, spec, folder), tokenizer
    known = {*DATA, *(model.modality for model in PUBLISHED.values())}
    if modality not in known:
        raise UserError(f"--modality is {modality!r}; known are {', '.join(sorted(known))}")
    kind = ConformerData if isinstance(spec, PairTransformerSpec) else DATA.get(modality)
    if kind is None:
        return None, None
    longest = getattr(spec.positions, "maximum", 1 << 20)
    room = min(longest, 1024 if entry is None else entry.tokens)
    data = kind(max_tokens=room)
    if folder is not None:
        tokenizer = _tokenizer(folder, spec.vocabulary)
        return dataclasses.replace(data, tokenizer_path=str(folder)), tokenizer
    own = data.own_tokenizer()
    # Without its files a tokenizer is known only where it is this package's own as well.
    return (data, own) if own.vocabulary.size == spec.vocabulary else (None, None)


def _tokenizer(folder: Path, vocabulary: int) -> Tokenizer:
    """The tokenizer of a folder; refuses one of more tokens than the model has."""
    tokenizer = load_tokenizer(folder)
    if tokenizer.vocabulary.size > vocabulary:
        raise _strangers(folder, tokenizer, vocabulary)
    return tokenizer


def _strangers(folder: Path, tokenizer: Tokenizer, vocabulary: int) -> UserError:
    return UserError(
        f"the tokenizer in {folder} has {tokenizer.vocabulary.size} tokens, and the model "
        f"{vocabulary}: they do not belong together"
    )


def pooled_as_published(spec: ModelSpec, tokenizer: Tokenizer, folder: Path) -> ModelSpec:
    """The spec with the pooling of the published model.

    A mean leaves the vocabulary's special tokens out, but in a model of sentence-transformers
    (`1_Pooling/config.json`), whose mean is over all tokens of a text.

    Args:
        spec: of the model.
        tokenizer: of the model.
        folder: of the published files.

    Raises:
        UserError: a pooling that is neither the mean nor the first token.
    """
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        special = tuple(i for i in tokenizer.vocabulary.special if i < spec.vocabulary)
        return spec.replaced(special=special)
    modes = {name.removeprefix("pooling_mode_") for name, on in read_config(path).items()
             if name.startswith("pooling_mode_") and on}  # fmt: skip
    known = {"mean_tokens": "mean", "cls_token": "first"}
    if len(modes) != 1 or not modes <= known.keys():
        raise UserError(f"{path}: pooling by {' and '.join(sorted(modes))} is not known here")
    return spec.replaced(pooling=known[modes.pop()], special=())


def _head(spec: ModelSpec, data: ExampleData | None) -> dict[str, str]:
    if isinstance(data, ImageData):
        return {"head": "none" if spec.head is None else type(spec.head).__name__}
    return {"language head": "none in the checkpoint" if spec.head is None else "yes"}


def _reads(
    data: ExampleData | None, folder: Path | None, tokenizer: Tokenizer | None, spec: ModelSpec
) -> dict[str, str]:
    if isinstance(data, ImageData):
        size = " x ".join(map(str, data.image))
        found = {"images": f"{size} pixels, {data.channels} channels, {data.fit}"}
        if not isinstance(spec, DualEncoderSpec):
            return found
        if tokenizer is None:
            return found | {"tokenizer": "none: give --tokenizer FOLDER to read texts, too"}
        return found | {"tokenizer": _says(folder, tokenizer, spec.second)}
    return {"tokenizer": _says(folder, tokenizer, spec)}


def _says(folder: Path | None, tokenizer: Tokenizer | None, spec: ModelSpec) -> str:
    if tokenizer is None:
        return "none: give --tokenizer FOLDER to embed, score or generate"
    size = tokenizer.vocabulary.size
    where = "this package's own" if folder is None else str(folder)
    padded = f", of {spec.vocabulary} rows" if spec.vocabulary != size else ""
    return f"{where}, {size} tokens{padded}"


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a model in the layout in which it is published, for other software.

    Attributes:
        model: folder of an import, or of a run with --family.
        out: folder of the files; it must not exist.
        family: whose layout a model that was trained here gets, such as esm or gpt2.
        json: print JSON instead of a table.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    family: str = ""
    json: bool = False


def export_model(options: Export) -> list[dict[str, Any]]:
    """Export a model.

    Returns:
        The files and their sizes, for the table.

    Raises:
        UserError: no such model, a family that cannot hold it, or `out` exists.
    """
    require_new_folder(options.out)
    if is_stored(Path(options.model)):
        stored = load_stored(Path(options.model))
        with told(len(stored.record["tensors"]), "tensors") as advance:
            files = export_stored(stored, options.out, advance)
    else:
        if options.family not in FAMILIES:
            raise UserError(
                f"{options.model} is no imported model, and of a run --family names the layout: "
                f"it is {options.family!r}; known are {', '.join(FAMILIES)}"
            )
        encoder, family = load_encoder(options.model), FAMILIES[options.family]
        require_layout(family, encoder.spec)
        with told(len(model_places(family, encoder.spec)), "tensors") as advance:
            params = encoder.params_for(0)
            files = export_params(params, family, encoder.spec, options.out, advance)
    return [{"file": str(file), "bytes": file.stat().st_size} for file in files]


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
