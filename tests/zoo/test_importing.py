import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published_examples import CONFIGS, HALVES, spec_of, tensors_of

from biofm_jax.errors import UserError
from biofm_jax.parity.rows import padded_batch
from biofm_jax.train.mesh import MeshSpec, parameter_shardings
from biofm_jax.zoo.esmc import ESMC, ESMC_BIOHUB, ESMC_RELEASED
from biofm_jax.zoo.exporting import published_tensors
from biofm_jax.zoo.importing import model_places, params_of, plan_import, read_params
from biofm_jax.zoo.registry import layout_of
from biofm_jax.zoo.tensors import by_path
from biofm_jax.zoo.weights import InMemory


def given(name, tensors, **changes):
    family, _ = CONFIGS[name]
    return params_of(tensors, family, spec_of(name, **changes))


@pytest.mark.parametrize("name", CONFIGS)
def test_export_of_an_import_gives_every_tensor_back(name):
    tensors = tensors_of(name)
    family, _ = CONFIGS[name]
    again = dict(published_tensors(given(name, tensors), family, spec_of(name)))
    assert set(again) == set(tensors)
    for key, array in tensors.items():
        np.testing.assert_array_equal(again[key], array)


NAME = "esm.encoder.layer.1.output.dense.bias"


@pytest.mark.parametrize("spoil, said", [
    (lambda t: t.pop(NAME), f"missing: {NAME}"),
    (lambda t: t.update({NAME.replace("1", "2"): t[NAME]}), f"unused: {NAME.replace('1', '2')}"),
    (lambda t: t.update({NAME: t[NAME][:-1]}), f"{NAME} has shape"),
    (lambda t: t.update({"lm_head.decoder.weight": t["esm.embeddings.word_embeddings.weight"] + 1}),
     "lm_head.decoder.weight differs"),
])  # fmt: skip
def test_what_does_not_fit_is_listed_and_refused(spoil, said):
    tensors = tensors_of("esm")
    spoil(tensors)
    with pytest.raises(UserError, match=said.replace(".", r"\.")):
        given("esm", tensors)


def test_all_that_is_wrong_is_told_at_once():
    tensors = tensors_of("esm")
    del tensors[NAME]
    tensors["more"] = np.ones(3, np.float32)
    with pytest.raises(UserError) as told:
        given("esm", tensors)
    assert NAME in str(told.value) and "unused: more" in str(told.value)


def test_another_family_is_refused():
    with pytest.raises(UserError, match="do not fit bert"):
        params_of(tensors_of("esm"), CONFIGS["bert"][0], spec_of("bert"))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_are_taken_off(prefix):
    tensors = tensors_of("bert")
    wrapped = {prefix + name: array for name, array in tensors.items()}
    equal(given("bert", wrapped), given("bert", tensors))


def test_names_of_tensorflow_are_read():
    tensors = tensors_of("bert")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): array
        for name, array in tensors.items()
    }
    assert old.keys() != tensors.keys()
    equal(given("bert", old), given("bert", tensors))


def test_a_body_alone_has_no_head():
    tensors = tensors_of("bert")
    body = {name.removeprefix("bert."): array for name, array in tensors.items()
            if name.startswith("bert.")}  # fmt: skip
    family, _ = CONFIGS["bert"]
    plan = plan_import(InMemory(body), family, spec_of("bert"))
    assert plan.spec.head is None
    whole = given("bert", tensors)
    del whole["head"]
    equal(read_params(InMemory(body), plan), whole)


def test_the_layout_is_told_by_the_names():
    config = dict(vocab_size=33, num_hidden_layers=2, hidden_size=16, num_attention_heads=2,
                  intermediate_size=24, hidden_act="silu")  # fmt: skip
    spec = ESMC.spec_of(config)
    for family in (ESMC, ESMC_RELEASED, ESMC_BIOHUB):
        names = [place.name for place in model_places(family, spec)]
        assert layout_of(names, ESMC, spec) is family
    assert layout_of(["nothing of it"], ESMC, spec) is ESMC


