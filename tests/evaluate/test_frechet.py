import numpy as np
import pytest
from scipy.linalg import sqrtm

from biofm_jax.evaluate.frechet import fingerprint_frechet, frechet_distance


def test_it_is_the_distance_of_gaussians():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(400, 6)) @ rng.normal(size=(6, 6)) + rng.normal(size=6)
    other = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6))
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    apart = one.mean(0) - other.mean(0)
    wanted = apart @ apart + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert frechet_distance(one, other) == pytest.approx(wanted, rel=1e-8)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-8)
    assert frechet_distance(one, one + 2.0) == pytest.approx(24, rel=1e-8)  # 6 x 2^2
    # One dimension: (m - m')^2 + (s - s')^2.
    x, y = one[:, :1], 3 * one[:, :1] + 1
    spread, middle = x.std(ddof=1), x.mean()
    assert frechet_distance(x, y) == pytest.approx((2 * middle + 1) ** 2 + (2 * spread) ** 2)


def test_like_molecules_are_nearer_than_others():
    pytest.importorskip("rdkit")
    from biofm_jax.data.molecule import quickstart_molecules

    smiles = quickstart_molecules().smiles[:400]
    chance = fingerprint_frechet(smiles[::2], smiles[1::2])
    chains = ["C" * (1 + i % 20) + "O" * (i % 2) for i in range(200)]
    assert 0 < chance < 0.3 * fingerprint_frechet(chains, smiles[:200])
