"""The HTML page: its sections, in order, and how they are put together."""

import base64
import dataclasses
import datetime
import hashlib
from collections.abc import Callable

import jinja2
from markupsafe import Markup

from biofm_jax.evaluate import report_made as made
from biofm_jax.evaluate import report_views as views
from biofm_jax.evaluate.interpretations import interpretations_view
from biofm_jax.evaluate.report_files import Found
from biofm_jax.evaluate.report_table import breakable
from biofm_jax.evaluate.results import BROKEN


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page under a heading.

    Attributes:
        name: its id on the page; `templates/NAME.jinja` draws it.
        title: its heading.
        view: what the template is given as `view`; None leaves the section out.
    """

    name: str
    title: str
    view: Callable[[Found], dict | None]


SECTIONS = (
    Section("results", "Results", views.results_view),
    Section("comparisons", "Paired comparisons", views.comparisons_view),
    Section("ranks", "Ranks over tasks", views.ranks_view),
    Section("curves", "Fewer labels", views.curves_view),
    Section("predictions", "Predictions", views.predictions_view),
    Section("subgroups", "Subgroups", views.subgroups_view),
    Section("interpretations", "Why a model says so", interpretations_view),
    Section("elsewhere", "Published under another protocol", views.elsewhere_view),
    Section("training", "Training", made.training_view),
    Section("provenance", "How the results were made", made.provenance_view),
)


def page(title: str, found: Found) -> str:
    """The whole page; a section that cannot be shown is added to `found.problems`.

    The page holds all it needs. Its policy forbids the browser to load anything, and to run any
    script but its own, whatever the texts of a result say.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("biofm_jax.evaluate", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["breakable"] = breakable
    shown = []
    for section in SECTIONS:
        try:
            view = section.view(found)
        except BROKEN as error:
            found.problems.append(f"section {section.title!r} is left out: {error}")
            continue
        if view is not None:
            shown.append((section, view))
    style, script = (
        environment.loader.get_source(environment, n)[0] for n in ("page.css", "sort.js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.jinja").render(
        title=title,
        written=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        n_results=len(found.rows),
        n_runs=len(found.runs),
        problems=found.problems,
        sections=shown,
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
    )
