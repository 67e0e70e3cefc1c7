"""The table of published models against the reference implementation's own models."""

import math

import jax
import pytest
import torch
import transformers

from biofm_jax.errors import UserError
from biofm_jax.models.api import BUFFER
from biofm_jax.parity.biomedclip import BiomedClip
from biofm_jax.parity.ethos import Ethos
from biofm_jax.parity.molformer import Molformer
from biofm_jax.parity.molgpt import MolGpt
from biofm_jax.parity.openai_clip import OpenaiClip
from biofm_jax.parity.timm_vit import TimmVit
from biofm_jax.parity.unimol import UniMol
from biofm_jax.zoo.esm import ESM2
from biofm_jax.zoo.exporting import same_architecture
from biofm_jax.zoo.importing import model_places, model_shapes
from biofm_jax.zoo.registry import FAMILIES, PUBLISHED, published
from biofm_jax.zoo.tensors import by_path

CLASSES = {
    "esm": ("EsmConfig", "EsmForMaskedLM"),
    "esmc": ("EsmcConfig", "EsmcForMaskedLM"),
    "bert": ("BertConfig", "BertForMaskedLM"),
    "roberta": ("RobertaConfig", "RobertaForMaskedLM"),
    "megatron-bert": ("MegatronBertConfig", "MegatronBertForMaskedLM"),
    "modernbert": ("ModernBertConfig", "ModernBertForMaskedLM"),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel"),
    "progen": ("GPTJConfig", "GPTJForCausalLM"),  # whose qkv is in three, of the same size
    "biogpt": ("BioGptConfig", "BioGptForCausalLM"),
    "llama": ("LlamaConfig", "LlamaForCausalLM"),
    "mistral": ("MistralConfig", "MistralForCausalLM"),
    "t5": ("T5Config", "T5ForConditionalGeneration"),
    "t5_encoder": ("T5Config", "T5EncoderModel"),
    "vit": ("ViTConfig", "ViTModel"),
    "vit_mae": ("ViTMAEConfig", "ViTMAEForPreTraining"),
    "dinov2": ("Dinov2Config", "Dinov2Model"),
    "dinov2_with_registers": ("Dinov2WithRegistersConfig", "Dinov2WithRegistersModel"),
    "clip": ("CLIPConfig", "CLIPModel"),
    "siglip": ("SiglipConfig", "SiglipModel"),
}
OURS = ("architectures", "add_pooling_layer", "image_mean", "image_std")  # no fields of the classes


def _written(kind, *names):
    """A reference that is written out, from the fields of a configuration."""
    return lambda config: kind(*(config[name] for name in names))


GPT = ("vocab_size", "n_layer", "n_embd", "n_head")
MOLFORMER = ("vocab_size", "num_hidden_layers", "hidden_size", "num_attention_heads",
             "intermediate_size", "num_random_features")  # fmt: skip
UNIMOL = ("vocab_size", "encoder_layers", "encoder_embed_dim", "encoder_attention_heads",
          "encoder_ffn_embed_dim", "kernels")  # fmt: skip
WRITTEN = {
    "molformer": _written(Molformer, *MOLFORMER),
    "molgpt": _written(MolGpt, *GPT, "block_size"),
    "ethos": _written(Ethos, *GPT, "bias", "block_size"),
    "unimol": _written(UniMol, *UNIMOL),
    "timm_vit": TimmVit,
    "openai_clip": OpenaiClip,
    "biomedclip": BiomedClip,
}


def theirs(model):
    """The reference's own model, without memory."""
    with torch.device("meta"):
        if model.family.name in WRITTEN:
            return WRITTEN[model.family.name](model.config)
        config, kind = CLASSES[model.family.name]
        kind = getattr(transformers, model.config.get("architectures", [kind])[0])
        config = getattr(transformers, config)
        fields = {name: value for name, value in model.config.items() if name not in OURS}
        if not model.config.get("add_pooling_layer", True):
            return kind(config(**fields), add_pooling_layer=False)
        if model.family.name == "modernbert":
            fields = {name: value for name, value in fields.items() if "theta" not in name}
        return kind(config(**fields))


def ours(model) -> int:
    spec = model.spec
    shapes = model_shapes(spec)
    trained = jax.tree.map(
        lambda leaf, names: 0 if BUFFER in names else math.prod(leaf.shape),
        shapes,
        spec.build().axes(shapes),
    )
    count = sum(jax.tree.leaves(trained))
    # A norm that lies unused.
    return count if getattr(spec, "first_norm", True) else count - spec.width


@pytest.mark.parametrize("model", PUBLISHED.values(), ids=lambda model: model.name)
def test_parameter_counts(model):
    assert ours(model) == model.parameters
    aside = {"contact_head", "predictions.decoder.bias"}
    parameters = theirs(model).named_parameters()
    counted = [p.numel() for name, p in parameters
               if p.requires_grad and not any(a in name for a in aside)]  # fmt: skip
    assert sum(counted) == model.parameters


@pytest.mark.parametrize("model", PUBLISHED.values(), ids=lambda model: model.name)
def test_every_number_has_one_place(model):
    spec = model.spec
    shapes = by_path(model_shapes(spec))
    filled = dict.fromkeys(shapes, 0)
    names = set()
    for place in model_places(model.family, spec):
        filled[place.path] += math.prod(place.shape)
        assert place.name not in names
        names.add(place.name)
    if not getattr(spec, "first_norm", True):
        filled["blocks/attention_norm/scale"] += spec.width
    assert filled == {path: math.prod(leaf.shape) for path, leaf in shapes.items()}


@pytest.mark.parametrize("model", PUBLISHED.values(), ids=lambda model: model.name)
def test_a_configuration_written_is_read_the_same(model):
    family, spec = model.family, model.spec
    assert family.spec_of(family.config_of(spec)) == spec


@pytest.mark.parametrize("size", ESM2)
def test_experiments_have_the_published_shapes(size):
    assert not same_architecture(ESM2[size], published(f"esm2_{size.lower()}").spec)
    assert same_architecture(ESM2[size], published("esm1b").spec)


def test_names_and_facts():
    layouts = {"gptj", "esmc-released", "esmc-biohub", "vit_mae_encoder"}
    assert set(CLASSES) | set(WRITTEN) | layouts == set(FAMILIES)
    for model in PUBLISHED.values():
        assert model.source and model.licence and model.citation and model.tokens > 0
    with pytest.raises(UserError, match="esm2_8m"):
        published("esm2_8M")


def with_field(config: dict, field: str, value) -> dict:
    """The configuration with a field changed, in that of each tower where there are two."""
    towers = {part: config[part] | {field: value}
              for part in ("vision_config", "text_config") if part in config}  # fmt: skip
    return config | (towers or {field: value})


@pytest.mark.parametrize("name", CLASSES)
def test_unknown_values_of_a_configuration_are_refused(name):
    family = FAMILIES[name]
    config = next(m.config for m in PUBLISHED.values() if m.family is family)
    names = {"hidden_act", "hidden_activation", "activation_function", "feed_forward_proj"}
    fields = names & config.keys()
    for field in fields or {"hidden_act"}:
        with pytest.raises(UserError, match="mish"):
            family.spec_of(with_field(config, field, "mish"))
    with pytest.raises(KeyError):
        family.spec_of({})
