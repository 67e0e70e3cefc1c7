"""The records of an input file: checked once, then read in parts of bounded size."""

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from biofm_jax.adapt.embed_stream import Graphs, Sequences
from biofm_jax.data.bad_records import BadRecords, BadText
from biofm_jax.data.readers import Record, read_records
from biofm_jax.data.sequence import SequenceData
from biofm_jax.data.token_store import text_hash
from biofm_jax.data.tokenizers import Tokenizer
from biofm_jax.errors import UserError

BLOCK = 4096  # records checked at a time
MOST = 1 << 16  # records of a part, however short
NAMED = 5  # sequences that an error message spells out


@dataclasses.dataclass(frozen=True)
class Source:
    """A file, read as many times as needed with memory for one part only.

    Attributes:
        path: the file.
        data: cleans and tokenizes.
        column: of a table, with the text; empty takes the first known name.
        id_column: of a table, with the id; empty takes a known name or the line number.
    """

    path: Path
    data: SequenceData
    column: str = ""
    id_column: str = ""

    def records(self, bad: BadRecords) -> Iterator[Record]:
        """All records of the file as it has them, those with a repeated id too."""
        return read_records(
            self.path,
            self.data.kind,
            bad,
            column=self.column,
            id_column=self.id_column,
            unique=False,
        )

    def parts(self, letters: int, leave_out: frozenset[int]) -> Iterator[list[Record]]:
        """Records in order, a part at a time; the same parts on every call.

        Args:
            letters: of a part of more than one record, at most.
            leave_out: lines of records that are bad.
        """
        part: list[Record] = []
        size = 0
        for record in self.records(BadRecords(str(self.path))):
            if record.line in leave_out:
                continue
            if part and (size + len(record.text) > letters or len(part) == MOST):
                yield part
                part, size = [], 0
            part.append(record)
            size += len(record.text)
        if part:
            yield part

    def tokenized(self, part: list[Record]) -> Sequences:
        """Ids of good records, or graphs."""
        texts = [self.data.clean(record.text) for record in part]
        sequences = encoded(self.data.tokenizer(), texts)
        if self.data.shapes(1).graph is None:
            return sequences
        graphs = tuple(map(self.data.to_example(), texts))
        return Graphs(sequences.ids, sequences.offsets, graphs)


def encoded(tokenizer: Tokenizer, texts: list[str]) -> Sequences:
    """Ids of texts, with cls and eos."""
    return Sequences(*tokenizer.encode_many(texts))


def one_ahead(items: Iterator) -> Iterator:
    """The items, each made in a thread while the one before it is used."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item


@dataclasses.dataclass(frozen=True)
class Survey:
    """What a file holds.

    Attributes:
        records: good ones.
        tokens: of these, cls and eos included.
        longest: tokens of the longest.
        long: how many are longer than a row.
        bad: lines of the bad ones.
    """

    records: int
    tokens: int
    longest: int
    long: int
    bad: tuple[int, ...]


def survey(
    source: Source, room: int, *, tolerance: float, listing: Path | None, refuse_long: bool
) -> Survey:
    """Check every record of a file before a model sees the first.

    Args:
        source: the file.
        room: tokens of the longest row.
        tolerance: share of bad records, 0 to 1, with which to go on.
        listing: file that gets the list of bad records, if there are any.
        refuse_long: whether a sequence longer than a row is an error.

    Raises:
        UserError: the file cannot be read, holds no good record or too many bad ones, or a
            sequence is too long.
    """
    bad, ids, tokenizer = BadRecords(str(source.path)), SeenIds(), source.data.tokenizer()
    records = tokens = longest = count_long = 0
    named: list[str] = []
    good: list[tuple[Record, str]] = []

    def count() -> None:
        nonlocal records, tokens, longest, count_long
        fresh = []
        first = ids.add([record.id for record, _ in good], [record.line for record, _ in good])
        for (record, text), line in zip(good, first.tolist()):
            if line != record.line:
                reason = f"id {record.id!r} stands already on line {line}"
                bad.add(record.line, reason, "make ids unique or drop the row")
            else:
                fresh.append((record, text))
        good.clear()
        lengths = encoded(tokenizer, [text for _, text in fresh]).lengths()
        records += len(fresh)
        tokens += int(lengths.sum())
        longest = max(longest, int(lengths.max(initial=0)))
        over = np.flatnonzero(lengths > room)
        count_long += len(over)
        for index in over[: NAMED - len(named)].tolist():
            record = fresh[index][0]
            named.append(f"line {record.line}, {record.id}: {lengths[index]} tokens")

    size = 0
    for record in source.records(bad):
        try:
            good.append((record, source.data.clean(record.text)))
        except BadText as error:
            bad.add(record.line, error.reason, error.fix)
            continue
        size += len(record.text)
        if len(good) == BLOCK or size > 1 << 24:
            count()
            size = 0
    count()
    bad.records.sort(key=lambda each: each.line)
    bad.check(records, tolerance, listing)
    if bad.records and listing is not None:
        bad.write(listing)
    if refuse_long and count_long:
        raise UserError(
            "\n  ".join([f"{source.path}: {count_long} sequences are longer than {room}", *named])
            + "\nuse --long window or --long truncate, or drop them"
        )
    lines = tuple(each.line for each in bad.records)
    return Survey(records, tokens, longest, count_long, lines)


class SeenIds:
    """Which ids stood where before, in 16 bytes for each.

    An id is known by 64 bits of its hash: of ten million different ones, two are taken for the
    same with a probability of 3 in a million.
    """

    def __init__(self):
        # Sorted runs of hashes with their lines, each at most half as long as the one before.
        self._runs: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, ids: list[str], lines: list[int]) -> np.ndarray:
        """(n,) int64 the line on which each id stood first; its own where it is new."""
        if not ids:
            return np.zeros(0, np.int64)
        hashes, own = (
            np.array([text_hash(each) for each in ids], np.uint64),
            np.array(lines, np.int64),
        )
        new, at, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        first = own[at]
        known = np.zeros(len(new), bool)
        for run, run_lines in self._runs:
            place = np.minimum(np.searchsorted(run, new), len(run) - 1)
            found = run[place] == new
            first[found], known = run_lines[place[found]], known | found
        self._push(new[~known], first[~known])
        return first[inverse]

    def _push(self, hashes: np.ndarray, lines: np.ndarray) -> None:
        if not len(hashes):
            return
        while self._runs and len(self._runs[-1][0]) < 2 * len(hashes):
            run, run_lines = self._runs.pop()
            hashes, lines = np.concatenate([run, hashes]), np.concatenate([run_lines, lines])
        order = np.argsort(hashes)
        self._runs.append((hashes[order], lines[order]))
