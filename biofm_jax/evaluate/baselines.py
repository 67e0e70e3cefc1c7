"""The simple methods that stand beside every model: regressions on one-hot, fingerprints, counts.

Each is an adapter: it fits, and predicts the test items. All are deterministic.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import Ridge

from biofm_jax.adapt.labelled import Adapter, Labelled
from biofm_jax.adapt.probe import probe_adapter
from biofm_jax.errors import UserError
from biofm_jax.evaluate.metrics import Score, score
from biofm_jax.evaluate.molecules import ecfp4
from biofm_jax.evaluate.results import slug
from biofm_jax.evaluate.task import Dataset, Task
from biofm_jax.files import write_whole

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
FOREST_TREES = 300
RIDGE_STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)


def one_hot(texts: Sequence[str]) -> np.ndarray:
    """(n, length * 20) uint8: which of the 20 amino acids stands at each place.

    Raises:
        UserError: the sequences differ in length.
    """
    if len({len(text) for text in texts}) > 1:
        raise UserError("one-hot features need sequences of one length")
    letters = np.array([list(text) for text in texts])
    hot = letters[:, :, None] == np.array(list(AMINO_ACIDS))
    return hot.reshape(len(texts), -1).view(np.uint8)


def one_hot_ridge(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
    """Ridge regression (penalty 1) on the one-hot sequence, as FLIP's.

    Nothing is chosen, so the validation rows train as well. Places that never vary cancel with
    the intercept, so the whole sequence and the mutated places give the same fit.
    """
    x = one_hot((*train.texts, *valid.texts, *test.texts))
    x = x[:, np.ptp(x, axis=0) > 0].astype(np.float64)
    first = len(train) + len(valid)
    labels = np.concatenate([train.targets, valid.targets])
    return _per_column(
        labels, lambda y, have: Ridge(1.0).fit(x[:first][have], y).predict(x[first:])
    )


def ecfp4_forest(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
    """300 random trees on ECFP4 bits, fitted on the training part alone.

    Classes are balanced by weight; a binary label is predicted by its share of votes. The
    forest's own seed is always 0.
    """
    x, x_test = ecfp4(train.texts), ecfp4(test.texts)
    binary = _binary(train)

    def fit(y, have):
        if binary:
            model = RandomForestClassifier(
                FOREST_TREES, class_weight="balanced", random_state=0, n_jobs=-1
            )
        else:
            model = RandomForestRegressor(FOREST_TREES, random_state=0, n_jobs=-1)
        model.fit(x[have], y)
        model.n_jobs = 1  # threads would add the trees up in any order
        return model.predict_proba(x_test)[:, -1] if binary else model.predict(x_test)

    return _per_column(train.targets, fit)


def ecfp4_ridge(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
    """Ridge regression on ECFP4 bits, its penalty chosen on the validation part.

    The bits are not standardised: that would blow up the rare ones.
    """
    x, x_valid, x_test = (ecfp4(part.texts).astype(np.float64) for part in (train, valid, test))
    columns = []
    for y, y_valid in zip(train.targets.T, valid.targets.T):
        have, valid_have = ~np.isnan(y), ~np.isnan(y_valid)
        models = [Ridge(strength).fit(x[have], y[have]) for strength in RIDGE_STRENGTHS]
        errors = [
            np.mean((model.predict(x_valid[valid_have]) - y_valid[valid_have]) ** 2)
            for model in models
        ]
        columns.append(models[int(np.argmin(errors))].predict(x_test))
    return np.stack(columns, axis=1)


def letter_counts(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
    """A linear probe on how often each letter of the training texts occurs, and on the length.

    What mean-pooled embeddings of any model hold: properties that add up over atoms (polar
    surface, solubility) come out of it better than out of fingerprints.
    """
    letters = sorted(set("".join(train.texts)))

    def features(texts):
        return np.array([[text.count(c) for c in letters] + [len(text)] for text in texts], float)

    kind = "binary" if _binary(train) else "number"
    return probe_adapter(lambda _: features, kind)(train, valid, test, seed)


def _binary(train: Labelled) -> bool:
    return bool(np.isin(train.targets[~np.isnan(train.targets)], (0, 1)).all())


def _per_column(labels: np.ndarray, fit) -> np.ndarray:
    """Stack `fit(known labels, mask of known rows)` over label columns."""
    columns = []
    for y in labels.T:
        have = ~np.isnan(y)
        columns.append(fit(y[have], have))
    return np.stack(columns, axis=1)


BASELINES: dict[str, Adapter] = {
    "one_hot_ridge": one_hot_ridge,
    "ecfp4_forest": ecfp4_forest,
    "ecfp4_ridge": ecfp4_ridge,
    "letter_counts": letter_counts,
}


def baseline_scores(task: Task, dataset: Dataset, folder: Path) -> dict[str, Score]:
    """The scores of a task's baselines, each computed once.

    They are kept as `*.baseline.json` in `folder`, named by task, baseline and a hash of the
    data and the versions of the libraries that compute them; a file that cannot be read is
    written again.
    """
    versions = "".join(f"{name}{_version(name)}" for name in ("numpy", "scikit-learn", "rdkit"))
    key = hashlib.sha256((dataset.fingerprint() + versions).encode()).hexdigest()[:12]
    scores = {}
    for name in task.baselines:
        path = folder / f"{slug(task.name)}.{name}.{key}.baseline.json"
        try:
            stored = json.loads(path.read_text())
            scores[name] = Score(**stored["score"])
        except (OSError, ValueError, KeyError, TypeError):
            predicted = dataset.predict_tested(BASELINES[name], seed=0)
            scores[name] = score(task.metric, dataset.tested.targets, predicted)
            record = {
                "task": task.name,
                "baseline": name,
                "metric": task.metric,
                "data": dataset.fingerprint(),
                "score": dataclasses.asdict(scores[name]),
            }
            write_whole(path, json.dumps(record, indent=2) + "\n")
    return scores


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
