"""Generated sequences on disk: a part file while they are made, then the file asked for."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from biofm_jax.errors import UserError
from biofm_jax.files import write_whole

ENDINGS = (".csv", ".jsonl", ".fasta", ".smi")


class PartFile:
    """Batches of rows as they come, one JSON line each behind a line of settings.

    A run that was killed goes on behind the last whole line.

    Attributes:
        path: of the file.
        batches: what it holds.
    """

    def __init__(self, path: Path, settings: dict):
        """Begin the file, or go on with it.

        Raises:
            UserError: it was begun with other settings.
        """
        self.path = path
        *lines, _ = path.read_bytes().split(b"\n") if path.exists() else [b""]
        lines = lines or [json.dumps(settings).encode()]
        if differing := changed_settings(json.loads(lines[0]), settings):
            raise UserError(
                f"{path} was begun with other settings ({'; '.join(differing[:5])}); give the same "
                "to go on with it, or delete it to begin again"
            )
        self.batches: list[list[dict]] = [json.loads(line) for line in lines[1:]]
        write_whole(path, b"".join(line + b"\n" for line in lines))

    def add(self, rows: list[dict]) -> None:
        """Append a batch."""
        self.batches.append(rows)
        with open(self.path, "ab") as file:
            file.write(json.dumps(rows).encode() + b"\n")


def changed_settings(before: dict, now: dict) -> list[str]:
    """`seed: 0 there, 1 here` for each setting that differs."""
    return [
        f"{name}: {before.get(name)} there, {now.get(name)} here"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]


def check_ending(path: Path, kind: str) -> None:
    """Refuse a file that could not hold sequences of this modality.

    Raises:
        UserError: names the endings that could.
    """
    fitting = [e for e in ENDINGS if e != (".fasta" if kind == "molecule" else ".smi")]
    if path.suffix not in fitting:
        raise UserError(f"{path}: name a file that ends in {', '.join(fitting)} for {kind}")


def render(rows: Sequence[dict], ending: str) -> str:
    """Rows as the text of a file.

    Args:
        rows: with `id` and `text`; all with the same fields.
        ending: of `ENDINGS`. FASTA has the other fields in its headers, .smi only the id; both
            leave out rows without text, for which they have no form.
    """
    if ending == ".jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows)
    if ending == ".csv":
        out = io.StringIO()
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return out.getvalue()
    spoken = [row for row in rows if row["text"]]
    if ending == ".smi":
        return "".join(f"{row['text']} {row['id']}\n" for row in spoken)
    lines = []
    for row in spoken:
        more = [f"{k}={v}" for k, v in row.items() if k not in ("id", "text") and v != ""]
        lines.append(f">{' '.join([row['id'], *more])}\n{row['text']}\n")
    return "".join(lines)
