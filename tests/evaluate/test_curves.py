import base64
import dataclasses

import numpy as np
import pytest
from toy_results import result, toy_task

from biofm_jax.adapt.fractions import few_shot_adapter, fraction_adapter, method_name
from biofm_jax.adapt.knn import knn_adapter
from biofm_jax.adapt.probe import probe_adapter
from biofm_jax.errors import UserError
from biofm_jax.evaluate import baselines
from biofm_jax.evaluate.curves import curve_lines, label_curve, label_curves
from biofm_jax.evaluate.results import read_results
from biofm_jax.evaluate.run import Contender, evaluate
from biofm_jax.evaluate.table import aggregate

SHARES = (0.03, 0.1, 0.3, 1.0)


def rows(shares=SHARES, method="probe", **changes):
    return aggregate(
        [
            result(method=method_name(method, share=share), seed=seed, **changes)
            for share in shares
            for seed in range(2)
        ]
    )


def test_lines_of_a_model_its_control_and_a_baseline():
    floor = rows(method="baseline", model="ridge", control=None)
    shuffled = aggregate([result(method=method_name("probe", shuffled=True))])
    given = [*floor, *rows(), *shuffled]
    lines = curve_lines(given)
    assert [(line.kind, line.label) for line in lines] == [
        ("model", "runs/toy, probe"),
        ("control", "random-initialised control"),
        ("shuffled", "runs/toy, probe, shuffled labels"),
        ("baseline", "ridge"),
    ]
    assert [line.x for line in lines] == [SHARES, SHARES, (1.0,), SHARES]
    by_method = {row.method: row for row in rows()}
    for x, score in zip(SHARES, lines[0].scores):
        assert score == by_method[method_name("probe", share=x)].value.score
    for x, score in zip(SHARES, lines[1].scores):
        assert score == by_method[method_name("probe", share=x)].control.score


def test_equal_controls_are_drawn_once_and_others_are_named():
    both = [*rows(), *rows(model="runs/other")]
    controls = [line.label for line in curve_lines(both) if line.kind == "control"]
    assert controls == ["random-initialised control"]
    knn = [dataclasses.replace(r, control=rows()[0].value) for r in rows(method="knn")]
    lines = curve_lines([*both, *knn])
    assert [line.label for line in lines if line.kind == "model"] == [
        "runs/toy, probe",
        "runs/other, probe",
        "runs/toy, knn",
    ]
    assert [line.label for line in lines if line.kind == "control"] == [
        "runs/toy, probe, random-initialised control",
        "runs/toy, knn, random-initialised control",
    ]


def test_shots_and_shares_are_two_curves():
    shots = aggregate([result(method=method_name("probe", shots=k)) for k in (2, 8, 32)])
    given = [*rows(), *shots]
    assert curve_lines(given)[0].x == SHARES
    assert curve_lines(given, "shots")[0].x == (2, 8, 32)
    titles = [title for title, _ in label_curves([*given, *rows(task="another")])]
    assert titles == [
        "toy: score by share of the training labels",
        "toy: score by training labels",
        "another: score by share of the training labels",
    ]


def test_no_curve_without_two_points():
    assert label_curve(rows((1.0,))) is None
    assert label_curve(rows(), "shots") is None
    assert label_curves(rows((0.1,))) == []
    assert label_curves([]) == []


def test_a_curve_is_of_one_task():
    with pytest.raises(UserError, match="one task and one state of its data"):
        curve_lines([*rows(), *rows(task="another")])
    with pytest.raises(UserError, match="one task and one state of its data"):
        curve_lines([*rows(), *rows(data="f" * 16)])


@pytest.mark.parametrize("metric", ["rmse", "auroc"])
def test_figure_is_a_png(metric):
    address = label_curve(rows(metric=metric))
    head, _, body = address.partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(body)[:8] == b"\x89PNG\r\n\x1a\n"


def test_evaluations_with_fewer_labels_make_a_curve(tmp_path, monkeypatch):
    """From adapters to a picture, on a task whose answer needs only a few labels."""
    monkeypatch.setitem(
        baselines.BASELINES,
        "flat",
        lambda train, valid, test, seed: np.full_like(test.targets, train.targets.mean()),
    )
    task = toy_task(300)

    def letters(texts):
        return np.array([[text.count("A"), text.count("C"), 1.0] for text in texts])

    def noise(seed):
        return lambda texts: np.random.default_rng(seed).normal(size=(len(texts), 3))

    found = []
    for method, make in (("probe", probe_adapter), ("knn", knn_adapter)):
        model, control = make(lambda seed: letters, "number"), make(noise, "number")
        for share in (0.1, 0.3, 1.0):
            found.append(
                evaluate(
                    task,
                    Contender(
                        "toy",
                        method_name(method, share=share),
                        fraction_adapter(model, share),
                        fraction_adapter(control, share),
                    ),
                    seeds=(0, 1),
                    out=tmp_path,
                )
            )
        limited = few_shot_adapter(model, 16)
        name = method_name(method, shots=16)
        found.append(
            evaluate(task, Contender("toy", name, limited, None), seeds=(0,), out=tmp_path)
        )
    values = {row.method: row.value.score.value for row in found}
    # 14 of the models; the baseline once with all labels, at two shares by two seeds, at 16 shots.
    assert len(values) == 8 and len(list(tmp_path.glob("*.result.json"))) == 14 + 1 + 4 + 1
    assert values["probe"] <= values["probe@30%"] <= values["probe@10%"] < 0.5
    assert values["probe@16shot"] < 0.5
    ((title, picture),) = label_curves(found)
    assert title == "toy: score by share of the training labels" and picture.startswith(
        "data:image/png"
    )
    rows = aggregate(read_results([tmp_path])[0])
    floors = [line for line in curve_lines(rows) if line.kind == "baseline"]
    assert [(line.label, line.x) for line in floors] == [("flat", (0.1, 0.3, 1.0))]
    assert label_curves(rows)[0][1] != picture  # the baseline's own curve, not its level line
