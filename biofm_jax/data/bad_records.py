"""Bad input is counted, named by file, line and reason, and never skipped in silence."""

import dataclasses
import json
import math
import os
from pathlib import Path

from biofm_jax.errors import UserError

SHOWN = 5  # bad records that an error message spells out; the file lists all


class BadText(ValueError):
    """A record that cannot be used: `BadText(reason, fix)`."""

    def __init__(self, reason: str, fix: str):
        super().__init__(reason)
        self.reason = reason
        self.fix = fix


@dataclasses.dataclass(frozen=True)
class BadRecord:
    """One line of `bad_records.jsonl`; line 0 is the file as a whole."""

    file: str
    line: int
    reason: str
    fix: str

    def __str__(self) -> str:
        line = f", line {self.line}" if self.line else ""
        return f"{self.file}{line}: {self.reason} (fix: {self.fix})"


@dataclasses.dataclass
class BadRecords:
    """The bad records of one input file."""

    file: str
    records: list[BadRecord] = dataclasses.field(default_factory=list)

    def add(self, line: int, reason: str, fix: str) -> None:
        """Name a bad record by its line (counted from 1)."""
        self.records.append(BadRecord(self.file, line, reason, fix))

    def of(self, file: Path, error: BadText) -> None:
        """Name a file of a data set of many files."""
        self.records.append(BadRecord(str(file), 0, error.reason, error.fix))

    def write(self, path: Path) -> None:
        """List all bad records in `path`, one JSON object a line; an empty file means none."""
        lines = [json.dumps(dataclasses.asdict(record)) + "\n" for record in self.records]
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        temporary.write_text("".join(lines))
        os.replace(temporary, path)

    def check(self, good: int, tolerance: float, listing: Path | None) -> None:
        """Stop the run when too many records are bad.

        Args:
            good: number of records that can be used.
            tolerance: share of bad records, 0 to 1, with which the run goes on.
            listing: file that gets the whole list when the run stops, if any.

        Raises:
            UserError: the share of bad records is above `tolerance`, or none is good.
        """
        total = good + len(self.records)
        if good and len(self.records) <= tolerance * total:
            return
        if not self.records:
            raise UserError(f"{self.file}: the file holds no records; give one that does")
        message = [f"{self.file}: {len(self.records)} of {total} records are bad"]
        message += [f"  {record}" for record in self.records[:SHOWN]]
        if listing is not None:
            self.write(listing)
            message.append(f"  all of them: {listing}")
        if good:
            message.append(f"  {tolerance_advice(len(self.records), total)}")
        raise UserError("\n".join(message))


def tolerance_advice(bad: int, total: int) -> str:
    """What to do about bad records; the share is rounded up, so that it is enough."""
    share = math.ceil(bad / total * 1000) / 1000
    return (
        f"Mend the file, or go on without them: --data.tolerance {share} "
        "(--tolerance of `biofm data prepare`, `biofm embed` and `biofm trial`)"
    )
