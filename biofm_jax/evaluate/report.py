"""One HTML page, and a Markdown file, of the results and runs found in some folders."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from biofm_jax.evaluate.domains import OTHER, grouped
from biofm_jax.evaluate.report_files import read_found
from biofm_jax.evaluate.report_page import page
from biofm_jax.evaluate.table import Row, to_markdown
from biofm_jax.files import write_whole


@dataclasses.dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        html: the page.
        markdown: the tables.
        rows: of the tables.
        problems: one message for each file, or part of one, that could not be read or shown.
    """

    html: Path
    markdown: Path
    rows: list[Row]
    problems: list[str]


def write_report(folders: Sequence[Path], out: Path, title: str = "Results") -> Report:
    """Write a page of every result and training run under some folders.

    The page needs no other file and no network. A file that cannot be read is named in the
    page and does not stop the rest.

    Args:
        folders: run or results folders; searched with all their subfolders.
        out: the HTML file; the Markdown tables go beside it, with the ending .md.
        title: of the page.

    Raises:
        UserError: a folder does not exist, or no folder holds a result or a run.
    """
    found = read_found(folders)
    # A record or a file name can hold half of a character.
    write_whole(out, page(title, found).encode("utf-8", "replace"))
    markdown = out.with_suffix(".md")
    write_whole(markdown, by_modality(found.rows))
    return Report(out, markdown, found.rows, found.problems)


def by_modality(rows: Sequence[Row]) -> str:
    """A Markdown table for each modality, under the heading of its domain."""
    parts = []
    for domain, modalities in grouped(rows):
        parts.append(f"## {domain}\n")
        for modality, tasks in modalities:
            table = to_markdown([row for task in tasks for row in task])
            heading = "" if modality == OTHER else f"### {modality.replace('_', ' ')}\n\n"
            parts.append(heading + table)
    return "\n".join(parts)
