"""The mesh over slices and hosts, and what may not lie on it."""

import dataclasses
import types

import jax
import numpy as np
import pytest
from toy_batches import TINY, batch_for

from biofm_jax.errors import UserError
from biofm_jax.train.mesh import MeshSpec, abstract_mesh, parameter_shardings
from biofm_jax.train.placement import batch_shardings, global_shapes, host_rows, to_devices


@dataclasses.dataclass(frozen=True)
class Chip:
    """What a mesh reads of a TPU."""

    id: int
    slice_index: int
    process_index: int = 0
    platform: str = "tpu"
    device_kind: str = "TPU v5e"
    core_on_chip: int = 0

    @property
    def coords(self):
        return (self.id % 4 % 2, self.id % 4 // 2, 0)


def chips(slices: int):
    """Slices of four chips each, in no order."""
    devices = [Chip(id=i, slice_index=i // 4) for i in range(4 * slices)]
    return [devices[i] for i in np.random.default_rng(0).permutation(len(devices))]


def test_slices_are_the_outer_part_of_the_data_axis():
    mesh = MeshSpec(data=-1, fsdp=2).build(chips(3))
    assert dict(mesh.shape) == {"data": 6, "fsdp": 2, "tensor": 1, "context": 1}
    slices = np.vectorize(lambda chip: chip.slice_index)(mesh.devices).reshape(3, 4)
    assert (slices == slices[:, :1]).all() and len({*slices[:, 0]}) == 3


def test_nothing_but_gradients_crosses_slices():
    with pytest.raises(UserError, match=r"multiple of the 2 slices.*--mesh\.data 2"):
        MeshSpec(data=1, fsdp=8).build(chips(2))


def shardings_of(spec, sizes):
    shapes = jax.eval_shape(spec.build().init, jax.random.key(0), None)
    return parameter_shardings(abstract_mesh(sizes), spec.build().axes(shapes), shapes)


def test_a_large_parameter_is_never_replicated_by_accident():
    spec = dataclasses.replace(TINY, width=24, heads=2, vocabulary=20_001)
    said = r"embed/tokens \(vocab 20001, embed 24.*fsdp 5 does not divide embed 24 \(4 does\)"
    with pytest.raises(UserError, match=said):
        shardings_of(spec, (1, 5, 1, 1))
    with pytest.raises(UserError, match=said):  # though tensor cuts the other axis
        shardings_of(spec, (1, 5, 3, 1))
    with pytest.raises(UserError, match=r"tensor 2 does not divide vocab 20001.*--mesh\.fsdp 2"):
        shardings_of(spec, (1, 1, 2, 1))
    shardings_of(spec, (1, 1, 1, 1))  # one device holds everything
    shardings_of(spec, (5, 1, 1, 1))  # and so does each copy of data parallelism
    cut = shardings_of(spec, (1, 4, 2, 1))["embed"]["tokens"]
    assert cut.spec == jax.sharding.PartitionSpec(None, "fsdp")


def test_a_name_outside_the_table_is_an_error():
    with pytest.raises(KeyError, match="embedd"):
        parameter_shardings(abstract_mesh((1, 2, 1, 1)), {"x": ("embedd",)}, {"x": np.zeros(4)})


def pod(sizes, per_host):
    """A mesh whose devices belong to hosts, in order."""
    devices = np.array(
        [types.SimpleNamespace(process_index=i // per_host) for i in range(int(np.prod(sizes)))]
    )
    names = ("data", "fsdp", "tensor", "context")
    return types.SimpleNamespace(
        devices=devices.reshape(sizes), shape=dict(zip(names, sizes, strict=True))
    )


@pytest.mark.parametrize(
    ("sizes", "per_host", "shares"),
    [
        ((2, 4, 1, 1), 4, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ((1, 2, 4, 1), 4, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        # A row is spread over both hosts: they read the same.
        ((1, 1, 2, 4), 4, [list(range(8))] * 2),
        ((1, 2, 1, 8), 4, [[0, 1, 2, 3]] * 2 + [[4, 5, 6, 7]] * 2),
        # Rows 2 to 5 are spread over two hosts each.
        ((1, 4, 3, 1), 4, [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]),
    ],
)
def test_hosts_share_the_rows(monkeypatch, sizes, per_host, shares):
    mesh = pod(sizes, per_host)
    assert [host_rows(mesh, 8, host).tolist() for host in range(len(shares))] == shares
    for host, rows in enumerate(shares):
        monkeypatch.setattr(jax, "process_index", lambda host=host: host)
        assert global_shapes(mesh, np.zeros((len(rows), 3))).shape == (8, 3)


def test_rows_that_a_torus_scatters_are_found():
    mesh = pod((4, 1, 1, 1), 1)
    for device, process in zip(mesh.devices.ravel(), (0, 1, 1, 0), strict=True):
        device.process_index = process
    assert host_rows(mesh, 8, 0).tolist() == [0, 1, 6, 7]


def test_a_batch_is_cut_by_rows_and_tokens():
    mesh = MeshSpec(data=2, context=4).build()
    batch = batch_for("masked")
    batch = batch.replace(contents=batch.examples)
    placed = to_devices(mesh, batch)
    assert placed.tokens.addressable_shards[0].data.shape == (8, 8)
    assert placed.examples.addressable_shards[0].data.shape == (8, 4)
    assert placed.contents.addressable_shards[0].data.shape == (8, 4)
    assert placed.tokens.sharding == batch_shardings(mesh, batch).tokens
    np.testing.assert_array_equal(placed.tokens, batch.tokens)
