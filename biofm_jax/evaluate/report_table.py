"""A table of the page, and the results of one task as such a table."""

import dataclasses
import re
from collections.abc import Sequence

from markupsafe import Markup, escape

from biofm_jax.evaluate.curves import BASELINE
from biofm_jax.evaluate.results import slug
from biofm_jax.evaluate.table import CONTROL, Row, number, summary_text, with_interval

MISSING = "–"


@dataclasses.dataclass(frozen=True)
class PageTable:
    """A table that can be sorted by every column; the macro of `macros.jinja` draws it.

    A column whose texts all start with a number is sorted by it; `MISSING` comes last.

    Attributes:
        name: its id on the page: letters, digits, - and _.
        label: what it shows, for those who cannot see it.
        header: k column titles.
        cells: k texts for each line.
        quiet: numbers of lines that are no result of a model, drawn lighter.
        main: number of the column that matters most.
    """

    name: str
    label: str
    header: Sequence[str]
    cells: Sequence[Sequence[str]]
    quiet: frozenset[int] = frozenset()
    main: int | None = None


def task_anchor(row: Row) -> str:
    """The id on the page of a task with its data."""
    return f"task-{slug(row.task)}-{slug(row.results[0].data)[:6]}"


def task_table(rows: Sequence[Row]) -> PageTable:
    """The results of one task, then what they stand on: its baselines and published numbers.

    Args:
        rows: of one task and one state of its data. A baseline that was itself evaluated as a
            method is not shown twice.
    """
    cells = [
        (
            row.model,
            row.method,
            with_interval(row.value.score),
            MISSING if row.value.deviation is None else number(row.value.deviation),
            str(len(row.seeds)),
            summary_text(row.control) if row.control else "not run",
        )
        for row in rows
    ]
    evaluated = {row.model for row in rows if row.method == BASELINE}
    floors = [
        (name, BASELINE, with_interval(score), *[MISSING] * 3)
        for name, score in rows[0].baselines.items()
        if name not in evaluated
    ]
    floors += [
        (item.name, "published", number(item.value), *[MISSING] * 3)
        for item in rows[0].published
        if item.comparable
    ]
    return PageTable(
        f"{task_anchor(rows[0])}-results",
        f"results of {rows[0].task}",
        ("model", "method", "value [95 %]", "sd over seeds", "seeds", CONTROL),
        cells + floors,
        frozenset(range(len(cells), len(cells) + len(floors))),
        main=2,
    )


def breakable(cell: str) -> Markup:
    """The text as HTML that breaks between the parts of a name, and not within an interval."""
    hard = re.sub(r"\[[^]]*\]", lambda match: match[0].replace(" ", "\u00a0"), cell)
    html = str(escape(hard.replace("sd ", "sd\u00a0")))
    return Markup(re.sub(r"[/_:@=](?=\w)|(?<=\w)(?=\+[a-z])", r"\g<0><wbr>", html))
