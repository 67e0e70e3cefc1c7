"""Names of slices, with the nearest one for those that do not exist."""

import importlib.util
import math

import pytest

from biofm_jax.errors import UserError
from biofm_jax.plan.chips import CHIPS
from biofm_jax.plan.topology import known_names, parse_topology


@pytest.mark.parametrize(
    ("name", "written", "chips"),
    [
        ("v5e:4x4", "v5e:4x4", 16),
        ("v5e-8", "v5e:2x4", 8),
        ("v5litepod-256", "v5e:16x16", 256),
        ("V6E-16", "v6e:4x4", 16),
        # The number of v4 and v5p counts TensorCores.
        ("v5p-8", "v5p:2x2x1", 4),
        ("v5p:4x2x4", "v5p:2x4x4", 32),
        ("v4-16", "v4:2x2x2", 8),
        ("cpu:8", "cpu:8", 8),
    ],
)
def test_a_slice_has_two_names(name, written, chips):
    topology = parse_topology(name)
    assert (topology.name, topology.chips) == (written, chips)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("v5e:5x3", "the nearest is v5e:4x4"),
        ("v5e:2x2x2", "the nearest is v5e:2x4"),
        ("v5p-7", "TensorCores, two a chip; the nearest is v5p-8"),
        ("v5e-12", "counts chips; the nearest is v5e-16"),
        ("v5f:4x4", "the nearest is v5e:4x4"),
        ("v5e", "the nearest is v5e-8"),
        ("h100:8", "it is a chip"),
        ("cpu:0", "between 1 and 1,024"),
    ],
)
def test_a_name_that_does_not_exist_names_the_nearest(name, words):
    with pytest.raises(UserError, match=words.replace("(", "\\(")):
        parse_topology(name)


def test_every_known_name_is_read_and_every_slice_is_larger_than_the_last():
    assert all(parse_topology(name).chips for name in known_names())
    for chip in CHIPS.values():
        sizes = [math.prod(shape) for shape in chip.shapes]
        assert sizes == sorted(set(sizes))
    larger = [topology.name for topology in parse_topology("v5e:8x8").larger()]
    assert larger == ["v5e:8x16", "v5e:16x16"]


def test_without_libtpu_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'biofm_jax\[plan\]'"):
        parse_topology("v5e-8").devices()


def test_more_simulated_devices_than_there_are_are_refused():
    with pytest.raises(UserError, match="xla_force_host_platform_device_count=512"):
        parse_topology("cpu:512").devices()
