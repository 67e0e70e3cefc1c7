"""The table of published models against the reference implementation's own models."""

import math

import jax
import pytest
import torch
import transformers

from biofm_jax.errors import UserError
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
}


def ours(model) -> int:
    spec = model.spec
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(model_shapes(spec)))
    # A norm that lies unused.
    return count if getattr(spec, "first_norm", True) else count - spec.width


@pytest.mark.parametrize("model", PUBLISHED.values(), ids=lambda model: model.name)
def test_parameter_counts(model):
    assert ours(model) == model.parameters
    config, kind = (getattr(transformers, name) for name in CLASSES[model.family.name])
    fields = {name: value for name, value in model.config.items()}
    if model.family.name == "modernbert":
        fields = {name: value for name, value in fields.items() if "theta" not in name}
    with torch.device("meta"):
        theirs = kind(config(**fields))
    aside = {"contact_head", "predictions.decoder.bias"}
    named = {name: p for name, p in theirs.named_parameters() if not any(a in name for a in aside)}
    assert sum(p.numel() for p in named.values()) == model.parameters


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


def test_names_and_facts():
    assert set(CLASSES) | {"gptj", "esmc-released"} == set(FAMILIES)
    for model in PUBLISHED.values():
        assert model.source and model.licence and model.citation and model.tokens > 0
    with pytest.raises(UserError, match="esm2_8m"):
        published("esm2_8M")


@pytest.mark.parametrize("name", CLASSES)
def test_unknown_values_of_a_configuration_are_refused(name):
    family = FAMILIES[name]
    config = next(m.config for m in PUBLISHED.values() if m.family is family)
    names = {"hidden_act", "hidden_activation", "activation_function", "feed_forward_proj"}
    fields = names & config.keys()
    for field in fields or {"hidden_act"}:
        with pytest.raises(UserError, match="mish"):
            family.spec_of(config | {field: "mish"})
    with pytest.raises(KeyError):
        family.spec_of({})
