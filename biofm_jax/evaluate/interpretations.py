"""The interpretations of a report."""

from collections.abc import Sequence
from pathlib import Path

from biofm_jax.evaluate.figures import png_address
from biofm_jax.interpret.pictures import picture
from biofm_jax.interpret.records import read_interpretations


def interpretation_views(folders: Sequence[Path]) -> tuple[list[dict], list[str]]:
    """What the page shows of every interpretation under some folders.

    Returns:
        One dict for each (title, model, task, caption, figure as a PNG data address, command,
        commit, seed), and a message for each file that cannot be read.
    """
    found, problems = read_interpretations(folders)
    views = [
        {
            "title": each.title,
            "model": each.model,
            "task": each.task,
            "caption": each.caption,
            "figure": png_address(picture(each)),
            "command": each.command,
            "commit": each.commit,
            "seed": each.seed,
        }
        for each in found
    ]
    return views, problems