def test_half_a_head_is_refused():
    tensors = tensors_of("bert")
    del tensors["cls.predictions.bias"]
    with pytest.raises(UserError, match=r"missing: cls\.predictions\.bias"):
        given("bert", tensors)


def test_poolers_are_left_out_by_name():
    tensors = tensors_of("bert") | {
        "bert.pooler.dense.weight": np.ones((16, 16), np.float32),
        "cls.seq_relationship.bias": np.ones(2, np.float32),
    }
    plan = plan_import(InMemory(tensors), CONFIGS["bert"][0], spec_of("bert"))
    assert plan.left_out == ["bert.pooler.dense.weight", "cls.seq_relationship.bias"]


@pytest.mark.parametrize("name", HALVES)
def test_half_precision_becomes_the_same_float32(name):
    halves = tensors_of("esm", HALVES[name])
    full = {key: array.astype(np.float32) for key, array in halves.items()}
    equal(given("esm", halves), given("esm", full))


def test_tied_copies_may_stand_twice():
    tensors = tensors_of("bert")
    table = tensors["bert.embeddings.word_embeddings.weight"]
    doubled = tensors | {"cls.predictions.decoder.weight": table.copy()}
    equal(given("bert", doubled), given("bert", tensors))


def test_an_untied_head_has_its_own_weights():
    tensors = tensors_of("bert", tie_word_embeddings=False)
    params = given("bert", tensors, tie_word_embeddings=False)
    head = params["head"]["tokens"]
    np.testing.assert_array_equal(head, tensors["cls.predictions.decoder.weight"])
    assert not np.array_equal(head, params["embed"]["tokens"])


@pytest.mark.parametrize("mesh", [MeshSpec(data=2, fsdp=2, tensor=2), MeshSpec(fsdp=8, data=1)])
def test_pieces_put_on_a_mesh_are_the_same_parameters(mesh):
    tensors = tensors_of("esm", num_attention_heads=4)
    family, weights = CONFIGS["esm"][0], InMemory(tensors)
    plan = plan_import(weights, family, spec_of("esm", num_attention_heads=4))
    axes = plan.spec.build().axes(plan.shapes)
    shardings = parameter_shardings(mesh.build(), axes, plan.shapes)
    counted = []
    params = read_params(weights, plan, shardings, counted.append)
    assert sum(counted) == len(plan.places)
    jax.tree.map(lambda leaf, sharding: leaf.sharding == sharding or pytest.fail(str(sharding)),
                 params, shardings)  # fmt: skip
    equal(jax.device_get(params), read_params(weights, plan))


def test_rounded_frequencies_are_recognised():
    spec = spec_of("esm")
    exact = 1.0 / 10_000.0 ** (np.arange(0, 8, 2, dtype=np.float32) / 8)
    name = "esm.encoder.layer.0.attention.self.rotary_embeddings.inv_freq"
    family = CONFIGS["esm"][0]

    def planned(frequencies):
        return plan_import(InMemory(tensors_of("esm") | {name: frequencies}), family, spec).spec

    assert planned(exact) == spec
    rounded = planned(exact.astype(np.float16).astype(np.float32))
    assert rounded.positions == dataclasses.replace(spec.positions, rounded="float16")
    with pytest.raises(UserError, match="frequencies"):
        planned(exact * 1.1)
    tokens = np.random.default_rng(0).integers(6, 30, (1, 400)).astype(np.int32)
    params = given("esm", tensors_of("esm"))
    outputs = [s.build().apply(params, padded_batch(tokens)).logits for s in (spec, rounded)]
    assert float(jnp.abs(outputs[0] - outputs[1]).max()) > 1e-4


def equal(ours, theirs):
    ours, theirs = by_path(ours), by_path(theirs)
    assert ours.keys() == theirs.keys()
    for path, array in ours.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, theirs[path])
