"""Ways in which a checkpoint could be read wrongly without a word; each is refused."""

import ml_dtypes
import numpy as np
import pytest
import torch
from published_examples import CONFIGS, spec_of, tensors_of

from biofm_jax.errors import UserError
from biofm_jax.zoo.esmc import ESMC, ESMC_RELEASED
from biofm_jax.zoo.family import canonical_names
from biofm_jax.zoo.importing import model_places, params_of, plan_import, read_params
from biofm_jax.zoo.registry import layout_of
from biofm_jax.zoo.weights import InMemory, open_weights

NORM = "bert.encoder.layer.0.output.LayerNorm"
WEIGHT = "bert.encoder.layer.1.intermediate.dense.weight"


def given(tensors):
    return params_of(tensors, CONFIGS["bert"][0], spec_of("bert"))


@pytest.mark.parametrize("twice", [f"{NORM}.gamma", f"module.{NORM}.weight"])
def test_two_names_of_one_tensor(twice):
    tensors = tensors_of("bert")
    tensors[twice] = tensors[f"{NORM}.weight"] + 1
    with pytest.raises(UserError, match=rf"{twice} and {NORM}\.weight|\.weight and {twice}"):
        given(tensors)


def test_the_same_in_a_body_alone():
    with pytest.raises(UserError, match="are the same tensor"):
        canonical_names(["x.weight", "_orig_mod.x.weight"], CONFIGS["bert"][0])


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_integers_are_no_weights(dtype):
    tensors = tensors_of("bert")
    tensors[WEIGHT] = np.ones(tensors[WEIGHT].shape, dtype)
    with pytest.raises(UserError, match=f"{WEIGHT} is of type {np.dtype(dtype).name}"):
        given(tensors)


@pytest.mark.parametrize("dtype, value", [
    (np.float32, np.nan), (np.float32, np.inf), (np.float16, np.inf),
    (ml_dtypes.bfloat16, np.nan), (np.float64, 1e300),
])  # fmt: skip
def test_numbers_that_are_none_in_float32(dtype, value):
    tensors = tensors_of("bert")
    tensors[WEIGHT] = tensors[WEIGHT].astype(dtype)
    tensors[WEIGHT][3, 5] = value
    with pytest.raises(UserError, match=f"{WEIGHT} holds numbers that are not finite"):
        given(tensors)


def test_float64_is_rounded_to_float32():
    tensors = tensors_of("bert")
    wide = {name: array.astype(np.float64) + 1e-12 for name, array in tensors.items()}
    got = given(wide)["blocks"]["feedforward"]["up"]["kernel"][1]
    np.testing.assert_array_equal(got, wide[WEIGHT].T.astype(np.float32))


def test_a_vector_is_no_scalar_and_a_matrix_no_transpose():
    for spoilt in (np.float32(1), np.ones((1, 24), np.float32)):
        tensors = tensors_of("bert") | {"bert.encoder.layer.0.intermediate.dense.bias": spoilt}
        with pytest.raises(UserError, match="has shape"):
            given(tensors)
    tensors = tensors_of("bert")
    tensors[WEIGHT] = tensors[WEIGHT].T
    with pytest.raises(UserError, match="has shape"):
        given(tensors)


def test_endings_of_old_norms_elsewhere_are_unused():
    tensors = tensors_of("bert") | {"bert.encoder.layer.0.scale.gamma": np.ones(16, np.float32)}
    with pytest.raises(UserError, match=r"unused: bert\.encoder\.layer\.0\.scale\.gamma"):
        given(tensors)


def test_a_bias_that_is_left_out_only_where_it_is_not_used():
    """`cls.predictions.bias` of an untied decoder goes unused; of a tied one it is a weight."""
    family, _ = CONFIGS["bert"]
    tied = plan_import(InMemory(tensors_of("bert")), family, spec_of("bert"))
    assert not tied.left_out
    changes = {"tie_word_embeddings": False}
    tensors = tensors_of("bert", **changes) | {"cls.predictions.bias": np.ones(30, np.float32)}
    plan = plan_import(InMemory(tensors), family, spec_of("bert", **changes))
    assert plan.left_out == ["cls.predictions.bias"]
    bias = read_params(InMemory(tensors), plan)["head"]["bias"]
    np.testing.assert_array_equal(bias, tensors["cls.predictions.decoder.bias"])


def test_layouts_are_told_through_wrappers():
    config = dict(vocab_size=33, num_hidden_layers=2, hidden_size=16, num_attention_heads=2,
                  intermediate_size=24, hidden_act="silu")  # fmt: skip
    spec = ESMC.spec_of(config)
    names = [f"module.{place.name}" for place in model_places(ESMC_RELEASED, spec)]
    assert layout_of(names, ESMC, spec) is ESMC_RELEASED


def test_parameters_in_a_torch_file(tmp_path):
    """What `named_parameters` gives wants gradients, which NumPy arrays do not have."""
    state = {"a": torch.nn.Parameter(torch.ones(2)), 3: torch.ones(1)}
    torch.save({"a": state["a"]}, tmp_path / "good.bin")
    np.testing.assert_array_equal(open_weights(tmp_path / "good.bin").read("a"), np.ones(2))
    torch.save(state, tmp_path / "bad.bin")
    with pytest.raises(UserError, match="no tensors by name"):
        open_weights(tmp_path / "bad.bin")


def test_an_index_of_numbers(tmp_path):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text('{"weight_map": {"a": 1}}')
    with pytest.raises(UserError, match="no index of shards"):
        open_weights(path)
