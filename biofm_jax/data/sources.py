"""Files to prepared data sets (ArrayRecord and TFDS metadata, no TensorFlow) and back."""

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from biofm_jax.data.bad_records import BadRecords, BadText
from biofm_jax.data.progress import bar_of_bytes
from biofm_jax.data.readers import Record, read_records
from biofm_jax.data.token_store import publish, text_hash
from biofm_jax.errors import UserError

FORMAT = 1  # raised when the same file would give other records


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared data set.

    Attributes:
        folder: holds the ArrayRecord shards, TFDS metadata and `bad_records.jsonl`.
        kind: "protein", "molecule", "genome" or "notes".
        count: number of records.
        bad: number of bad records left out.
        source: TFDS metadata: kind, format, and file, sha256 and bytes of what it was made from.
    """

    folder: Path
    kind: str
    count: int
    bad: int
    source: dict[str, str | int]

    def texts(self, chunk: int = 4096) -> Iterator[list[str]]:
        """All texts in order, `chunk` at a time."""
        name = self._text_name
        for start in range(0, self.count, chunk):
            rows = self._rows.__getitems__(range(start, min(start + chunk, self.count)))
            yield [row[name].decode() for row in rows]

    def read(self, numbers: Sequence[int]) -> list[Record]:
        """Records by number, in the order asked."""
        rows = self._rows.__getitems__([int(number) for number in numbers])
        name = self._text_name
        return [Record(int(row["line"]), row["id"].decode(), row[name].decode()) for row in rows]

    def names(self, numbers: Sequence[int]) -> list[str]:
        """Ids of records by number."""
        return [record.id for record in self.read(numbers)]

    @property
    def _text_name(self) -> str:
        from biofm_jax.data.builders import BUILDERS

        return BUILDERS[self.kind].text_name

    @functools.cached_property
    def _rows(self):
        """TFDS's random access by index."""
        import tensorflow_datasets as tfds

        return tfds.builder_from_directory(self.folder).as_data_source(split="records")


def prepare_records(
    kind: str,
    path: Path,
    out: Path,
    clean: Callable[[str], str],
    *,
    tolerance: float = 0.0,
    column: str = "",
    id_column: str = "",
    recorded: Mapping[str, str] | None = None,
    distinct: bool = False,
) -> Prepared:
    """Read a file once, check every record, and write a prepared data set.

    The folder appears under its name only when it is whole; a stopped run leaves none.

    Args:
        kind: "protein", "molecule", "genome" or "notes".
        path: the file, see `readers.read_records` for the formats.
        out: the folder to make; must not exist.
        clean: text to the stored text; raises `BadText` for a bad one.
        tolerance: share of bad records, 0 to 1, with which the run goes on.
        column: column of a table with the text; empty takes the first known name.
        id_column: column of a table with the id; empty takes a known name or the line number.
        recorded: more metadata: what `clean` depends on.
        distinct: a stored text that an earlier record has is bad; in memory for each record are
            64 bits of its hash and a line number.

    Raises:
        UserError: `out` exists, the file cannot be read, or too many records are bad. All bad
            ones are then listed in `<out>.bad_records.jsonl`.
    """
    import tensorflow_datasets as tfds

    from biofm_jax.data.builders import BUILDERS

    path, out = Path(path), Path(out)
    if out.exists():
        raise UserError(f"{out}: exists already; delete it or name another folder")
    source = {
        "kind": kind,
        "format": FORMAT,
        "file": path.name,
        "sha256": file_digest(path),
        "bytes": path.stat().st_size,
        **(recorded or {}),
    }
    bad = BadRecords(str(path))
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    listing = out.with_name(out.name + ".bad_records.jsonl")
    good, first_lines = 0, {}

    def checked(wrap: Callable[[BinaryIO], BinaryIO]) -> Iterator[Record]:
        nonlocal good
        records = read_records(path, kind, bad, column=column, id_column=id_column, wrap=wrap)
        for record in records:
            try:
                text = clean(record.text)
            except BadText as error:
                bad.add(record.line, error.reason, error.fix)
                continue
            if distinct:
                line = first_lines.setdefault(text_hash(text), record.line)
                if line != record.line:
                    reason = f"the record of line {line} is the same: {text[:60]!r}"
                    bad.add(record.line, reason, "drop the row, or set policy.duplicates to keep")
                    continue
            good += 1
            yield dataclasses.replace(record, text=text)
        # TFDS refuses an empty data set with an assertion; the reason is named first.
        bad.check(good, tolerance, listing)

    try:
        with bar_of_bytes(path) as wrap:
            builder = BUILDERS[kind](checked(wrap), source, str(temporary))
            tfds.disable_progress_bar()  # it shows on any stream; one bar by bytes is enough
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare()
        folder = Path(builder.data_dir)
        bad.write(folder / "bad_records.jsonl")
        publish(folder, out)
        listing.unlink(missing_ok=True)  # of an earlier run that stopped
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return open_prepared(out)


def open_prepared(folder: Path) -> Prepared:
    """A prepared data set by its folder.

    Raises:
        UserError: the folder is none.
    """
    folder = Path(folder)
    try:
        source = json.loads((folder / "metadata.json").read_text())
        info = json.loads((folder / "dataset_info.json").read_text())
        bad = len((folder / "bad_records.jsonl").read_text().splitlines())
        count = sum(int(length) for length in info["splits"][0]["shardLengths"])
        return Prepared(folder, source["kind"], count, bad, source)
    except (OSError, ValueError, LookupError) as error:
        fix = "make one with `biofm data prepare KIND PATH --out DIR`"
        raise UserError(f"{folder}: not a prepared data set; {fix}") from error


def cache_folder(kind: str, path: Path, *options: str) -> Path:
    """Where the prepared form of a file is cached: by content, kind, options and format.

    The environment variable BIOFM_CACHE names the root; without it, ~/.cache/biofm_jax.

    Raises:
        UserError: the file cannot be read.
    """
    root = os.environ.get("BIOFM_CACHE") or Path.home() / ".cache" / "biofm_jax"
    key = json.dumps([FORMAT, kind, file_digest(Path(path)), *options]).encode()
    return Path(root) / "prepared" / f"{kind}-{hashlib.sha256(key).hexdigest()[:20]}"


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hex digits.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; check the path") from error
