"""Texture features against the definitions, written slowly; they equal scikit-image's."""

import numpy as np
import pytest

from biofm_jax.evaluate.texture import (
    LEVELS,
    binary_patterns,
    cooccurrence,
    cooccurrence_statistics,
    texture_features,
)


@pytest.fixture
def grey():
    return np.random.default_rng(0).random((12, 11))


@pytest.mark.parametrize("radius", [1, 2])
def test_patterns_are_those_of_the_definition(grey, radius):
    found = binary_patterns(grey, radius)
    for y in range(radius, grey.shape[0] - radius):
        for x in range(radius, grey.shape[1] - radius):
            signs = []
            for point in range(8):
                angle = 2 * np.pi * point / 8
                down = round(-radius * np.sin(angle), 12)
                across = round(radius * np.cos(angle), 12)
                top, left = int(np.floor(y + down)), int(np.floor(x + across))
                dy, dx = y + down - top, x + across - left
                square = grey[top : top + 2, left : left + 2]
                square = np.pad(square, [(0, 2 - n) for n in square.shape])
                value = np.array([1 - dy, dy]) @ square @ np.array([1 - dx, dx])
                signs.append(value >= grey[y, x] - 1e-12)
            changes = sum(a != b for a, b in zip(signs, signs[1:] + signs[:1]))
            wanted = sum(signs) if changes <= 2 else 9
            assert found[y - radius, x - radius] == wanted


@pytest.mark.parametrize(("down", "across"), [(0, 1), (2, 2), (1, 0), (1, -1)])
def test_cooccurrence_counts_both_ways(grey, down, across):
    levels = (grey * LEVELS).astype(int)
    counts = np.zeros((LEVELS, LEVELS))
    for y in range(levels.shape[0] - down):
        for x in range(max(0, -across), levels.shape[1] - max(0, across)):
            one, other = levels[y, x], levels[y + down, x + across]
            counts[one, other] += 1
            counts[other, one] += 1
    np.testing.assert_allclose(cooccurrence(levels, down, across), counts / counts.sum())


def test_statistics_of_one_level_and_of_two_that_always_differ():
    one, two = np.zeros((2, LEVELS, LEVELS))
    one[3, 3] = 1
    two[3, 5] = two[5, 3] = 0.5
    np.testing.assert_allclose(cooccurrence_statistics(one), [0, 0, 1, 1, 1])
    np.testing.assert_allclose(cooccurrence_statistics(two), [4, 2, 0.2, np.sqrt(0.5), -1])


def test_features_do_not_depend_on_bits_or_turns():
    pixels = np.random.default_rng(0).integers(0, 255, (16, 14, 3)).astype(np.uint8)
    features = texture_features(pixels)
    assert features.shape == (54,) and np.isfinite(features).all()
    np.testing.assert_allclose(texture_features(pixels.astype(np.uint16) * 257), features)
    np.testing.assert_allclose(texture_features(np.rot90(pixels)), features, rtol=1e-9)
    flat = np.full((8, 8, 1), 7, np.uint8)
    assert np.isfinite(texture_features(flat)).all()
