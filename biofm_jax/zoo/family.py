"""What a family of published models is: its architecture, its tensors, its configuration file."""

import dataclasses
import re
from collections.abc import Callable

from biofm_jax.errors import UserError
from biofm_jax.models.spec import ModelSpec
from biofm_jax.zoo.tensors import Tensor


def _as_it_is(spec: ModelSpec, matching: Callable[[str], list]) -> ModelSpec:
    """A spec that leaves nothing open."""
    return spec


@dataclasses.dataclass(frozen=True)
class Family:
    """Models whose checkpoints have one layout.

    Attributes:
        name: as typed, and the `model_type` of its `config.json`.
        tensors: spec -> the table of its published tensors.
        spec_of: the content of a `config.json` -> spec.
            Raises `KeyError` for a field that is missing and `UserError` for a value of the
            field that has no counterpart here.
        config_of: the inverse of `spec_of`.
        prefix: the beginning of the names of the body, which a checkpoint without a head leaves
            out ("bert.").
        head: the beginnings of the names of the language head's tensors; in a checkpoint of the
            body alone those that are not tied are all absent.
        copies: name of a tensor that may be saved twice -> name of the one it equals.
        left_out: patterns of tensors known to be no weights of the language model: tables that
            are computed, poolers, next-sentence and contact heads. They are kept beside the model.
        other_layouts: families of the same models under other names of tensors.
        settle: spec and a function of a pattern -> the tensors whose names match it; returns the
            spec with what the configuration leaves open and the tensors tell.
        ignored: patterns of tensors of parts that the family does not have, such as the decoder
            beside an encoder; they are neither read nor kept.
        mean_of_all: its published mean vector is over the tokens that frame a text, too.
        model_type: of its `config.json`, where it is not the name.
        config: the name of its configuration's file.
        weights: the name of the file of its weights, where they are in one.
        cropped: its images are cut to a square from the middle, as its authors do where pixels were
            not stretched in pretraining.
        reference: the implementation it is held to.
    """

    name: str
    tensors: Callable[[ModelSpec], list[Tensor]]
    spec_of: Callable[[dict], ModelSpec]
    config_of: Callable[[ModelSpec], dict]
    prefix: str
    head: tuple[str, ...]
    copies: dict[str, str] = dataclasses.field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    other_layouts: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    mean_of_all: bool = False
    model_type: str = ""
    config: str = "config.json"
    weights: str = "model.safetensors"
    cropped: bool = False
    settle: Callable[[ModelSpec, Callable[[str], list]], ModelSpec] = _as_it_is
    reference: str = ""

    def ignores(self, name: str) -> bool:
        """Whether a tensor belongs to a part that the family does not have."""
        return any(re.search(pattern, name) for pattern in self.ignored)

    def leaves_out(self, name: str) -> bool:
        """Whether a tensor is known to be no weight of the language model."""
        return any(re.search(pattern, name) for pattern in self.left_out)


# Names that a wrapper puts before all others: torch's DataParallel and compile.
WRAPPERS = ("module.", "_orig_mod.")
# The names of norms' parameters in checkpoints converted from TensorFlow.
OLD_ENDINGS = {"gamma": "weight", "beta": "bias"}
LAYER_SCALES = (".ls1", ".ls2")  # of timm, whose gamma is no norm's


def canonical_names(names: list[str], family: Family) -> dict[str, str]:
    """Name in the family's table -> name in the checkpoint.

    Wrappers' prefixes are taken off, TensorFlow's names of norms are translated, and the body's
    prefix is added where a checkpoint of the body alone lacks it.

    Raises:
        UserError: two names of the checkpoint are one in the table.
    """
    found: dict[str, str] = {}
    for name in names:
        plain = name
        while plain.startswith(WRAPPERS):
            plain = plain.split(".", 1)[1]
        start, _, end = plain.rpartition(".")
        if end in OLD_ENDINGS and not start.endswith(LAYER_SCALES):
            plain = f"{start}.{OLD_ENDINGS[end]}"
        if plain in found:
            raise UserError(
                f"{found[plain]} and {name} are the same tensor of {family.name}: the checkpoint "
                "mixes two files, or was saved with and without a wrapper"
            )
        found[plain] = name
    if family.prefix and not any(name.startswith(family.prefix) for name in found):
        found = {
            name if name.startswith(family.head) else family.prefix + name: original
            for name, original in found.items()
        }
    return found


@dataclasses.dataclass(frozen=True)
class Published:
    """One published model.

    Attributes:
        name: as typed.
        family: of the model.
        config: the fields of its `config.json` that decide the architecture.
        modality: of what it reads.
        tokens: of a row in pretraining.
        objective: it was pretrained with.
        source: where its weights are published, a model hub's name unless it says otherwise.
        licence: of the weights; "none stated" where their page names none.
        citation: of the paper.
        parameters: of the language model; contact heads, poolers and other tasks' heads apart.
    """

    name: str
    family: Family
    config: dict
    modality: str
    tokens: int
    objective: str
    source: str
    licence: str
    citation: str
    parameters: int

    @property
    def spec(self) -> ModelSpec:
        """The architecture."""
        return self.family.spec_of(self.config)
