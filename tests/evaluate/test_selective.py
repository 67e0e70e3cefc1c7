import numpy as np
import pytest

from biofm_jax.errors import UserError
from biofm_jax.evaluate.selective import picture, risk_coverage

TRUTH = np.array([1.0, 0.0, 1.0, 0.0])


def test_the_curve_by_hand():
    """Right, right, wrong, right, in the order of how sure."""
    found = risk_coverage(TRUTH, np.array([0.95, 0.1, 0.2, 0.45]))
    np.testing.assert_allclose(found.coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(found.risk, [0, 0, 1 / 3, 1 / 4])
    assert found.area == pytest.approx((1 / 3 + 1 / 4) / 4)
    assert found.excess == pytest.approx((1 / 3 + 1 / 4) / 4 - 1 / 16)
    assert found.error == found.at(1.0) == 0.25 and found.at(0.5) == found.at(0.3) == 0


def test_equally_sure_items_share_their_errors():
    """The order of the items does not count; without any order the curve is flat."""
    probability = np.array([0.7, 0.7, 0.3, 0.3])
    found = risk_coverage(TRUTH, probability)
    np.testing.assert_allclose(found.risk, 0.5)
    turned = risk_coverage(TRUTH[::-1], probability[::-1])
    np.testing.assert_array_equal(found.risk, turned.risk)
    assert found.area == found.error == 0.5


def test_a_random_order_has_the_area_of_the_error():
    rng = np.random.default_rng(0)
    truth = (rng.random(20_000) < 0.5).astype(float)
    assert risk_coverage(truth, rng.random(20_000)).area == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    "truth, probability, message",
    [
        (TRUTH, np.ones(3), "must be"),
        (TRUTH[:0], TRUTH[:0], "must be"),
        (TRUTH + 1, TRUTH, "labels 0 and 1"),
        (TRUTH, TRUTH * 2, "of probabilities"),
    ],
)
def test_misuse_is_told(truth, probability, message):
    with pytest.raises(UserError, match=message):
        risk_coverage(truth, probability)


def test_the_picture_names_every_method():
    curve = risk_coverage(TRUTH, np.array([0.9, 0.1, 0.2, 0.45]))
    (axis,) = picture({"one": curve, "other": curve}).axes
    assert [line.get_label().split(",")[0] for line in axis.lines] == ["one", "other"]
