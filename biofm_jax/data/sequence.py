"""What all sequence modalities share: a file becomes tokens, tokens become packed batches."""

import abc
import dataclasses
import os
from collections.abc import Callable, Iterator, Sized
from pathlib import Path

import numpy as np

from biofm_jax.data.api import ExampleData, Lengths
from biofm_jax.data.bad_records import tolerance_advice
from biofm_jax.data.batch import Batch, batch_shapes
from biofm_jax.data.pipeline import BatchIterator, RowBuilder, split_batches
from biofm_jax.data.progress import track
from biofm_jax.data.sources import Prepared, cache_folder, open_prepared, prepare_records
from biofm_jax.data.token_store import TokenStore, open_store
from biofm_jax.data.tokenizers import Tokenizer, Vocabulary
from biofm_jax.errors import UserError
from biofm_jax.files import refuse_address


@dataclasses.dataclass(frozen=True)
class SequenceData(ExampleData):
    """Sequences of a file, packed into rows."""

    path: str = ""
    """A file of records, or a folder that `biofm data prepare` made; `$BIOFM_DATA/...` is
    expanded."""
    max_tokens: int = 1024
    """Tokens of a row (t). Longer sequences take part as a random window of this length."""
    segments: int = 16
    """Most examples packed into a row (s)."""
    pack: bool = True
    """Pack several examples into a row; without it each row holds one."""
    holdout: float = 0.01
    """Share of records kept for the validation loss, by hash of the record: exact duplicates
    stay on one side."""
    tolerance: float = 0.0
    """Share of bad records with which a run goes on; all are listed in any case."""
    column: str = ""
    """Column of a table that holds the text; empty takes the first known name."""
    views: int = 0
    """Random texts kept of each record for contrastive pairs; 0 keeps the record alone."""
    fraction: float = 1.0
    """Share of the training records that is used, by hash of the record: a smaller share is part
    of a larger one, and the held-out records stay the same."""
    tokenizer_path: str = ""
    """A folder with the tokenizer files of a published model; empty takes the modality's own.
    `$NAME/...` is expanded."""
    tokenizer_family: str = ""
    """How sequences are written for that tokenizer (protbert, progen2, protgpt2, ...); empty
    tells it by the vocabulary, `plain` takes the text as it is."""

    def __post_init__(self):
        if self.views == 1 or self.views < 0:
            raise UserError(f"views is {self.views}; a pair needs at least 2, none is 0")
        if not 0 <= self.holdout < 1 or not 0 <= self.tolerance < 1:
            raise UserError(
                f"holdout is {self.holdout} and tolerance {self.tolerance}; "
                "each is a share, at least 0 and below 1"
            )
        if not 0 < self.fraction <= 1:
            raise UserError(f"data.fraction is {self.fraction}; it must lie in (0, 1]")
        if self.max_tokens < 1 or self.segments < 1:
            raise UserError(
                f"max_tokens is {self.max_tokens} and segments {self.segments}; use 1 or more"
            )
        if self.tokenizer_family and not self.tokenizer_path:
            raise UserError(
                f"data.tokenizer_family is {self.tokenizer_family}, but data.tokenizer_path is "
                "empty; name the folder of that tokenizer"
            )

    def tokenizer(self) -> Tokenizer:
        """The published tokenizer that `tokenizer_path` names, else the modality's own.

        Raises:
            UserError: as `published_tokenizers.load_tokenizer`.
        """
        if not self.tokenizer_path:
            return self.own_tokenizer()
        from biofm_jax.data.published_tokenizers import load_tokenizer

        return load_tokenizer(
            expanded(self.tokenizer_path, "data.tokenizer_path"), self.tokenizer_family or None
        )

    @property
    def vocabulary(self) -> Vocabulary:
        """Of the tokenizer."""
        return self.tokenizer().vocabulary

    @property
    def spare_rows(self) -> bool:
        """Published embeddings may have more rows than tokens (ESM C: 64 for 33)."""
        return bool(self.tokenizer_path)

    def lengths(self) -> Lengths:
        """See `DataSpec`; the records are prepared if that was never done."""
        taken = np.minimum(self.open().lengths(), self.max_tokens).astype(np.float64)
        return Lengths(
            attended=float((taken * taken).sum() / taken.sum()),
            fill=1.0 if self.pack else float(taken.mean() / self.max_tokens),
        )

    @abc.abstractmethod
    def own_tokenizer(self) -> Tokenizer:
        """The tokenizer of this modality."""

    @abc.abstractmethod
    def clean(self, text: str) -> str:
        """The text to keep of a record; raises `BadText` for one that cannot be used."""

    def random_texts(self, texts: list[str], count: int) -> list[list[str]]:
        """`count` other ways to write each record, the same on every call."""
        raise UserError(f"{self.kind} has no views of a record; set data.views to 0")

    def source_path(self) -> Path:
        """The file or folder that `path` names.

        Raises:
            UserError: `path` is empty, or uses an environment variable that is not set.
        """
        if not self.path:
            raise UserError("data.path is empty; name a file with --data.path FILE")
        return expanded(self.path, "data.path")

    def to_example(self) -> Callable[[str], Sized]:
        """What makes of a cleaned text that which is packed: (t,) int32 ids, or a graph."""
        return self.tokenizer().encode

    def shapes(self, rows: int, paired: bool = False) -> Batch:
        """The shapes of a batch of so many rows; `paired`: with a second view."""
        segments = self.segments if self.pack else 1
        return batch_shapes(rows, self.max_tokens, segments, paired=paired)

    def row_builder(self, store: TokenStore, batch_size: int, seed: int) -> RowBuilder:
        """What builds batches of `batch_size` rows from visits of the store's records."""
        segments = self.segments if self.pack else 1
        return RowBuilder(store, self.max_tokens, segments, batch_size, seed)

    def prepare(self, out: str | Path) -> Prepared:
        """Check every record of `path` and write them to the folder `out`.

        Raises:
            UserError: as `sources.prepare_records`.
        """
        return prepare_records(
            self.kind,
            self.source_path(),
            Path(out),
            self.clean,
            tolerance=self.tolerance,
            column=self.column,
            recorded=self.recorded(),
            distinct=self.distinct,
        )

    def recorded(self) -> dict[str, str]:
        """What else the records depend on, by name: it stands in the metadata of prepared data."""
        return {}

    @property
    def distinct(self) -> bool:
        """Whether a text that an earlier record has is a bad record."""
        return False

    def cache(self, path: Path) -> Path:
        """Where the prepared form of a file is cached."""
        return cache_folder(self.kind, path, self.column, *self.recorded().values())

    def prepared(self) -> Prepared:
        """The prepared data set of `path`, made in the cache on first use.

        Raises:
            UserError: `path` is a folder of another kind, or a file with too many bad records.
        """
        path = self.source_path()
        if path.is_dir():  # whoever prepared it chose the tolerance then
            found = open_prepared(path)
            if found.kind != self.kind:
                raise UserError(f"{path}: holds {found.kind} records, not {self.kind}")
            usual = type(self)().recorded()  # of folders from before a field was recorded
            for name, value in self.recorded().items():
                if (there := found.source.get(name, usual[name])) != value:
                    raise UserError(
                        f"{path}: prepared with {name} {there}, and data.{name} is {value}; give "
                        f"--data.{name} {there}, or prepare the file again"
                    )
            return found
        folder = self.cache(path)
        if not folder.is_dir():
            try:
                self.prepare(folder)
            except UserError:
                if not folder.is_dir():  # else another process has made it meanwhile
                    raise
        found = open_prepared(folder)
        total = found.bad + found.count
        if found.bad > self.tolerance * total:
            raise UserError(
                f"{path}: {found.bad} of {total} records are bad, listed in "
                f"{folder / 'bad_records.jsonl'}. {tolerance_advice(found.bad, total)}"
            )
        return found

    def open(self) -> TokenStore:
        """Token ids of all records, as a memory map that is made on first use.

        Raises:
            UserError: as `prepared`.
        """
        prepared = self.prepared()
        kept = self.views + 1 if self.views else 1

        def chunks() -> Iterator[list[list[str]]]:
            for texts in track(prepared.texts(), prepared.count, "tokenizing"):
                if self.views:
                    others = self.random_texts(texts, self.views)
                    yield [[text, *more] for text, more in zip(texts, others, strict=True)]
                else:
                    yield [[text] for text in texts]

        return open_store(prepared.folder, self.tokenizer(), chunks, prepared.names, kept)

    def batches(
        self,
        store: TokenStore,
        *,
        batch_size: int,
        seed: int,
        share: np.ndarray | None = None,
        epochs: int | None = None,
        holdout: bool = False,
    ) -> BatchIterator:
        """Batches of this host, for training or for the validation loss.

        Args:
            store: what `open` returned.
            batch_size: rows of a batch over all hosts.
            seed: of the order, the windows and the views.
            share: (b,) numbers of the rows that this host builds (`host_rows`); None for all.
            epochs: passes over the records; None never ends.
            holdout: once through the held-out records in a fixed order, last batch filled with
                empty rows.

        Raises:
            UserError: no record is on the side asked for.
        """
        return split_batches(self, store, batch_size, seed, share, epochs, holdout)


def expanded(path: str, field: str) -> Path:
    """A path with its environment variables and ~ filled in.

    Raises:
        UserError: a variable is not set, or it is an address on the network; the message names
            `field`.
    """
    full = os.path.expandvars(path)
    refuse_address(full, field)
    if "$" in full:
        raise UserError(f"{field} is {path}; set that environment variable")
    return Path(full).expanduser()
