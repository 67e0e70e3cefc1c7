"""What is scored: a row for each variant of the file, in its order, with all its columns."""

import dataclasses

import numpy as np

from biofm_jax.errors import UserError

SHOWN = 5  # rows that an error message spells out


@dataclasses.dataclass(frozen=True)
class Items:
    """The rows of the result before they are scored.

    Attributes:
        ids: n names, as the file has them.
        where: n places for messages, such as `dms.csv, line 7: A123T`.
        texts: n whole sequences with the variant in them; None where there is a reason.
        references: n sequences that they are compared with; None: none, or one wild type for all.
        wild_type: that all are variants of, if there is one.
        reasons: n; why a row has no score, empty where it has one.
        columns: name -> n cells, kept.
        bases: of the window around each variant of a genome; empty of others.
    """

    ids: tuple[str, ...]
    where: tuple[str, ...]
    texts: tuple[str | None, ...]
    references: tuple[str | None, ...] | None
    wild_type: str | None
    reasons: tuple[str, ...]
    columns: dict[str, tuple[str, ...]]
    bases: tuple[int, ...] = ()

    def scored(self) -> np.ndarray:
        """(m,) int64 indices of the rows that get a score."""
        return np.flatnonzero([not reason for reason in self.reasons])

    def refuse_unscored(self) -> None:
        """Stop where a row has a reason.

        Raises:
            UserError: it names the first of them.
        """
        lines = [f"{w}: {r}" for w, r in zip(self.where, self.reasons, strict=True) if r]
        if lines:
            raise UserError(
                f"{len(lines)} of {len(self.ids)} variants have no score by this method:\n  "
                + "\n  ".join(lines[:SHOWN])
                + "\nGo on with --unscored report: they get a blank score and a column `reason`"
            )
