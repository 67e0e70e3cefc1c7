import json
import os

import numpy as np
import pytest
import torch
from published_examples import HALVES
from safetensors.numpy import save_file

from biofm_jax.errors import UserError
from biofm_jax.zoo.weights import open_weights


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32)
            for name, shape in (("a", (3, 4)), ("b", (5,)), ("c", (2, 2)))}  # fmt: skip


def sharded(folder, arrays, **changes):
    """Two shards and their index."""
    files = {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}
    for file in set(files.values()):
        save_file({n: a for n, a in arrays.items() if files[n] == file}, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": files | changes}))
    return index


def same(weights, arrays):
    assert set(weights.tensors) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(weights.read(name), array)


def test_one_file_by_name_and_by_its_folder(tmp_path, arrays):
    save_file(arrays, tmp_path / "model.safetensors", metadata={"format": "pt"})
    for path in (tmp_path, tmp_path / "model.safetensors"):
        weights = open_weights(path)
        same(weights, arrays)
        assert weights.metadata == {"model.safetensors": {"format": "pt"}}


def test_shards_by_their_index(tmp_path, arrays):
    index = sharded(tmp_path, arrays)
    same(open_weights(index), arrays)
    same(open_weights(tmp_path), arrays)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"c": "three.safetensors"}, "three.safetensors"),
        ({"c": "one.safetensors"}, "c is not in one"),
        ({"d": "two.safetensors"}, "d is not in two"),
        ({"c": "../two.safetensors"}, "beside"),
    ],
)
def test_an_index_that_disagrees_with_its_shards(tmp_path, arrays, changes, said):
    with pytest.raises(UserError, match=said):
        open_weights(sharded(tmp_path, arrays, **changes))


def test_a_shard_with_more_than_the_index_names(tmp_path, arrays):
    index = sharded(tmp_path, arrays)
    save_file({"c": arrays["c"], "extra": arrays["b"]}, tmp_path / "two.safetensors")
    with pytest.raises(UserError, match="extra is in no"):
        open_weights(index)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": 3}', "no json"])
def test_an_index_that_is_none(tmp_path, content):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(content)
    with pytest.raises(UserError, match="no index of shards"):
        open_weights(path)


@pytest.mark.parametrize("kept", [0, 5, 60, -8])
def test_a_truncated_file(tmp_path, arrays, kept):
    path = tmp_path / "model.safetensors"
    save_file(arrays, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match="no whole safetensors file"):
        open_weights(path)


@pytest.mark.parametrize("name", HALVES)
def test_half_precision_is_kept(tmp_path, arrays, name):
    halves = {n: a.astype(HALVES[name]) for n, a in arrays.items()}
    save_file(halves, tmp_path / "model.safetensors")
    torch.save({n: torch.from_numpy(a).to(getattr(torch, name)) for n, a in arrays.items()},
               tmp_path / "model.bin")  # fmt: skip
    for file in ("model.safetensors", "model.bin"):
        weights = open_weights(tmp_path / file)
        assert {stored.dtype for stored in weights.tensors.values()} == {name}
        for key, half in halves.items():
            np.testing.assert_array_equal(weights.read(key), half)


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_torch_files_of_both_formats(tmp_path, arrays, new, wrapped):
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    path = tmp_path / "pytorch_model.bin"
    torch.save(
        {"state_dict": state} if wrapped else state, path, _use_new_zipfile_serialization=new
    )
    same(open_weights(tmp_path), arrays)


class Runs:
    def __reduce__(self):
        return os.mkdir, (os.environ["MARKER"],)


@pytest.mark.parametrize("new", [True, False])
def test_code_in_a_torch_file_is_never_run(tmp_path, monkeypatch, new):
    marker = tmp_path / "it ran"
    monkeypatch.setenv("MARKER", str(marker))
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.ones(2), "b": Runs()}, path, _use_new_zipfile_serialization=new)
    with pytest.raises(UserError, match="never run"):
        open_weights(path)
    assert not marker.exists()


def test_what_is_not_there(tmp_path):
    with pytest.raises(UserError, match="holds none of"):
        open_weights(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        open_weights(tmp_path / "model.safetensors")
    for name in ("x.safetensors", "y.safetensors"):
        save_file({name: np.ones(1, np.float32)}, tmp_path / name)
    with pytest.raises(UserError, match="several safetensors files"):
        open_weights(tmp_path)
