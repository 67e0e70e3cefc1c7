"""The section of a report that explains models."""

from biofm_jax.evaluate.figures import png_address
from biofm_jax.evaluate.report_files import Found
from biofm_jax.interpret.pictures import picture
from biofm_jax.interpret.records import Interpretation


def interpretations_view(found: Found) -> dict | None:
    """What `biofm interpret` wrote, by model."""
    models: dict[str, list[dict]] = {}
    for each in found.interpretations:
        models.setdefault(each.model, []).append(_card(each))
    return {"models": list(models.items())} if models else None


def _card(each: Interpretation) -> dict:
    return {
        "title": each.title,
        "caption": each.caption,
        "picture": png_address(picture(each)),
        "made": {
            "task": each.task or "none",
            "seed": each.seed,
            "commit": each.commit or "outside a checkout",
            "command": each.command,
        },
    }
