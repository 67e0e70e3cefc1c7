"""Contestants with planted quality, for the tests of comparisons."""

import numpy as np
from scipy.special import expit

from biofm_jax.evaluate.contestants import Contestant
from biofm_jax.evaluate.metrics import METRICS


def made(name, truth, predicted, metric="rmse", data="0123"):
    """A contestant of (n,) or (n, k) truths and (n,), (n, k) or (s, n, k) predictions."""
    truth = np.asarray(truth, float).reshape(len(truth), -1)
    predicted = np.asarray(predicted, float).reshape(-1, *truth.shape)
    ids = tuple(f"item-{i}" for i in range(len(truth)))
    return Contestant(name, "toy", data, metric, ids, truth, predicted)


def rivals(metric, n, noise=(1.0, 1.0), seed=0, seeds=(1, 1), shared=0.5):
    """Two contestants whose errors have these deviations, and partly the same causes."""
    rng = np.random.default_rng(seed)
    signal, common = rng.normal(size=(2, n, 1))
    truth = signal + 0.5 * rng.normal(size=(n, 1))
    if METRICS[metric].kind == "binary":
        truth = (truth > 0).astype(float)
    guesses = [
        signal + shared * common + deviation * rng.normal(size=(count, n, 1))
        for deviation, count in zip(noise, seeds)
    ]
    if METRICS[metric].kind == "binary":
        guesses = [expit(2 * guess) for guess in guesses]
    if METRICS[metric].classes:
        truth, guesses = (truth > 0).astype(float), [(g > 0).astype(float) for g in guesses]
    return [made(name, truth, guess, metric) for name, guess in zip(("one", "other"), guesses)]
