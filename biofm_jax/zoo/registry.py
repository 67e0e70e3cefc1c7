"""The published models that can be imported by name: the table `published.json`.

Shapes are those of each model's `config.json` or of its published table; the parameter counts are
held to transformers' own models by a test. Licences are of the weights, as their page or the
authors' repository states them; "none stated" where it names none, "unverified: ..." where neither
was seen.
"""

import difflib
import json
from collections.abc import Iterable
from pathlib import Path

from biofm_jax.errors import UserError
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.zoo.bert import BERT, MEGATRON, ROBERTA
from biofm_jax.zoo.biogpt import BIOGPT
from biofm_jax.zoo.biomedclip import BIOMEDCLIP
from biofm_jax.zoo.clip import CLIP
from biofm_jax.zoo.dinov2 import DINOV2, DINOV2_REGISTERS
from biofm_jax.zoo.esm import ESM
from biofm_jax.zoo.esmc import ESMC, ESMC_BIOHUB, ESMC_RELEASED
from biofm_jax.zoo.ethos import ETHOS
from biofm_jax.zoo.family import Family, Published, canonical_names
from biofm_jax.zoo.gpt2 import GPT2
from biofm_jax.zoo.gptj import GPTJ, PROGEN2
from biofm_jax.zoo.importing import model_places
from biofm_jax.zoo.llama import LLAMA, MISTRAL
from biofm_jax.zoo.modernbert import MODERNBERT
from biofm_jax.zoo.molformer import MOLFORMER
from biofm_jax.zoo.molgpt import MOLGPT
from biofm_jax.zoo.openai_clip import OPENAI_CLIP
from biofm_jax.zoo.siglip import SIGLIP
from biofm_jax.zoo.t5 import T5, T5_ENCODER
from biofm_jax.zoo.timm_vit import TIMM_VIT
from biofm_jax.zoo.unimol import UNIMOL
from biofm_jax.zoo.vit import VIT, VIT_MAE, VIT_MAE_ENCODER

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (ESM, ESMC, ESMC_RELEASED, ESMC_BIOHUB, BERT, ROBERTA, MEGATRON, MODERNBERT, GPT2,
                   MOLFORMER, MOLGPT, ETHOS, GPTJ, PROGEN2, BIOGPT, LLAMA, MISTRAL, T5, T5_ENCODER,
                   UNIMOL, VIT, VIT_MAE, VIT_MAE_ENCODER, DINOV2, DINOV2_REGISTERS, CLIP,
                   OPENAI_CLIP, SIGLIP, BIOMEDCLIP, TIMM_VIT)
}  # fmt: skip


def _read() -> dict[str, Published]:
    rows = json.loads((Path(__file__).parent / "published.json").read_text())
    models = [Published(**row | {"family": FAMILIES[row["family"]]}) for row in rows]
    return {model.name: model for model in models}


def layout_of(names: Iterable[str], family: Family, spec: TransformerSpec) -> Family:
    """Of a family and its other layouts, the one that has most of a checkpoint's tensors."""
    names = list(names)

    def fits(candidate: Family) -> int:
        places = model_places(candidate, spec)
        return len(canonical_names(names, candidate).keys() & {place.name for place in places})

    # The first of equals: the family itself.
    return max([family, *(FAMILIES[name] for name in family.other_layouts)], key=fits)


PUBLISHED: dict[str, Published] = _read()


def published(name: str) -> Published:
    """A published model by its name.

    Raises:
        UserError: there is none of that name.
    """
    if name not in PUBLISHED:
        near = difflib.get_close_matches(name, [*PUBLISHED, *FAMILIES], 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"there is no published model {name!r}{hint}. See `biofm list models`")
    return PUBLISHED[name]
