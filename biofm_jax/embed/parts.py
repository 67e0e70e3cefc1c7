"""The finished parts of an embedding job, so that a stopped one goes on."""

import dataclasses
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from biofm_jax import specs
from biofm_jax.embed.source import Survey
from biofm_jax.embed.tables import write_part
from biofm_jax.errors import UserError
from biofm_jax.files import write_whole

JOB = "job.json"


@dataclasses.dataclass(frozen=True)
class Parts:
    """A folder with one Parquet file for each part of the input.

    Attributes:
        folder: beside the file that the parts become.
    """

    folder: Path

    def survey(self, facts: dict) -> Survey | None:
        """What the job that began here found in its input; None where none began.

        Raises:
            UserError: that job had other facts: another model, input or option.
        """
        path = self.folder / JOB
        if not path.exists():
            return None
        try:
            job = json.loads(path.read_text())
            before, found = job["facts"], job["survey"]
        except (ValueError, LookupError, TypeError):
            raise UserError(f"{path} is damaged; delete {self.folder} and begin again") from None
        refuse_other(before, facts, f"{self.folder} holds parts of another job", self.folder)
        return Survey(**{**found, "bad": tuple(found["bad"])})

    def begin(self, facts: dict, survey: Survey) -> None:
        """Remember what the parts belong to."""
        job = {"facts": facts, "survey": dataclasses.asdict(survey)}
        write_whole(self.folder / JOB, json.dumps(job, indent=1) + "\n")

    def path(self, number: int) -> Path:
        """The file of a part."""
        return self.folder / f"{number:05}.parquet"

    def rows(self, number: int) -> int | None:
        """Sequences of a finished part; None where it is not there."""
        path = self.path(number)
        return pq.read_metadata(path).num_rows if path.exists() else None

    def write(self, number: int, table: pa.Table) -> None:
        """Keep a part, whole or not at all."""
        write_part(table, self.path(number))


def refuse_other(before: dict, now: dict, what: str, delete: Path) -> None:
    """Refuse to mix the results of two jobs.

    Args:
        before: the facts of the job that began.
        now: those of this one.
        what: begins the message.
        delete: what to delete to begin again.

    Raises:
        UserError: they differ; the message says where.
    """
    before, now = specs.flatten(before), specs.flatten(now)
    differing = [
        f"{name}: {before.get(name)} there, {now.get(name)} here"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if differing:
        raise UserError(
            f"{what} ({'; '.join(differing[:5])}); give another OUT, or delete {delete} to begin "
            "again"
        )
