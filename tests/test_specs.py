import dataclasses

import pytest

from biofm_jax import specs
from biofm_jax.errors import UserError
from biofm_jax.models.positions import Alibi, Learned
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.train.optimizer import OptimizerSpec


@pytest.mark.parametrize(
    "spec",
    [
        TransformerSpec(),
        TransformerSpec(positions=Learned(maximum=5), head=None, special=(1, 2), window=None),
        TransformerSpec(positions=Alibi()),
        OptimizerSpec(freeze=("a", "b"), no_decay=()),
    ],
)
def test_round_trip(spec):
    assert specs.decode(specs.encode(spec)) == spec


def test_a_value_that_is_no_spec_is_refused():
    with pytest.raises(TypeError, match="not function"):
        specs.encode(test_round_trip)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"type": "os.system"}, "not one of biofm_jax"),
        ({"type": "biofm_jax.train.optimizer.Nothing"}, r"has no .*Nothing"),
        ({"type": "biofm_jax.nowhere.Thing"}, r"has no biofm_jax\.nowhere\.Thing"),
        ({"type": "biofm_jax.cli.main"}, "is not a spec"),
        ({"learning": 1.0}, "OptimizerSpec has no field learning"),
    ],
)
def test_json_of_another_program_or_version_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        specs.decode(specs.encode(OptimizerSpec()) | change)


def test_an_object_without_a_type_is_refused():
    with pytest.raises(UserError, match="names the type"):
        specs.decode({"name": "adamw"})


def test_flatten_names_the_path_of_each_value():
    flat = specs.flatten(specs.encode(dataclasses.replace(OptimizerSpec(), warmup=3)), "optimizer")
    assert flat["optimizer.warmup"] == 3
    assert flat["optimizer.type"] == "biofm_jax.train.optimizer.OptimizerSpec"
