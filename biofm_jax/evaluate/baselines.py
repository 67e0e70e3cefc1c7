"""The simple methods that stand beside every model: regressions on one-hot, fingerprints, counts.

Each is an adapter: it fits, and predicts the test items. All are deterministic.
"""

import functools
from collections.abc import Sequence

import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import Ridge

from biofm_jax.adapt.labelled import Adapter, Labelled
from biofm_jax.adapt.probe import probe_adapter
from biofm_jax.errors import UserError
from biofm_jax.evaluate.baselines_affinity import AFFINITY_BASELINES
from biofm_jax.evaluate.baselines_descriptors import DESCRIPTOR_BASELINES
from biofm_jax.evaluate.baselines_graph import GRAPH_BASELINES
from biofm_jax.evaluate.baselines_imaging import IMAGE_BASELINES
from biofm_jax.evaluate.baselines_residue import RESIDUE_BASELINES
from biofm_jax.evaluate.baselines_text import TEXT_BASELINES
from biofm_jax.evaluate.baselines_variants import VARIANT_BASELINES
from biofm_jax.evaluate.molecules import ecfp4

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
FOREST_TREES = 300
RIDGE_STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)
RIDGE_UNCHOSEN = 10.0  # the middle one, where there is no validation label to choose by


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
    x_test, binary = ecfp4(test.texts), _binary(train)

    def fit(y, have):
        if len(np.unique(y)) == 1:
            return np.full(len(test), y[0])
        texts = tuple(train.texts[i] for i in np.flatnonzero(have))
        model = _forest(texts, tuple(y.tolist()), binary)
        return model.predict_proba(x_test)[:, 1] if binary else model.predict(x_test)

    return _per_column(train.targets, fit)


# The validation part changes nothing in a forest, so the adaptation that does without half of it
# (`recalibration`) is the same forest.
@functools.lru_cache(maxsize=1)
def _forest(texts: tuple[str, ...], labels: tuple[float, ...], binary: bool):
    if binary:
        model = RandomForestClassifier(
            FOREST_TREES, class_weight="balanced", random_state=0, n_jobs=-1
        )
    else:
        model = RandomForestRegressor(FOREST_TREES, random_state=0, n_jobs=-1)
    model.fit(ecfp4(texts), np.array(labels))
    model.n_jobs = 1  # threads would add the trees up in any order
    return model


def ecfp4_ridge(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
    """Ridge regression on ECFP4 bits, its penalty chosen on the validation part.

    Without a validation label, as in few-shot learning, the penalty is 10. The bits are not
    standardised: that would blow up the rare ones.
    """
    x, x_valid, x_test = (ecfp4(part.texts).astype(np.float64) for part in (train, valid, test))
    columns = []
    for y, y_valid in zip(train.targets.T, valid.targets.T):
        have, valid_have = ~np.isnan(y), ~np.isnan(y_valid)
        if not valid_have.any():
            columns.append(Ridge(RIDGE_UNCHOSEN).fit(x[have], y[have]).predict(x_test))
            continue
        # One target for each penalty: the products of the features are made once for all.
        targets = np.repeat(y[have][:, None], len(RIDGE_STRENGTHS), axis=1)
        model = Ridge(RIDGE_STRENGTHS).fit(x[have], targets)
        misses = model.predict(x_valid[valid_have]) - y_valid[valid_have][:, None]
        best = int(np.argmin(np.mean(misses**2, axis=0)))
        columns.append(model.predict(x_test)[:, best])
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
    **DESCRIPTOR_BASELINES,
    **AFFINITY_BASELINES,
    **TEXT_BASELINES,
    **GRAPH_BASELINES,
    **IMAGE_BASELINES,
    **RESIDUE_BASELINES,
    **VARIANT_BASELINES,
}
