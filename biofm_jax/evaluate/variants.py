"""How many mutations lie between the variants of one wild type."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

_CELLS = 4_000_000  # distances held at once: 16 MB


def mutation_matrix(texts: Sequence[str], wild_type: str) -> sparse.csr_array | None:
    """Which residue each variant has at each place where it differs from the wild type.

    Args:
        texts: n variants.
        wild_type: their wild type.

    Returns:
        (n, 20-odd letters x length) 0/1, column = place x letters + letter; None if a variant
        is shorter or longer: only substitutions can be counted without an alignment.
    """
    if any(len(text) != len(wild_type) for text in texts):
        return None
    letters = np.frombuffer("".join((*texts, wild_type)).encode("utf-32-le"), np.uint32)
    letters = letters.reshape(len(texts) + 1, -1)
    names, codes = np.unique(letters, return_inverse=True)
    codes = codes.reshape(letters.shape)
    row, place = np.nonzero(letters[:-1] != letters[-1])
    column = place * len(names) + codes[row, place]
    shape = (len(texts), len(names) * letters.shape[1])
    return sparse.csr_array((np.ones(len(row), np.float32), (row, column)), shape=shape)


def fewest_mutations(
    mutations: sparse.csr_array, length: int, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """For each variant of `rows`, the fewest substitutions that make it one of `columns`.

    Two variants differ at the places where either is mutated, less those where both have the
    same mutation: |A| + |B| - shared places - shared mutations.

    Args:
        mutations: from `mutation_matrix`.
        length: of the wild type.
        rows: (r,) indices.
        columns: (c,) indices, at least one.

    Returns:
        (r,) int64 numbers of substitutions.
    """
    row, column = mutations.nonzero()
    letters = mutations.shape[1] // max(1, length)
    places = sparse.csr_array(
        (np.ones(len(row), np.float32), (row, column // letters)),
        shape=(mutations.shape[0], length),
    )
    counts = mutations.sum(1)
    both = sparse.hstack([mutations, places], format="csr")
    other = both[columns].T.tocsr()
    step = max(1, _CELLS // len(columns))
    fewest = []
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        apart = counts[part][:, None] + counts[columns][None] - (both[part] @ other).toarray()
        fewest.append(apart.min(1))
    return np.concatenate([np.zeros(0), *fewest]).astype(np.int64)
