import itertools

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import f1_score

from biofm_jax.errors import UserError
from biofm_jax.evaluate.item_metrics import item_score
from biofm_jax.evaluate.metrics_mask import dice, hausdorff95


def surface(mask):
    """Coordinates of voxels of which a face neighbour is outside the mask or the image."""
    found = []
    for place in np.argwhere(mask):
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            near = place.copy()
            near[axis] += step
            if not 0 <= near[axis] < mask.shape[axis] or not mask[tuple(near)]:
                found.append(place)
                break
    return np.array(found)


def brute_force_hausdorff95(one, two, spacing):
    distances = cdist(surface(one) * np.array(spacing), surface(two) * np.array(spacing))
    return max(np.percentile(distances.min(1), 95), np.percentile(distances.min(0), 95))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.7, 3.0)])
def test_hausdorff_equals_all_distances(spacing):
    rng = np.random.default_rng(0)
    for size in (1, 3, 6):
        one, two = np.zeros((2, 12, 10, 8), bool)
        one[2 : 2 + size, 3 : 3 + size, :size] = True
        two |= rng.random(two.shape) < 0.03
        two[0, 0, 0] = True
        got = hausdorff95(one, two, spacing)
        assert got == pytest.approx(brute_force_hausdorff95(one, two, spacing), abs=1e-9)


def test_distances_are_in_millimetres_and_the_tail_is_cut():
    one, two = np.zeros((2, 60, 60), bool)
    one[10:40, 10:40] = two[10:40, 14:44] = True
    assert hausdorff95(one, two, (1.0, 0.5)) == pytest.approx(2.0)  # 4 columns of 0.5 mm
    two = one.copy()
    two[59, 59] = True  # one speck far away, among more than 100 voxels of surface
    assert hausdorff95(one, two, (1.0, 1.0)) == 0.0


def test_empty_masks():
    none, some = np.zeros((4, 5), bool), np.eye(4, 5, dtype=bool)
    assert (dice(none, none), hausdorff95(none, none, (1, 1))) == (1.0, 0.0)
    assert dice(some, none) == 0.0
    # The diagonal of the image: 3 steps of 2 mm, 4 steps of 1.5 mm.
    assert hausdorff95(some, none, (2.0, 1.5)) == pytest.approx(np.hypot(6, 6))
    assert hausdorff95(none, some, (2.0, 1.5)) == pytest.approx(np.hypot(6, 6))


def test_dice_is_the_f1_of_voxels():
    rng = np.random.default_rng(0)
    truth, guess = rng.random((2, 9, 9, 9)) < 0.3
    want = f1_score(truth.ravel(), guess.ravel())
    assert dice(truth, guess) == pytest.approx(want, abs=1e-12)
    assert dice(truth.astype(np.uint8), guess.astype(float)) == pytest.approx(want, abs=1e-12)


def test_scores_over_images():
    rng = np.random.default_rng(1)
    truth = [rng.random((8, 8)) < 0.5 for _ in range(10)]
    guess = [mask ^ (rng.random((8, 8)) < 0.1) for mask in truth]
    overlap = item_score("dice", truth, guess)
    assert overlap.value == pytest.approx(np.mean([dice(*pair) for pair in zip(truth, guess)]))
    spacing = [(1.0, 1.0)] * 5 + [(2.0, 2.0)] * 5
    far = item_score("hausdorff95", truth, guess, spacing)
    want = [hausdorff95(*each) for each in zip(truth, guess, spacing)]
    assert far.value == pytest.approx(np.mean(want))
    assert overlap.low < overlap.value < overlap.high


def test_masks_that_do_not_fit_are_named():
    mask = np.ones((3, 3), bool)
    with pytest.raises(UserError, match=r"\(3, 3\) and \(3, 4\)"):
        dice(mask, np.ones((3, 4), bool))
    with pytest.raises(UserError, match="one label at a time"):
        dice(mask, np.full((3, 3), 2))
    with pytest.raises(UserError, match="2 positive millimetres"):
        hausdorff95(mask, mask, (1.0, 1.0, 1.0))
    with pytest.raises(UserError, match="one for each image"):
        item_score("hausdorff95", [mask], [mask], [])
