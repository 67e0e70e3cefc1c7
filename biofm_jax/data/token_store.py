"""Token ids of a whole data set, kept in a memory map for vectorised reads."""

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from biofm_jax.data.tokenizers import Tokenizer, Vocabulary, id_dtype

FORMAT = 1  # raised when the layout of the files below changes


@dataclasses.dataclass(frozen=True)
class TokenStore:
    """The sequences of a data set as ids, `views` of them per record.

    Record i holds the sequences `i * views` to `i * views + views - 1`; the first is the record
    as it was prepared, the others are random SMILES of the same molecule.

    Attributes:
        ids: (n,) ids of all sequences one behind the other, smallest uint.
        offsets: (records * views + 1,) int64, where each sequence starts in `ids`.
        hashes: (records,) uint64 of the text; equal texts have equal hashes.
        views: sequences of a record, at least 1.
        vocabulary: what the ids mean.
        names: ids of records, as the source file has them.
    """

    ids: np.ndarray
    offsets: np.ndarray
    hashes: np.ndarray
    views: int
    vocabulary: Vocabulary
    names: Callable[[Sequence[int]], list[str]]

    @classmethod
    def from_arrays(cls, sequences: Sequence[np.ndarray], vocabulary: Vocabulary) -> "TokenStore":
        """A store in memory; the name of a record is its number.

        Args:
            sequences: (t_i,) ids of each record, cls and eos included where wanted.
            vocabulary: what the ids mean.
        """
        lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
        dtype = id_dtype(vocabulary.size)
        flat = np.concatenate([np.asarray(s, dtype) for s in sequences] or [np.zeros(0, dtype)])
        return cls(
            ids=flat,
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            hashes=np.zeros(len(sequences), np.uint64),
            views=1,
            vocabulary=vocabulary,
            names=lambda records: [str(record) for record in records],
        )

    def __len__(self) -> int:
        return len(self.hashes)

    def digest(self) -> str:
        """A fingerprint of the records and their lengths, read from no token."""
        parts = (self.hashes, self.offsets)
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:16]

    def lengths(self) -> np.ndarray:
        """(records,) int64 tokens of the first view of each record."""
        return np.diff(self.offsets)[:: self.views]

    def split(self, holdout: float, *, held: bool, fraction: float = 1.0) -> np.ndarray:
        """Numbers of the records that are held out, or of the others, ascending.

        The hash of the text decides, so that exact duplicates stay on one side and the side of
        a record does not depend on what else the data set holds.

        Args:
            holdout: share held out, 0 to 1.
            held: which side.
            fraction: share of the records that are not held out, 0 to 1; of the held-out ones
                all are given.
        """
        is_held = below(self.hashes, holdout)
        if held or fraction == 1.0:
            return np.flatnonzero(is_held == held)
        used = below(self.hashes, holdout + fraction * (1.0 - holdout))
        return np.flatnonzero(used & ~is_held)


def open_store(
    folder: Path,
    tokenizer: Tokenizer,
    chunks: Callable[[], Iterable[list[list[str]]]],
    names: Callable[[Sequence[int]], list[str]],
    views: int = 1,
) -> TokenStore:
    """The token store cached in a prepared data set, made on the first call.

    Args:
        folder: the prepared data set; the store becomes a folder inside.
        tokenizer: its fingerprint is part of the store's name.
        chunks: lists of records, each a list of `views` texts; called if the store is absent.
        names: ids of records by number.
        views: texts of a record.
    """
    place = folder / f"tokens-{FORMAT}-{tokenizer.fingerprint()}-{views}"
    if not place.is_dir():
        _write(place, tokenizer, chunks(), views)
    layout = json.loads((place / "store.json").read_text())
    return TokenStore(
        ids=np.load(place / "ids.npy", mmap_mode="r"),
        offsets=np.load(place / "offsets.npy"),
        hashes=np.load(place / "hashes.npy"),
        views=layout["views"],
        vocabulary=tokenizer.vocabulary,
        names=names,
    )


def below(hashes: np.ndarray, share: float) -> np.ndarray:
    """(n,) bool: which of (n,) uint64 hashes lie in the lowest `share` of all there could be."""
    return hashes < np.uint64(min(int(share * 2.0**64), 2**64 - 1))


def group_hash(group: str) -> int:
    """64 bits of the name of what stays on one side (a patient, an image), as `text_hash`."""
    return text_hash(f"group {group}")


def text_hash(text: str) -> int:
    """64 bits of a text, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _write(
    place: Path, tokenizer: Tokenizer, chunks: Iterable[list[list[str]]], views: int
) -> None:
    """Write the store beside `place` and rename it, so that it is whole or absent."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        ends, hashes, total = [np.zeros(1, np.int64)], [], 0
        dtype = id_dtype(tokenizer.vocabulary.size)
        with open(temporary / "ids.npy", "wb") as file:
            # The header is written again at the end; numpy leaves room in it for the count.
            npy_header(file, (0,), dtype)
            for chunk in chunks:
                flat, offsets = tokenizer.encode_many([text for texts in chunk for text in texts])
                file.write(flat.astype(dtype).tobytes())
                ends.append(total + offsets[1:])
                hashes += [text_hash(texts[0]) for texts in chunk]
                total += len(flat)
            file.seek(0)
            npy_header(file, (total,), dtype)
        np.save(temporary / "offsets.npy", np.concatenate(ends))
        np.save(temporary / "hashes.npy", np.array(hashes, np.uint64))
        (temporary / "store.json").write_text(json.dumps({"format": FORMAT, "views": views}))
        publish(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def npy_header(file, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Write the head of a .npy file; its length is the same for any number of rows."""
    layout = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
    np.lib.format.write_array_header_1_0(file, {**layout, "shape": shape})


def publish(temporary: Path, place: Path) -> None:
    """Rename a finished folder; one that another process has published meanwhile stays."""
    os.chmod(temporary, 0o755)  # mkdtemp made it private
    try:
        os.rename(temporary, place)
    except OSError:
        if not place.is_dir():
            raise
