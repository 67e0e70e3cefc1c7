"""Embeddings as files: Parquet or safetensors, with what made them in the metadata.

Parquet: columns `id` (text) and one for each layer, a fixed-size list of d numbers, or with
pooling "tokens" a list of such lists, one for each token. Safetensors: a tensor (n, d) for each
layer; with "tokens" (m, d), the tokens of all sequences one behind the other, those of sequence i
from `offsets[i]` to `offsets[i + 1]`; `id` holds the UTF-8 bytes of all ids, cut the same way by
`id_offsets`.
"""

import contextlib
import dataclasses
import errno
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import safe_open

from biofm_jax.errors import UserError

ENDINGS = (".parquet", ".safetensors")
KEY = "biofm_embed"  # of the metadata, a JSON object
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The columns of a file.

    Attributes:
        columns: names of the layers' columns.
        width: d.
        dtype: "float32" or "float16".
        by_token: whether each sequence has a list of vectors.
    """

    columns: tuple[str, ...]
    width: int
    dtype: str
    by_token: bool

    def schema(self, facts: dict) -> pa.Schema:
        """The Parquet schema; `facts` become its metadata."""
        number = pa.float16() if self.dtype == "float16" else pa.float32()
        vector = pa.list_(number, self.width)
        kind = pa.list_(vector) if self.by_token else vector
        fields = [pa.field("id", pa.string()), *(pa.field(name, kind) for name in self.columns)]
        return pa.schema(fields, metadata={KEY: json.dumps(facts)})

    def table(
        self, ids: Sequence[str], arrays: Sequence[np.ndarray], kept: np.ndarray, facts: dict
    ) -> pa.Table:
        """Embeddings as a table.

        Args:
            ids: n names.
            arrays: for each column (n, d), or (m, d) by token.
            kept: (n,) tokens of each sequence in `arrays`, used where by token.
            facts: the metadata.

        Raises:
            UserError: a number that is not finite, such as one beyond float16's 65,504.
        """
        self._refuse_infinite(ids, arrays, kept)
        schema = self.schema(facts)
        columns: list[pa.Array] = [pa.array(ids, pa.string())]
        for field, array in zip(list(schema)[1:], arrays, strict=True):
            vector = field.type.value_type if self.by_token else field.type
            flat = pa.array(np.ascontiguousarray(array).reshape(-1), vector.value_type)
            values = pa.FixedSizeListArray.from_arrays(flat, type=vector)
            if self.by_token:
                offsets = np.concatenate([[0], np.cumsum(kept)]).astype(np.int32)
                values = pa.ListArray.from_arrays(pa.array(offsets), values, type=field.type)
            columns.append(values)
        return pa.Table.from_arrays(columns, schema=schema)

    def _refuse_infinite(self, ids, arrays, kept) -> None:
        for name, array in zip(self.columns, arrays, strict=True):
            rows = np.flatnonzero(~np.isfinite(array).all(1))
            if not len(rows):
                continue
            row = rows[0]
            if self.by_token:
                row = np.searchsorted(np.cumsum(kept), row, side="right")
            fix = "use --dtype float32" if self.dtype == "float16" else "its weights are damaged"
            raise UserError(f"{name} of {ids[row]} is not finite in {self.dtype}: {fix}")


def flat_values(column: pa.ChunkedArray) -> np.ndarray:
    """All numbers of a column, one behind the other."""
    values = column.combine_chunks()
    while not pa.types.is_floating(values.type):
        values = values.flatten()
    return values.to_numpy(zero_copy_only=False)


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path that becomes `path` when the block is done.

    Raises:
        UserError: the disk is full. What was written of this file is gone.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise UserError(
            f"{path}: no space left on the device; finished parts are kept. Free some, and give "
            "the same command again"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def write_part(table: pa.Table, path: Path) -> None:
    """Write a table as one row group, whole or not at all."""
    with written_whole(path) as temporary, _writer(temporary, table.schema) as writer:
        writer.write_table(table, row_group_size=max(1, len(table)))


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # Neither compression nor a dictionary gains anything on numbers that all differ.
    return pq.ParquetWriter(
        path, schema, compression="none", use_dictionary=False, write_statistics=False
    )


def merge(parts: Sequence[Path], out: Path) -> None:
    """The parts as one file, in the format that its ending names; one part in memory at a time.

    Raises:
        UserError: the disk is full.
    """
    with written_whole(out) as temporary:
        if out.suffix == ".parquet":
            with _writer(temporary, pq.read_schema(parts[0])) as writer:
                for part in parts:
                    table = pq.read_table(part)
                    writer.write_table(table, row_group_size=max(1, len(table)))
        else:
            _merge_tensors(parts, temporary)


def _merge_tensors(parts: Sequence[Path], path: Path) -> None:
    schema = pq.read_schema(parts[0])
    names = schema.names[1:]
    field = schema.field(names[0]).type
    by_token = pa.types.is_list(field)
    vector = field.value_type if by_token else field
    code, size = ("F16", 2) if pa.types.is_float16(vector.value_type) else ("F32", 4)
    ids, counts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for part in parts:
        table = pq.read_table(part, columns=["id", names[0]] if by_token else ["id"])
        texts = table.column("id").to_pylist()
        ids.append(np.array([len(text.encode()) for text in texts], np.int64))
        if by_token:
            offsets = table.column(names[0]).combine_chunks().offsets.to_numpy()
            counts.append(np.diff(offsets).astype(np.int64))
    lengths = np.concatenate(ids)
    rows = int(np.concatenate(counts).sum()) if by_token else len(lengths)
    # Wide types first: every tensor starts at a multiple of its own size.
    tensors = {"id_offsets": ("I64", 8, (len(lengths) + 1,))}
    if by_token:
        tensors["offsets"] = ("I64", 8, (len(lengths) + 1,))
    tensors |= {name: (code, size, (rows, vector.list_size)) for name in names}
    tensors["id"] = ("U8", 1, (int(lengths.sum()),))
    header, end = {"__metadata__": {KEY: schema.metadata[KEY.encode()].decode()}}, 0
    for name, (code, size, shape) in tensors.items():
        start, end = end, end + size * int(np.prod(shape))
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(np.concatenate([[0], np.cumsum(lengths)]).astype("<i8").tobytes())
        if by_token:
            file.write(np.concatenate([[0], *counts]).cumsum().astype("<i8").tobytes())
        for name in names:
            for part in parts:
                file.write(flat_values(pq.read_table(part, columns=[name]).column(0)).tobytes())
        for part in parts:
            texts = pq.read_table(part, columns=["id"]).column(0).to_pylist()
            file.write("".join(texts).encode())


def read_facts(path: Path) -> dict:
    """What made a file of embeddings.

    Raises:
        UserError: it is none.
    """
    try:
        if path.suffix == ".parquet":
            metadata = pq.read_schema(path).metadata or {}
            return json.loads(metadata[KEY.encode()])
        with safe_open(path, framework="numpy") as file:
            return json.loads(file.metadata()[KEY])
    except Exception as error:
        raise UserError(
            f"{path} is no whole file of `biofm embed` ({error}); name another file, or delete it"
        ) from None


def read_embeddings(path: Path) -> tuple[list[str], dict[str, list[np.ndarray] | np.ndarray]]:
    """A whole file of embeddings in memory.

    Returns:
        Ids, and for each column (n, d), or by token a list of n arrays (t_i, d).
    """
    path = Path(path)
    read_facts(path)
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        found: dict = {}
        for name in table.column_names[1:]:
            kind = table.schema.field(name).type
            vector = kind.value_type if pa.types.is_list(kind) else kind
            values = flat_values(table.column(name)).reshape(-1, vector.list_size)
            if pa.types.is_list(kind):
                counts = table.column(name).combine_chunks().value_lengths().to_numpy()
                values = np.split(values, np.cumsum(counts)[:-1])
            found[name] = values
        return table.column("id").to_pylist(), found
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    text, ends = tensors.pop("id").tobytes(), tensors.pop("id_offsets").tolist()
    offsets = tensors.pop("offsets", None)
    if offsets is not None:
        tensors = {name: np.split(each, offsets[1:-1]) for name, each in tensors.items()}
    return [text[a:b].decode() for a, b in itertools.pairwise(ends)], tensors


def check_space(folder: Path, needed: int) -> None:
    """Refuse work whose result would not fit.

    Args:
        folder: where it goes; may not exist yet.
        needed: bytes.

    Raises:
        UserError: less is free.
    """
    there = next(each for each in (folder, *folder.absolute().parents) if each.is_dir())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise UserError(
            f"{folder}: {needed / 1e9:,.2f} GB are needed (parts and the merged file), "
            f"{free / 1e9:,.2f} GB are free; free some, or use --dtype float16 or --pooling mean"
        )
