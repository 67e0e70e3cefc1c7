"""How alike items are, from the features they share: bits of fingerprints, k-mers (`kmers`)."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy import sparse

from biofm_jax.evaluate.molecules import ecfp4

_CELLS = 4_000_000  # scores held at once: 16 MB
_COMMON = 0.1  # a feature of a tenth of all items is multiplied densely
_COMMON_CELLS = 50_000_000  # of the dense features: 200 MB


@dataclasses.dataclass(frozen=True)
class Features:
    """Which features n items have, those of no other item left out.

    Attributes:
        rare: (n, f) 0/1 features that some items share.
        common: (n, c) 0/1 features that many items share.
    """

    rare: sparse.csr_array
    common: np.ndarray

    @classmethod
    def of(cls, owner: np.ndarray, code: np.ndarray, n: int) -> "Features":
        """The features of n items from (item, feature number) pairs, in any order.

        A pair that occurs again is a feature of its own, a third time another: so two items
        that have a feature 5 and 3 times share 3.
        """
        _, code = np.unique(code, return_inverse=True)
        features = int(code.max(initial=0)) + 1
        owner, code = np.divmod(np.sort(owner * np.int64(features) + code), features)
        place = np.arange(len(code))
        begins = np.r_[True, (owner[1:] != owner[:-1]) | (code[1:] != code[:-1])][: len(code)]
        repeat = place - np.maximum.accumulate(np.where(begins, place, 0))
        again = np.flatnonzero(repeat)
        longest = int(repeat.max(initial=0)) + 1
        kinds, kind = np.unique(code[again] * longest + repeat[again], return_inverse=True)
        code[again] = features + kind
        features += len(kinds)

        items = np.bincount(code, minlength=features)
        often = np.flatnonzero(items > max(1, _COMMON * n))
        often = often[np.argsort(-items[often], kind="stable")][: _COMMON_CELLS // max(1, n)]
        column = np.full(features, -1)
        column[often] = np.arange(len(often))
        is_common = column[code] >= 0
        common = np.zeros((n, len(often)), np.float32)
        common[owner[is_common], column[code[is_common]]] = 1
        keep = (items[code] > 1) & ~is_common
        ones = np.ones(int(keep.sum()), np.float32)
        return cls(sparse.csr_array((ones, (owner[keep], code[keep])), (n, features)), common)


@dataclasses.dataclass(frozen=True)
class Similarity:
    """A measure of similarity on n items.

    Attributes:
        name: as printed.
        features: of the items.
        sizes: (n,) float32 features of each item, those of no other item too.
        score: (shared, sizes of rows (r, 1), sizes of columns (1, c)) -> (r, c) float32 scores.
        power: similarity = score ** power.
        feature: what a score counts, as printed beside a similarity that is a power of it.
        floor: the smallest similarity that a pair of items of median size can have without
            being explained by chance.
    """

    name: str
    features: Features
    sizes: np.ndarray
    score: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    power: float = 1.0
    feature: str = ""
    floor: float = 0.0

    def at_least(self, threshold: float) -> str:
        """A threshold in words, with the share of features that it stands for."""
        share = "" if self.power == 1 else f" ({threshold ** (1 / self.power):.0%} {self.feature})"
        return f"{self.name} of {threshold:g} or more{share}"

    def blocks(
        self, rows: np.ndarray, columns: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Scores of some items with others, a block of rows at a time.

        An item's score with itself means nothing: what only it has is not kept.

        Yields:
            (r,) indices from `rows`, and (r, c) float32 scores with the items of `columns`.
        """
        rare, common = self.features.rare, self.features.common
        other_rare, other_common = rare[columns].T.tocsr(), common[columns].T
        step = max(1, _CELLS // max(1, len(columns)))
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            shared = (rare[part] @ other_rare).toarray()
            if common.size:
                shared += common[part] @ other_common
            yield part, self.score(shared, self.sizes[part][:, None], self.sizes[columns][None])

    def nearest(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each item of `rows`, the place in `columns` of the most alike, and how alike."""
        place, best = np.zeros(len(rows), np.int64), np.zeros(len(rows))
        if not len(columns):
            return place, best
        done = 0
        for part, scores in self.blocks(rows, columns):
            there = slice(done, done + len(part))
            place[there] = scores.argmax(1)
            best[there] = scores.max(1)
            done += len(part)
        return place, best**self.power


def ecfp4_similarity(smiles: Sequence[str]) -> Similarity:
    """The Tanimoto similarity of n molecules' ECFP4 bits (2,048 bits, without chirality).

    Molecules of similarity 1 may differ: in stereochemistry, or in how often a pattern occurs
    (cyclopentane and cyclohexane have the same bits).

    Raises:
        UserError: rdkit is missing, or cannot parse a SMILES.
    """
    bits = ecfp4(smiles)

    def tanimoto(shared, rows, columns):
        return shared / np.maximum(rows + columns - shared, 1)

    features = Features.of(*np.nonzero(bits), len(smiles))
    return Similarity("ECFP4 Tanimoto", features, bits.sum(1), tanimoto)
