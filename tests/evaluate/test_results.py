import dataclasses
import json

import numpy as np
import pytest
from scipy.special import expit
from toy_results import result

from biofm_jax.errors import UserError
from biofm_jax.evaluate.calibration import calibration
from biofm_jax.evaluate.conformal import Coverage
from biofm_jax.evaluate.metrics import Score
from biofm_jax.evaluate.provenance import code_commit, package_versions
from biofm_jax.evaluate.recalibration import Conformal, Recalibration, Temperature
from biofm_jax.evaluate.results import (
    floor_of,
    is_baseline,
    read_result,
    read_results,
    write_result,
    write_whole,
)
from biofm_jax.evaluate.subgroups import subgroup_scores


def same(one, other):
    plain = [dataclasses.replace(r, predictions=None) for r in (one, other)]
    assert plain[0] == plain[1]
    assert one.predictions.ids == other.predictions.ids
    for name in ("truth", "predicted", "control"):
        a, b = getattr(one.predictions, name), getattr(other.predictions, name)
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a, b)


def test_round_trip(tmp_path):
    given = result()
    same(read_result(write_result(given, tmp_path / "new" / "folder")), given)


def test_round_trip_without_control_and_with_missing_labels(tmp_path):
    given = result()
    truth = given.predictions.truth.copy()
    truth[3] = np.nan
    predictions = dataclasses.replace(given.predictions, truth=truth, control=None)
    given = dataclasses.replace(given, control=None, predictions=predictions)
    same(read_result(write_result(given, tmp_path)), given)


def full():
    """A result with everything that is found by looking at its data and predictions."""
    plain = result(metric="auroc", n=60)
    truth = plain.predictions.truth
    probability = expit(2 * plain.predictions.predicted)
    found = calibration(truth, probability)
    coverage = Coverage(0.95, Score(0.9, 0.8, 1.0), 1.5, 30)
    site = ["north", "south", None] * 20
    return dataclasses.replace(
        plain,
        calibration=found,
        recalibration=Recalibration(
            n_valid=31,
            n_calibration=30,
            score=plain.score,
            temperature=Temperature(((1.5, None), (2.5, 0.5)), found, found),
            conformal=(Conformal("y", coverage), Conformal("z", None)),
            notes=("z: too few",),
        ),
        subgroups=(subgroup_scores("auroc", truth, probability, "site", site, fewest=10),),
    )


def test_round_trip_of_calibration_and_subgroups(tmp_path):
    given = full()
    path = write_result(given, tmp_path)
    same(read_result(path), given)
    record = json.loads(path.read_text())
    assert record["recalibration"]["conformal"][0]["coverage"]["nominal"] == 0.95
    assert record["subgroups"][0]["groups"][0]["name"] in ("north", "south")


def test_results_of_old_versions_are_read(tmp_path):
    path = write_result(full(), tmp_path)
    record = json.loads(path.read_text())
    for name in ("leaks", "calibration", "recalibration", "subgroups"):
        del record[name]
    path.write_text(json.dumps(record))
    found = read_result(path)
    assert found.leaks is found.calibration is found.recalibration is None
    assert found.subgroups == ()


def test_baselines_have_a_method_of_their_own():
    assert is_baseline("baseline") and is_baseline("baseline@3%+shuffled")
    assert not is_baseline("probe") and not is_baseline("baselines")
    assert floor_of("probe(layer=2)@3%+shuffled") == "baseline@3%"
    assert floor_of("knn@4shot") == "baseline@4shot" and floor_of("finetune") == "baseline"


def test_file_says_everything_and_nothing_is_left_beside_it(tmp_path):
    path = write_result(result(task="flip_gb1/sampled"), tmp_path)
    record = json.loads(path.read_text())
    for name in ("model", "method", "split", "seed", "metric", "score", "baselines", "control",
                 "published", "commit", "command", "versions", "n_train", "n_test"):  # fmt: skip
        assert name in record
    assert record["score"].keys() == {"value", "low", "high"}
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".npz"]


def test_same_evaluation_replaces_and_others_do_not(tmp_path):
    first = write_result(result(), tmp_path)
    assert write_result(result(seconds=9.0), tmp_path) == first
    assert read_result(first).seconds == 9.0
    others = (result(seed=1), result(method="finetune"), result(model="runs-toy"), result("toy2"))
    paths = {first, *(write_result(other, tmp_path) for other in others)}
    assert len(paths) == 5


@pytest.mark.parametrize("broken", ["json", "list", "field", "npz", "gone", "foreign"])
def test_broken_files_are_reported_and_the_rest_is_read(tmp_path, broken):
    write_result(result(seed=1), tmp_path)
    path = write_result(result(), tmp_path)
    npz = next(p for p in tmp_path.glob("*seed0*.npz"))
    if broken == "json":
        path.write_text(path.read_text()[:100])
    elif broken == "list":
        path.write_text("[]")
    elif broken == "field":
        record = json.loads(path.read_text())
        del record["metric"]
        path.write_text(json.dumps(record))
    elif broken == "npz":
        npz.write_bytes(npz.read_bytes()[:200])
    elif broken == "gone":
        npz.unlink()
    else:
        write_result(result(n=12), tmp_path / "other")
        npz.write_bytes(next((tmp_path / "other").glob("*.npz")).read_bytes())
        next((tmp_path / "other").glob("*.json")).unlink()
    results, problems = read_results([tmp_path])
    assert [r.seed for r in results] == [1]
    assert len(problems) == 1 and str(path) in problems[0]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_whole(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"


def test_provenance():
    assert "jax" in package_versions()
    commit = code_commit()
    assert commit == "" or len(commit.rstrip("+")) == 40


def test_unreadable_result_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="not a whole result"):
        read_result(tmp_path / "none.result.json")
