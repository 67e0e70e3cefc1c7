import dataclasses

import numpy as np
import pytest
from toy_results import result

from biofm_jax.evaluate.calibration import calibration
from biofm_jax.evaluate.conformal import Coverage
from biofm_jax.evaluate.metrics import Score
from biofm_jax.evaluate.recalibration import Conformal, Recalibration, Temperature
from biofm_jax.evaluate.record_text import (
    SUBGROUP_HEADER,
    calibration_lines,
    conformal_text,
    subgroup_table,
    temperature_text,
)
from biofm_jax.evaluate.subgroups import subgroup_scores


def recalibration(coverage, **changes):
    given = Recalibration(25, 24, Score(1.0, 0.5, 1.5), None, (Conformal("y", coverage),), ())
    return dataclasses.replace(given, **changes)


KEPT = Coverage(0.95, Score(0.94, 0.9, 0.98), 12.345, 24)


def test_coverage_in_words():
    assert conformal_text(KEPT, "kcal/mol") == (
        "Conformal intervals promise 95% coverage and have 0.940 [0.900, 0.980]; mean width 12.35 "
        "kcal/mol."
    )
    broken = Coverage(0.95, Score(0.6, 0.5, 0.7), 1.25, 24)
    text = conformal_text(broken, "classes")
    assert "sets promise" in text and "mean size 1.250 classes." in text
    assert text.endswith("The promise is broken: the test items are not like the validation items.")
    assert "mean width 12.35." in conformal_text(KEPT)


def test_numbers():
    (text,) = calibration_lines(result(n_valid=12))
    assert "must hold 19 labels, and the method saw 12 in all" in text
    seen, kept = calibration_lines(result(recalibration=recalibration(KEPT)))
    assert "24 validation items" in seen and "the other 25" in seen
    assert "RMSE 1.000 [0.500, 1.500]" in seen and kept == conformal_text(KEPT, "kcal/mol")
    columns = (Conformal("a", KEPT), Conformal("b", None))
    several = recalibration(KEPT, conformal=columns, notes=("b: 2 labels",))
    lines = calibration_lines(result(recalibration=several))
    assert lines[1].startswith("a: Conformal") and lines[2:] == ["Not done: b: 2 labels."]


def test_classes():
    rng = np.random.default_rng(0)
    probability = rng.random((300, 1))
    truth = (rng.random((300, 1)) < probability).astype(float)
    sharp = calibration(truth, np.round(probability))
    good = calibration(truth, probability)
    scaled = Temperature(((2.0,), (3.0,), (None,)), sharp, good)
    assert temperature_text(scaled).startswith("Temperature 2.00 to 3.00: expected calibration")
    assert f"{sharp.brier.value:.3f} before, {good.brier.value:.3f} after" in temperature_text(
        scaled
    )
    given = result(
        metric="auroc", calibration=sharp, recalibration=recalibration(KEPT, temperature=scaled)
    )
    lines = calibration_lines(given)
    assert len(lines) == 4 and lines[0].startswith("Expected calibration error 0.2")
    assert lines[2] == temperature_text(scaled) and lines[3].endswith("mean size 12.35 classes.")
    one = dataclasses.replace(scaled, values=((2.0,),))
    assert temperature_text(one).startswith("Temperature 2.00: ")
    assert calibration_lines(dataclasses.replace(result(), metric="accuracy")) == []


@pytest.mark.parametrize(("scale", "words"), [(3.0, "more than chance"), (1.0, "may be chance")])
def test_subgroups(scale, words):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(200, 1))
    site = np.repeat(["a", "b"], 100)
    factor = np.where(site == "a", scale, 1.0)[:, None]
    predicted = truth + factor * rng.normal(size=(200, 1))
    found = (
        subgroup_scores("rmse", truth, predicted, "site", site),
        subgroup_scores("rmse", truth, predicted, "rare", ["x"] * 5 + [None] * 195),
    )
    header, cells = subgroup_table(result(subgroups=found))
    assert header == SUBGROUP_HEADER and all(len(line) == len(header) for line in cells)
    assert [(line[0], line[2]) for line in cells[:2]] == [("site", "100")] * 2
    assert scale == 1.0 or [line[1] for line in cells[:2]] == ["b", "a"]  # the best first
    assert cells[2][1].startswith("gap between ") and cells[2][4] == words
    assert cells[3] == ("rare", "(no value)", "195", "not judged", "rare is missing")
    assert cells[4] == ("rare", "x", "5", "not judged", "fewer than 20 items")
    assert subgroup_table(result()) == (SUBGROUP_HEADER, [])
