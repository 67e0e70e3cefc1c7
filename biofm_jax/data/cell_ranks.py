"""Geneformer's rank encoding: a cell becomes its genes, the unusually high ones first."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.sparse

from biofm_jax.data.special_tokens import read_json
from biofm_jax.data.tokenizers import Vocabulary, digest, frame, id_dtype
from biofm_jax.errors import UserError

TARGET = 10_000  # counts of a cell after normalisation
LENGTHS = {False: 2048, True: 4096}  # tokens of a cell without and with <cls> and <eos>: V1, V2
CHUNK = 256  # cells ranked at once, to bound the padded array
TOKENS, MEDIANS = "token_dictionary*.json", "gene_median_dictionary*.json"
# The published dictionaries are pickles, which run code when read: they are never read here, and
# the command that is given makes nothing but NumPy's numbers.
CONVERT = (
    'convert the published .pkl: python -c "import json, pickle; from importlib import '
    "import_module as m; U = type('U', (pickle.Unpickler,), {'find_class': lambda self, a, b: "
    "getattr(m(a), b) if a.split('.')[0] == 'numpy' and b in ('scalar', 'dtype') else "
    "exit('refused: ' + a + '.' + b)}); d = U(open('NAME.pkl', 'rb')).load(); "
    "json.dump({k: v.item() if hasattr(v, 'item') else v for k, v in d.items()}, "
    "open('NAME.json', 'w'))\""
)


@dataclasses.dataclass(frozen=True, eq=False)
class RankEncoding:
    """Genes by expression over what is usual for them (Theodoris et al. 2023, Methods).

    Counts of a cell are divided by its total, multiplied by 10,000 and divided by each gene's
    median of non-zero values over the pretraining corpus; genes that are expressed are listed in
    descending order and cut at `max_tokens`. Equal values keep the order of the columns (the
    published code leaves their order to an unstable sort). Version 1 adds no special token,
    version 2 (a vocabulary with <cls> and <eos>) frames each cell and cuts its genes at
    `max_tokens - 2`.

    Attributes:
        vocabulary: special tokens and Ensembl gene ids.
        medians: (v,) float64, by token id, positive; NaN for special tokens.
        max_tokens: of a cell, special tokens included.
    """

    vocabulary: Vocabulary
    medians: np.ndarray
    max_tokens: int

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {self.vocabulary.tokens[i]: i for i in self.vocabulary.regular}

    def encode_cells(
        self,
        counts: np.ndarray | scipy.sparse.sparray | scipy.sparse.spmatrix,
        genes: Sequence[str],
        totals: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Token ids of cells.

        Args:
            counts: (n, g) raw counts, dense or sparse, not normalised and without selection of
                genes.
            genes: g Ensembl gene ids without version. Genes that the vocabulary lacks are left
                out after they counted for the totals; a gene named twice is summed.
            totals: (n,) counts of each cell over all its genes; None: the sum of its row.

        Returns:
            Ids of all cells one behind the other, smallest uint; (n + 1,) int64 offsets. A cell
            that expresses no known gene has no token but <cls> and <eos>.

        Raises:
            UserError: shapes that do not fit, no known gene, or counts that are negative or not
                finite.
        """
        table = scipy.sparse.csr_array(counts, dtype=np.float64)
        if table.shape[1] != len(genes):
            raise UserError(f"the counts have {table.shape[1]} columns for {len(genes)} genes")
        if not (np.isfinite(table.data).all() and (table.data >= 0).all()):
            wrong = np.flatnonzero(~(np.isfinite(table.data) & (table.data >= 0)))[0]
            cell = int(np.searchsorted(table.indptr, wrong, "right")) - 1
            raise UserError(f"cell {cell} has a count of {table.data[wrong]}; give raw counts")
        totals = table.sum(axis=1) if totals is None else np.asarray(totals, np.float64)
        if totals.shape != (table.shape[0],):
            raise UserError(f"{table.shape[0]} cells have totals of shape {totals.shape}")
        known, tokens = self._columns(genes)
        table = _merged(table, known, len(tokens))
        limit = self.max_tokens - (self.vocabulary.cls >= 0) - (self.vocabulary.eos >= 0)
        medians, dtype = self.medians[tokens], id_dtype(self.vocabulary.size)
        parts, lengths = [np.zeros(0, dtype)], [np.zeros(0, np.int64)]
        for start in range(0, table.shape[0], CHUNK):
            part = table[start : start + CHUNK]
            ranked, kept = _ranked(part, totals[start : start + CHUNK], medians, limit)
            parts.append(tokens[ranked].astype(dtype))
            lengths.append(kept)
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
        return frame(np.concatenate(parts), offsets, self.vocabulary)

    def _columns(self, genes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Place of each gene among the known ones, -1 for others; (k,) token ids of those."""
        places: dict[int, int] = {}
        found = [self._ids.get(gene, -1) for gene in genes]
        known = [places.setdefault(i, len(places)) if i >= 0 else -1 for i in found]
        if not places:
            raise UserError(
                f"none of {len(genes)} genes ({', '.join(genes[:3])}, ...) is in the vocabulary; "
                "name them by Ensembl id without version, as ENSG00000141510"
            )
        return np.array(known), np.array(list(places))

    def decode(self, ids: np.ndarray) -> list[str]:
        """The genes of ids, specials left out."""
        special, tokens = set(self.vocabulary.special), self.vocabulary.tokens
        return [tokens[i] for i in np.asarray(ids).tolist() if i not in special]

    def fingerprint(self) -> str:
        """Hex digits that change when the same cell would get other ids."""
        medians = [None if np.isnan(value) else float(value) for value in self.medians]
        return digest(["ranks", self.vocabulary.fingerprint(), medians, self.max_tokens])


def _merged(
    table: scipy.sparse.csr_array, places: np.ndarray, count: int
) -> scipy.sparse.csr_array:
    """(n, count) the known genes' counts, in the order in which they first stand."""
    keep = places[table.indices] >= 0
    kept = np.concatenate([[0], np.cumsum(keep)])
    columns = places[table.indices[keep]]
    merged = scipy.sparse.csr_array(
        (table.data[keep], columns, kept[table.indptr]), (table.shape[0], count)
    )
    merged.sum_duplicates()  # sorts each row's columns too
    merged.eliminate_zeros()
    return merged


def _ranked(
    table: scipy.sparse.csr_array, totals: np.ndarray, medians: np.ndarray, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Columns of all cells in descending order, at most `limit` each; (n,) how many."""
    lengths = np.diff(table.indptr)
    row = np.repeat(np.arange(table.shape[0]), lengths)
    place = np.arange(len(table.data)) - np.repeat(table.indptr[:-1], lengths)
    # The order of operations is that of the published code, so that ties round alike.
    values = table.data / totals[row] * TARGET / medians[table.indices]
    wide = np.full((table.shape[0], max(lengths, default=0)), np.inf)
    wide[row, place] = -values
    order = _stable_order(wide, lengths)
    kept = np.minimum(lengths, limit)
    inside = np.arange(wide.shape[1]) < kept[:, None]
    return table.indices[(table.indptr[:-1, None] + order)[inside]], kept.astype(np.int64)


def _stable_order(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """(n, w) ascending order of each row's first `lengths` values, equal ones by place.

    numpy's vectorised sort is several times as fast as its stable one, and equal values are few.
    """
    order = np.argsort(values, axis=1)
    ranked = np.take_along_axis(values, order, axis=1)
    same = np.zeros(values.shape, bool)  # as the value before it
    same[:, 1:] = ranked[:, 1:] == ranked[:, :-1]
    same &= np.arange(values.shape[1]) < lengths[:, None]
    tied = same.copy()
    tied[:, :-1] |= same[:, 1:]
    group = np.cumsum(~same[tied])
    places = order[tied]
    order[tied] = places[np.lexsort((places, group))]
    return order


def read_rank_encoding(folder: str | Path, max_tokens: int = 0) -> RankEncoding:
    """The encoding of a folder with Geneformer's two dictionaries as JSON.

    Args:
        folder: holds `token_dictionary*.json` (gene or special token to id) and
            `gene_median_dictionary*.json` (gene to median), one of each.
        max_tokens: of a cell; 0 takes 2048, or 4096 if the vocabulary has <cls> and <eos>.

    Raises:
        UserError: a file is missing or more than one fits, ids are not 0 to v - 1, or a gene has
            no positive median.
    """
    folder = Path(folder)
    tokens, medians = _read(folder, TOKENS), _read(folder, MEDIANS)
    if sorted(tokens.values()) != list(range(len(tokens))):
        raise UserError(f"{folder / TOKENS}: ids are not 0 to {len(tokens) - 1}, each once")
    vocabulary = Vocabulary.of(tuple(sorted(tokens, key=tokens.get)))
    values = np.full(len(tokens), np.nan)
    for i in vocabulary.regular:
        gene = vocabulary.tokens[i]
        if not isinstance(medians.get(gene), int | float) or not medians[gene] > 0:
            raise UserError(f"{folder / MEDIANS}: no positive median of {gene}, which has a token")
        values[i] = medians[gene]
    framed = vocabulary.cls >= 0 and vocabulary.eos >= 0
    return RankEncoding(vocabulary, values, max_tokens or LENGTHS[framed])


def _read(folder: Path, pattern: str) -> dict:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        what = f"{len(found)} files fit" if found else "missing"
        raise UserError(f"{folder / pattern}: {what}; keep one. To make it, {CONVERT}")
    return read_json(found[0])
