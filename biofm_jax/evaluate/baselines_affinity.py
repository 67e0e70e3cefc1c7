"""Simple methods beside models of drug-target affinity: what drug and protein are on average, and
kernel regression on fingerprints and 3-mers."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.adapt.pair_probe import numbered, remembered
from biofm_jax.evaluate.molecules import ecfp4

ROUNDS = 300  # of alternating means
STEPS = 100  # of conjugate gradients
PATIENCE = 10  # steps without a lower validation error
RIDGE = 0.1  # beside the largest possible kernel value, 1


def additive_means(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
    """The mean, plus what the drug and plus what the protein differs from it, by least squares.

    Nothing is chosen, so the validation pairs train as well. A drug or protein that no training
    pair has differs by nothing.
    """
    _, drug = numbered((train, valid, test), 0)
    _, target = numbered((train, valid, test), 1)
    y = np.concatenate([train.targets, valid.targets])[:, 0]
    known = ~np.isnan(y)
    rows, columns = (np.concatenate(side[:2])[known] for side in (drug, target))
    y = y[known]
    m, n = (max(part.max(initial=0) for part in side) + 1 for side in (drug, target))
    mean, of_drug, of_target = y.mean(), np.zeros(m), np.zeros(n)
    for _ in range(ROUNDS):
        of_drug = _means(rows, y - mean - of_target[columns], m)
        of_target = _means(columns, y - mean - of_drug[rows], n)
    return (mean + of_drug[drug[2]] + of_target[target[2]])[:, None]


def _means(group: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    counts = np.bincount(group, minlength=size)
    return np.bincount(group, values, size) / np.maximum(counts, 1)


def kronecker_ridge(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
    """Kernel ridge regression on pairs, the kernel of two pairs being that of their drugs times
    that of their proteins (KronRLS; Pahikkala et al. 2015, doi 10.1093/bib/bbu010).

    Drugs: Tanimoto similarity of ECFP4 bits; proteins: cosine of their counts of 3-mers. Solved by
    conjugate gradients that are stopped where the error on the validation pairs is lowest (Airola
    and Pahikkala 2018, doi 10.1109/TNNLS.2017.2727545), after 30 steps without validation pairs.
    A step is two products of matrices over all drugs x proteins (the "vec trick"), whatever pairs
    were measured; it says every pair's prediction.
    """
    smiles, drug = numbered((train, valid, test), 0)
    sequences, target = numbered((train, valid, test), 1)
    drugs, proteins = tanimoto(ecfp4(smiles)), kmer_cosine(sequences)
    y = train.targets[:, 0]
    known = ~np.isnan(y)
    rows, columns = drug[0][known], target[0][known]
    mean = y[known].mean()
    y = y[known] - mean
    checked = valid.targets[:, 0] - mean

    def spread(weights: np.ndarray) -> np.ndarray:
        """(m, n) of the kernel with all pairs, times the weights of training pairs."""
        table = np.zeros((len(drugs), len(proteins)))
        np.add.at(table, (rows, columns), weights)
        return drugs @ table @ proteins

    fitted = np.zeros((len(drugs), len(proteins)))
    best, lowest, since = fitted, np.inf, 0
    residual = y.copy()
    direction, size = residual.copy(), residual @ residual
    for step in range(STEPS):
        if size <= 1e-12 * (y @ y):
            break
        whole = spread(direction)
        image = whole[rows, columns] + RIDGE * direction
        length = size / (direction @ image)
        fitted = fitted + length * whole
        residual -= length * image
        error = np.nanmean((fitted[drug[1], target[1]] - checked) ** 2) if len(valid) else -step
        if error < lowest:
            best, lowest, since = fitted, error, 0
        elif (since := since + 1) == PATIENCE:
            break
        if not len(valid) and step == 29:
            break
        size, before = residual @ residual, size
        direction = residual + size / before * direction
    return (mean + best[drug[2], target[2]])[:, None]


def tanimoto(bits: np.ndarray) -> np.ndarray:
    """(m, m) float64 similarities of (m, b) fingerprint bits."""
    bits = bits.astype(np.float64)
    shared, sizes = bits @ bits.T, bits.sum(1)
    return shared / np.maximum(sizes[:, None] + sizes - shared, 1)


def kmer_cosine(texts: Sequence[str], k: int = 3) -> np.ndarray:
    """(n, n) float64 cosines of the counts of k-mers of n sequences of at least k letters."""
    column: dict[str, int] = {}
    counts = [Counter(t[i : i + k] for i in range(len(t) - k + 1)) for t in texts]
    for found in counts:
        for kmer in found:
            column.setdefault(kmer, len(column))
    table = np.zeros((len(texts), len(column)))
    for row, found in zip(table, counts, strict=True):
        row[[column[kmer] for kmer in found]] = list(found.values())
    table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)
    return table @ table.T


AFFINITY_BASELINES = {
    "additive_means": additive_means,
    "kronecker_ridge": remembered(kronecker_ridge),
}
