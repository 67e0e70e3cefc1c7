"""Small results and tasks that the tests of several rooms share."""

import numpy as np

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.evaluate.metrics import METRICS, score
from biofm_jax.evaluate.results import Predictions, Result
from biofm_jax.evaluate.splits import Fold
from biofm_jax.evaluate.task import Dataset, Published, Task

PUBLISHED = (
    Published("Same | protocol", 0.81, "a journal", True),
    Published("Other protocol", 0.95, "another journal", False, "random split"),
)


def result(task="toy", method="probe", seed=0, metric="rmse", n=30, **changes):
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(99).normal(size=(n, 1))
    predicted = truth + 0.3 * rng.normal(size=(n, 1))
    control = rng.normal(size=(n, 1))
    if METRICS[metric].kind == "binary":
        truth = (truth > 0).astype(float)
    fields = {
        "task": task,
        "model": "runs/toy",
        "method": method,
        "seed": seed,
        "split": "by hand",
        "metric": metric,
        "direction": METRICS[metric].direction,
        "unit": "kcal/mol" if metric == "rmse" else "",
        "score": score(metric, truth, predicted),
        "baselines": {"flat": score(metric, truth, 0.1 * control)},
        "control": score(metric, truth, control),
        "published": PUBLISHED,
        "n_train": 100,
        "n_valid": 10,
        "n_test": n,
        "dropped": 2,
        "data": "0123456789abcdef",
        "command": "biofm evaluate runs/toy --task <toy>",
        "commit": "f" * 40,
        "versions": {"jax": "0.0"},
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 1.5,
        "predictions": Predictions(tuple(f"item-{i}" for i in range(n)), truth, predicted, control),
    }
    return Result(**(fields | changes))


def toy_task(n=60):
    """Count the letter A; train, validation and test of a third each."""
    texts = tuple("A" * (i % 7) + "C" * (i % 4 + 1) for i in range(n))
    targets = np.array([[float(text.count("A"))] for text in texts])
    items = Labelled(tuple(f"item-{i}" for i in range(n)), texts, targets)
    fold = Fold.from_labels(np.array(["train", "valid", "test"])[np.arange(n) % 3])
    return Task(
        name="toy",
        modality="protein",
        data=lambda root: Dataset(items, (fold,), ("A",)),
        split="thirds",
        metric="rmse",
        unit="",
        baselines=("flat",),
        published=PUBLISHED,
    )
