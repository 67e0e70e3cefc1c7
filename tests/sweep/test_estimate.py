import json

import pytest

from biofm_jax.experiment import load_experiment
from biofm_jax.sweep.budget import cost, token_flops
from biofm_jax.sweep.estimate import measured, seconds
from biofm_jax.sweep.overrides import override


@pytest.fixture
def base(tiny):
    return override(load_experiment(tiny), "loop.steps", "100")


def leave(folder, experiment, rates):
    """What a run leaves behind."""
    folder.mkdir()
    (folder / "experiment.json").write_text(json.dumps(experiment.to_json()))
    rows = [{"step": i + 1, "tokens_per_second": rate} for i, rate in enumerate(rates)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_same_run_tells_best(base, tmp_path):
    leave(tmp_path / "a", override(base, "loop.seed", "5"), [1.0, 512.0, 512.0, 1024.0])
    leave(tmp_path / "b", override(base, "model.width", "32"), [1.0, 10.0])
    speeds = measured(sorted(tmp_path.iterdir()))
    # 100 steps of 8 x 64 tokens at 512 a second; the first row waited for the compilation.
    assert seconds(base, 0, speeds) == pytest.approx(100)
    assert seconds(base, 75, speeds) == pytest.approx(25)
    assert seconds(override(base, "loop.steps", "50"), 0, speeds) == pytest.approx(50)


def test_other_runs_tell_by_their_flops(base, tmp_path):
    leave(tmp_path / "a", base, [1.0, 512.0])
    wide = override(base, "model.width", "32")
    ratio = cost(wide).flops / cost(base).flops
    assert ratio > 2
    assert seconds(wide, 0, measured([tmp_path / "a"])) == pytest.approx(100 * ratio)


def test_unpadded_tokens_are_measured(base, tmp_path):
    unpacked = override(base, "data.pack", "False")
    leave(tmp_path / "a", unpacked, [1.0, 512.0])
    found = seconds(unpacked, 0, measured([tmp_path / "a"]))
    assert found == pytest.approx(100 * cost(unpacked).flops / _flops_of_full_rows(unpacked))
    assert found < 80


def _flops_of_full_rows(experiment):
    return cost(experiment).tokens * token_flops(experiment)


def test_nothing_measured_nothing_known(base, tmp_path):
    (tmp_path / "empty").mkdir()
    leave(tmp_path / "short", base, [1.0])
    leave(tmp_path / "foreign", base, [1.0, 2.0])
    (tmp_path / "foreign" / "experiment.json").write_text("{}")
    assert measured(sorted(tmp_path.iterdir())) == []
    assert seconds(base, 0, []) is None
