"""The table of public benchmarks: where each file comes from, its checksum, licence and citation.

`registry_sets.csv` has one row a set, `registry_files.csv` one row a file. A URL names a commit, so
its bytes never change; the checksum says whether they did.
"""

import csv
import dataclasses
import difflib
import functools
import importlib.resources
from typing import Literal

from biofm_jax.errors import UserError

TERMS = {
    "open": "free to use under the licence",
    "non-commercial": "no commercial use",
    "unstated": "to compare with, not to pass on",
}


@dataclasses.dataclass(frozen=True)
class DataFile:
    """One file of a set.

    Attributes:
        path: where it belongs under the root of the data sets, with `/`.
        bytes: its size there.
        sha256: its checksum there, in hex. That of a gzip depends on the zlib that made it; its
            content has `origin_sha256`.
        stored: "as_is", or "gzip" where the origin's file is kept compressed.
        url: of the origin's file, at a commit.
        origin_bytes: size of what the URL gives.
        origin_sha256: checksum of what the URL gives.
    """

    path: str
    bytes: int
    sha256: str
    stored: Literal["as_is", "gzip"]
    url: str
    origin_bytes: int
    origin_sha256: str


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A benchmark or a corpus, as its origin publishes it.

    Attributes:
        name: as in `biofm data fetch NAME`.
        about: one line.
        licence: in words; `terms` is a key of `TERMS`.
        terms: "open", "non-commercial" or "unstated".
        citation: what to cite.
        note: what is missing or odd, or empty.
        files: all files, the licence among them where the origin has one.
    """

    name: str
    about: str
    licence: str
    terms: str
    citation: str
    note: str
    files: tuple[DataFile, ...]

    @property
    def bytes(self) -> int:
        """Size of all files under the root of the data sets."""
        return sum(file.bytes for file in self.files)

    @property
    def folder(self) -> str:
        """Where the files lie under the root: the first two parts of their paths."""
        return "/".join(self.files[0].path.split("/")[:2])

    @property
    def origins(self) -> tuple[str, ...]:
        """The repositories of the files, each with its commit."""
        parts = [file.url.split("/")[3:6] for file in self.files]
        return tuple(dict.fromkeys(f"github.com/{p[0]}/{p[1]} at {p[2][:8]}" for p in parts))


@functools.cache
def registry() -> dict[str, DataSet]:
    """All sets by name, in the order of the table."""
    files: dict[str, list[DataFile]] = {}
    for row in _rows("registry_files.csv"):
        name = row.pop("set")
        sizes = {field: int(row.pop(field)) for field in ("bytes", "origin_bytes")}
        files.setdefault(name, []).append(DataFile(**row, **sizes))
    return {
        row["name"]: DataSet(**row, files=tuple(files.pop(row["name"])))
        for row in _rows("registry_sets.csv")
    }


def find(names: tuple[str, ...]) -> list[DataSet]:
    """The sets of some names, each once.

    Raises:
        UserError: a name is unknown; the message has the nearest ones.
    """
    known = registry()
    for name in names:
        if name not in known:
            near = [n for n, each in known.items() if name and name in f"{each.folder}/{n}"]
            near = near or difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near[:8])}? " if near else ""
            raise UserError(
                f"there is no data set {name!r}: {hint}`biofm data fetch` lists all {len(known)}"
            )
    return [known[name] for name in dict.fromkeys(names)]


def set_of(path: str) -> str | None:
    """The name of the set that holds a file, by its path under the root of the data sets."""
    sets = registry().values()
    return next((each.name for each in sets for file in each.files if file.path == path), None)


def _rows(table: str) -> list[dict[str, str]]:
    text = importlib.resources.files("biofm_jax.data").joinpath(table).read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))
