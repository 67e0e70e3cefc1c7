import json

import jax
import numpy as np
import pytest
from lora_examples import LORA, SPEC, adapters, axes_of, outputs
from safetensors.numpy import load_file, save, save_file
from toy_batches import parameters

from biofm_jax.adapt.lora import with_adapters
from biofm_jax.adapt.lora_store import fingerprint, load_adapters, save_adapters
from biofm_jax.errors import UserError


@pytest.fixture
def stored(tmp_path):
    """A file of adapters, and the adapters."""
    path, trained = tmp_path / "run" / "adapters.safetensors", adapters(noise=0.1)
    save_adapters(path, trained, LORA, parameters(SPEC))
    return path, trained


def load(path, params=None):
    return load_adapters(path, parameters(SPEC) if params is None else params, axes_of())


def test_what_was_saved_is_loaded_bit_for_bit(stored):
    path, trained = stored
    found, lora = load(path)
    assert lora == LORA
    jax.tree.map(np.testing.assert_array_equal, found, trained)
    one, other = (
        outputs(with_adapters(parameters(SPEC), tree, LORA.scale)) for tree in (trained, found)
    )
    np.testing.assert_array_equal(one["logits"], other["logits"])


def test_a_file_holds_the_adapters_alone(stored):
    path, trained = stored
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(trained))
    assert size < path.stat().st_size < size + 4000
    assert list(path.parent.iterdir()) == [path]


def test_a_head_may_stand_beside_them(tmp_path):
    path, head = tmp_path / "a.safetensors", {"out": {"bias": np.ones(3, np.float32)}}
    params = {name: part for name, part in parameters(SPEC).items() if name != "head"}
    axes = {name: part for name, part in axes_of().items() if name != "head"}
    trained = {name: part for name, part in adapters(noise=0.1).items() if name != "head"}
    lora = LORA.__class__(2, 6.0, (r"attention/.*kernel$", r"feedforward/.*kernel$", "embed/tok"))
    save_adapters(path, trained | {"head": head}, lora, params)
    found, _ = load_adapters(path, params, axes)
    jax.tree.map(np.testing.assert_array_equal, found, trained | {"head": head})


def test_weights_that_differ_in_one_value_are_refused(stored):
    other = jax.tree.map(np.copy, parameters(SPEC))
    other["embed"]["tokens"][0, 0] += 1e-3
    assert fingerprint(other) != fingerprint(parameters(SPEC))
    with pytest.raises(UserError, match=r"adapters of the weights \w{16}, but these are \w{16}"):
        load(stored[0], other)


def test_a_cut_file_is_refused(stored):
    path, _ = stored
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load(path)


def test_a_foreign_file_and_none_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"x": np.zeros(2)}, path)
    with pytest.raises(UserError, match="holds no adapters"):
        load(path)
    with pytest.raises(UserError, match="does not exist"):
        load(tmp_path / "none.safetensors")


def test_missing_unused_and_misshaped_tensors_are_listed(stored):
    path, _ = stored
    tensors = load_file(path)
    record = {"format": "biofm_jax adapters 1", "base": fingerprint(parameters(SPEC))}
    record["lora"] = json.dumps({"rank": 2, "alpha": 6.0, "targets": LORA.targets})
    tensors.pop("embed/tokens/a")
    tensors["blocks/attention/qkv/kernel/b"] = np.zeros((1, 1), np.float32)
    tensors["blocks/attention/nowhere/a"] = np.zeros(1, np.float32)
    path.write_bytes(save(tensors, metadata=record))
    with pytest.raises(UserError) as error:
        load(path)
    for words in ("embed/tokens/a is missing", "qkv/kernel/b has shape", "nowhere/a is of no"):
        assert words in str(error.value)
