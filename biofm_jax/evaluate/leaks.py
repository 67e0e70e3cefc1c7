"""The leak report of a data set: what the test items share with those learned from.

The records are in `leak_records`; `leak_text.leak_lines` renders them.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from biofm_jax.data.pictures import Picture
from biofm_jax.errors import UserError
from biofm_jax.evaluate.canonical import CANONICAL
from biofm_jax.evaluate.kmers import KMERS, kmer_similarity
from biofm_jax.evaluate.leak_records import (
    Conflict,
    Exact,
    LeakReport,
    Match,
    Near,
    Repeats,
    SharedGroups,
)
from biofm_jax.evaluate.near_pictures import picture_similarity
from biofm_jax.evaluate.revealing import revealing_columns
from biofm_jax.evaluate.similarity import ecfp4_similarity
from biofm_jax.evaluate.split_groups import is_missing
from biofm_jax.evaluate.task import Dataset
from biofm_jax.evaluate.variants import fewest_mutations, mutation_matrix

NEAR = 0.9
CONFLICT = 0.1  # standard deviations of the label; any two classes differ by more
EXAMPLES = 5


def leak_report(
    data: Dataset,
    modality: str,
    *,
    classes: bool = False,
    canonical: Callable[[str], str] | None = None,
    near: float = NEAR,
    groups: Mapping[str, Sequence[Hashable]] | None = None,
    columns: Mapping[str, Sequence] | None = None,
) -> LeakReport:
    """Look for leaks between the parts of a data set.

    Every fold's test items are compared with its training and validation items; the numbers are
    over all items that some fold tests.

    Args:
        data: items and folds.
        modality: of the texts: chooses their canonical form (`canonical.CANONICAL`) and the
            measure of similarity (ECFP4 Tanimoto for molecules, estimated identity by k-mers for
            sequences and prose, differences of brightness for pictures, none otherwise).
        classes: whether the numbers of a label are classes.
        canonical: text -> the form in which equal items are equal, if not the modality's.
        near: similarity from which on items are near duplicates.
        groups: column name -> n groups that should not be on both sides, blank = unknown.
        columns: column name -> n cells of metadata.

    Raises:
        UserError: molecules without rdkit, or a SMILES that it cannot parse; a column that does
            not have a cell for each item.
    """
    for key, cells in [*(groups or {}).items(), *(columns or {}).items()]:
        if len(cells) != len(data.items):
            raise UserError(f"column {key} has {len(cells)} cells for {len(data.items)} items")
    form, name = CANONICAL.get(modality, (str, "text as it is"))
    if canonical is not None:
        form, name = canonical, "canonical form"
    texts = [form(text) for text in data.items.texts]
    number: dict[str, int] = {}
    same = np.array([number.setdefault(text, len(number)) for text in texts], np.int64)
    tested = sum(len(fold.test) for fold in data.folds)
    exact, rest = _exact(data, same)
    alike, mutations = _near(data, modality, form, texts, rest, near)
    return LeakReport(
        modality=modality,
        items=len(texts),
        tested=tested,
        variants=data.wild_type is not None,
        exact=Exact(name, len(exact), len(exact) / tested, tuple(exact[:EXAMPLES])),
        repeats=_repeats(data, same, classes),
        near=alike,
        mutations=mutations,
        groups=tuple(_shared(data, key, cells) for key, cells in (groups or {}).items()),
        checked=tuple(columns or ()),
        revealing=revealing_columns(columns or {}, data.items.targets, data.columns, classes),
    )


def _match(data: Dataset, fold, test: int, seen: int, similarity: float) -> Match:
    ids = data.items.ids
    part = "valid" if seen in fold.valid else "train"
    return Match(ids[test], ids[seen], part, float(similarity))


def _exact(data: Dataset, same: np.ndarray) -> tuple[list[Match], list[np.ndarray]]:
    """All exact matches, and each fold's test items that have none."""
    matches, rest = [], []
    for fold in data.folds:
        seen = np.concatenate([fold.train, fold.valid]).astype(np.int64)
        first = np.full(same.max() + 1, -1)
        first[same[seen[::-1]]] = seen[::-1]  # of several the first is kept
        equal = first[same[fold.test]]
        rest.append(fold.test[equal < 0])
        matches += [
            _match(data, fold, test, other, 1.0)
            for test, other in zip(fold.test, equal)
            if other >= 0
        ]
    return matches, rest


