import json

import pytest

from biofm_jax.errors import UserError
from biofm_jax.experiment import Experiment, load_experiment
from biofm_jax.models.positions import Alibi, Rotary
from biofm_jax.objectives.next_token import NextToken
from biofm_jax.sweep.grid import expand, read_axes, shard


def grid(name, *over):
    return expand(name, read_axes(over))


def test_every_combination_with_a_short_name(tiny):
    made = grid(tiny, "objective.rate=0.1,0.2", "loop.steps=6", "model.positions=Rotary,ALiBi")
    assert [v.label for v in made] == [
        f"rate={rate} positions={kind}" for rate in ("0.1", "0.2") for kind in ("Rotary", "ALiBi")
    ]
    assert [v.experiment.objective.rate for v in made] == [0.1, 0.1, 0.2, 0.2]
    assert [v.experiment.model.positions for v in made] == [Rotary(), Alibi()] * 2
    assert {v.experiment.loop.steps for v in made} == {6}


def test_a_sweep_of_seeds_alone_is_named_after_the_file(tiny):
    assert [v.label for v in grid(tiny)] == ["tiny"]
    (only,) = grid(f"{tiny}:smoke", "objective.rate=0.3")
    assert only.label == "tiny_smoke" and only.experiment.loop.steps == 2


def test_names_are_longer_where_the_last_part_is_not_enough(tiny):
    labels = [v.label for v in grid(tiny, "model.dropout=0,0.1", "model.layers=1,2")]
    assert labels[0] == "dropout=0 layers=1"
    labels = [v.label for v in grid(tiny, "model.width=16,32", "model.head.bias=True,False")]
    assert labels[-1] == "width=32 bias=False"
    labels = [v.label for v in grid(tiny, "model.biases.norm=True,False", "model.norm=layer,rms")]
    assert labels[0] == "model.biases.norm=True model.norm=layer"


def test_variants_come_first_whatever_the_order(tiny):
    made = grid(tiny, "model.dropout=0,0.1", "variant=masked,causal")
    assert [v.label for v in made] == [
        "masked dropout=0", "masked dropout=0.1", "causal dropout=0", "causal dropout=0.1"
    ]  # fmt: skip
    assert isinstance(made[-1].experiment.objective, NextToken)
    assert made[-1].experiment.model.dropout == 0.1


def test_variants_apply_to_a_variant(tiny):
    made = grid(f"{tiny}:smoke", "variant=masked,causal")
    assert [v.experiment.loop.steps for v in made] == [2, 2]
    with pytest.raises(UserError, match="'wide' is a whole experiment"):
        grid(f"{tiny}:smoke", "variant=masked,wide")
    assert grid(tiny, "variant=wide")[0].experiment.model.width == 32


@pytest.mark.parametrize(
    ("over", "words"),
    [
        (["objective.rate"], "write PATH=VALUE"),
        (["objective.rate=0.1,0.1"], "the value '0.1' comes twice"),
        (["objective.rate=0.1,0.10"], "rate=0.10 and rate=0.1 are the same experiment"),
        (["loop.steps=1", "loop.steps=2"], "loop.steps is given twice"),
        (["loop.seed=1,2"], "seeds are counted by --seeds"),
        (["loop.stps=1,2"], "did you mean loop.steps"),
        (["objective.rate=0.1,x"], "--over objective.rate=x"),
        (["variant=masked,cusal"], "no variant 'cusal'; it has masked, causal"),
    ],
)
def test_a_wrong_axis_is_named(tiny, over, words):
    with pytest.raises(UserError, match=words):
        grid(tiny, *over)


def test_no_field_is_called_like_the_axis_of_variants():
    assert "variant" not in Experiment.__dataclass_fields__


def test_the_record_of_a_run_can_be_swept(tiny, tmp_path):
    record = tmp_path / "experiment.json"
    record.write_text(json.dumps(load_experiment(tiny).to_json()))
    made = grid(str(record), "objective.rate=0.1,0.2")
    assert [v.experiment.objective.rate for v in made] == [0.1, 0.2]
    with pytest.raises(UserError, match="no variant 'a'; it has none"):
        grid(str(record), "variant=a,b")


def array(task, count, low, high):
    names = ("ID", "COUNT", "MIN", "MAX")
    values = (task, count, low, high)
    return {f"SLURM_ARRAY_TASK_{n}": str(v) for n, v in zip(names, values, strict=True)}


@pytest.mark.parametrize(
    ("text", "environment", "part"),
    [
        ("", {}, (0, 1)),
        ("2/5", {}, (2, 5)),
        ("", array(3, 4, 0, 3), (3, 4)),
        ("", array(1, 4, 1, 4), (0, 4)),
        ("", array(8, 4, 0, 12), (2, 4)),  # --array=0-15:4
        ("", array(7, 1, 7, 7), (0, 1)),
        ("0/2", array(3, 4, 0, 3), (0, 2)),
    ],
)
def test_the_part_of_a_process(text, environment, part):
    assert shard(text, environment) == part


@pytest.mark.parametrize("text", ["2/2", "1", "a/b", "-1/2", "1/0"])
def test_a_part_that_is_none(text):
    with pytest.raises(UserError, match="write i/n"):
        shard(text, {})


def test_an_irregular_array_is_refused():
    with pytest.raises(UserError, match="not evenly spaced"):
        shard("", array(3, 3, 0, 7))
