"""A simple method beside models of single mutants: which residue was lost, and which gained."""

import numpy as np
from sklearn.linear_model import Ridge

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.errors import UserError


def substitution_ridge(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
    """Ridge regression (penalty 1) on how often each residue was lost and gained, wherever.

    It knows nothing of places, so it says something of sites that no training variant mutates,
    where one-hot residues say nothing. Validation rows train as well; nothing is chosen. A 0/1
    label is fitted as a number: the prediction orders, it is no probability.

    Raises:
        UserError: the sequences differ in length.
    """
    x = substitutions((*train.texts, *valid.texts, *test.texts))
    first = len(train) + len(valid)
    columns = []
    for labels in np.concatenate([train.targets, valid.targets]).T:
        have = ~np.isnan(labels)
        columns.append(Ridge(1.0).fit(x[:first][have], labels[have]).predict(x[first:]))
    return np.stack(columns, axis=1)


def substitutions(texts: tuple[str, ...]) -> np.ndarray:
    """(n, 2 r) float64: how often each of r residues was lost, and was gained.

    Against the most frequent residue at each place, which is that of the wild type where few of
    the variants mutate any one place.

    Raises:
        UserError: the sequences differ in length.
    """
    if len({len(text) for text in texts}) > 1:
        raise UserError("substitutions can be told in sequences of one length")
    letters = np.frombuffer("".join(texts).encode("ascii"), np.uint8).reshape(len(texts), -1)
    residues = np.unique(letters)
    counts = np.stack([(letters == residue).sum(0) for residue in residues])
    usual = residues[counts.argmax(0)]
    changed = letters != usual
    lost = [(changed & (usual == residue)).sum(1) for residue in residues]
    gained = [(changed & (letters == residue)).sum(1) for residue in residues]
    return np.stack(lost + gained, axis=1).astype(np.float64)


VARIANT_BASELINES = {"substitution_ridge": substitution_ridge}