def _near(data, modality, form, texts, rest, threshold):
    """The near duplicates, and the shares of test items by mutations from the nearest."""
    if modality == "molecule":
        similarity = ecfp4_similarity(data.items.texts)
    elif modality in KMERS:
        similarity = kmer_similarity(texts, KMERS[modality])
    elif all(isinstance(text, Picture) for text in data.items.texts):
        similarity = picture_similarity(data.items.texts)
    else:
        return None, ()
    wild = None if data.wild_type is None else form(data.wild_type)
    mutations = None if wild is None else mutation_matrix(texts, wild)
    best, apart, found = [], [], []
    for fold, test in zip(data.folds, rest):
        seen = np.concatenate([fold.train, fold.valid])
        place, alike = similarity.nearest(test, seen)
        near = np.flatnonzero(alike >= threshold - 1e-6)
        best += [alike, np.ones(len(fold.test) - len(test))]
        found += [(alike[i], fold, test[i], seen[place[i]]) for i in near]
        if mutations is not None:
            apart.append(fewest_mutations(mutations, len(wild), fold.test, seen))
    best = np.concatenate(best)
    found.sort(key=lambda row: -row[0])
    examples = tuple(_match(data, fold, i, j, s) for s, fold, i, j in found[:EXAMPLES])
    count = len(found)
    median = float(np.median(best))
    alike = Near(
        similarity.at_least(threshold), threshold, count, count / len(best), median, examples
    )
    if mutations is None:
        return alike, ()
    steps, counts = np.unique(np.concatenate(apart), return_counts=True)
    return alike, tuple((int(s), float(c / len(best))) for s, c in zip(steps, counts))


def _repeats(data: Dataset, same: np.ndarray, classes: bool) -> Repeats:
    counts = np.bincount(same)
    order = np.argsort(same, kind="stable")
    sets = [g for g in np.split(order, counts.cumsum()[:-1]) if len(g) > 1]
    targets = data.items.targets
    conflicts, across = [], set()
    for k, column in enumerate(data.columns):
        known = ~np.isnan(targets[:, k])
        scale = float(targets[known, k].std()) if known.any() else 0.0
        for members in sets:
            labels = targets[members, k]
            have, labels = members[~np.isnan(labels)], labels[~np.isnan(labels)]
            apart = 0 if classes else CONFLICT * scale
            if len(labels) > 1 and np.ptp(labels) > apart:
                if _across(data, have, labels, apart):
                    across.add(members[0])
                ids = tuple(data.items.ids[i] for i in members)
                row = Conflict(ids, column, float(labels.min()), float(labels.max()))
                conflicts.append((np.ptp(labels) / scale, members[0], row))
    conflicts.sort(key=lambda row: -row[0])
    return Repeats(
        items=sum(map(len, sets)),
        groups=len(sets),
        conflicts=len({first for _, first, _ in conflicts}),
        examples=tuple(row for _, _, row in conflicts[:EXAMPLES]),
        across=len(across),
    )


def _across(data: Dataset, members: np.ndarray, labels: np.ndarray, apart: float) -> bool:
    """Whether, in some fold, the label of a test item is further than `apart` from a seen one's."""
    for fold in data.folds:
        tested = labels[np.isin(members, fold.test)]
        seen = labels[np.isin(members, np.concatenate([fold.train, fold.valid]))]
        if (np.abs(tested[:, None] - seen) > apart).any():
            return True
    return False


def _shared(data: Dataset, column: str, cells: Sequence[Hashable]) -> SharedGroups:
    number = {value: i for i, value in enumerate(dict.fromkeys(cells)) if not is_missing(value)}
    code = np.array([-1 if is_missing(value) else number[value] for value in cells])
    names = {i: str(value) for value, i in number.items()}
    hits, tested = [], []
    for fold in data.folds:
        test = code[fold.test]
        tested.append(test[test >= 0])
        seen = code[np.concatenate([fold.train, fold.valid])]
        hits.append(test[(test >= 0) & np.isin(test, seen)])
    hits, tested = np.concatenate(hits), np.concatenate(tested)
    groups, sizes = np.unique(hits, return_counts=True)
    largest = groups[np.argsort(-sizes, kind="stable")][:EXAMPLES]
    total = sum(len(fold.test) for fold in data.folds)
    return SharedGroups(
        column=column,
        tested=len(np.unique(tested)),
        shared=len(groups),
        count=len(hits),
        share=len(hits) / total,
        examples=tuple(names[i] for i in largest),
    )
