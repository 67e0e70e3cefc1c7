"""The parity ledger: every family against its reference, measured and written as a table."""

import contextlib
import dataclasses
import datetime
import io
import tempfile
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

import jax
import numpy as np

from biofm_jax.errors import UserError
from biofm_jax.evaluate.provenance import package_versions
from biofm_jax.files import write_whole
from biofm_jax.models.dual_encoder import DualEncoderSpec
from biofm_jax.models.encoder_decoder import EncoderDecoderSpec
from biofm_jax.models.spec import ModelSpec
from biofm_jax.parity.compared import Compared
from biofm_jax.parity.measures import GRADIENTS, OUTPUTS, measures, worst
from biofm_jax.parity.references import Reference
from biofm_jax.zoo.config import read_config
from biofm_jax.zoo.exporting import published_tensors
from biofm_jax.zoo.importing import Plan, plan_import, read_params
from biofm_jax.zoo.registry import PUBLISHED
from biofm_jax.zoo.weights import InMemory, Weights, open_weights

# Bars by column; those without one are told, not judged.
BARS = {
    "logits": OUTPUTS,
    "hidden": OUTPUTS,
    "gradients": GRADIENTS,
    "padding": OUTPUTS,
    "batch": OUTPUTS,
    "packed": OUTPUTS,
    "cached": OUTPUTS,
    "round trip": 0.0,
    "strict": 0.0,
}
COLUMNS = (*BARS, "bf16")
HEADER = """# Parity

Each family of published models is built small by its reference implementation, with random weights
in its own file layout; those are imported, and both are run on the same batch in float32. Relative
errors in the Euclidean norm, the worst of all variants, hidden states, and parameters. Bars:
{outputs:.0e} for outputs, {gradients:.0e} for gradients, no tensor off by a bit for the round trip,
a gradient that is zero in theory below 1e-3, and strict: a checkpoint that lacks a tensor, has one
more, or has one of another shape is refused by that tensor's name.

    biofm parity    # or `make parity`; writes this file

padding: a row with and without padding; batch: alone and among others; packed: alone and behind
others in one row; cached: generated token by token and read at once; bf16: logits computed in
bfloat16 against float32, which is told and not judged.

"""


PUBLISHED_HEADER = """## Published models

Their parameters, of the language model without contact heads, poolers and heads of other tasks, are
counted from the shapes alone and equal those of the reference implementation's own models
(`tests/zoo/test_published_models.py`).

"""


@dataclasses.dataclass(frozen=True)
class Measured:
    """One reference's figures.

    Attributes:
        family: name of the family.
        variant: of the reference.
        reference: what it was held to.
        figures: relative errors by column; of "round trip" and "strict" the number of failures.
        parameters: of the small model.
    """

    family: str
    variant: str
    reference: str
    figures: dict[str, float]
    parameters: int

    @property
    def misses(self) -> list[str]:
        """The columns whose bar is missed."""
        judged = [name for name in BARS if name in self.figures]
        return [n for n in judged if not self.figures[n] <= BARS[n]]


def measure(reference: Reference | Compared) -> Measured:
    """Build a reference, import what it saves, and compare."""
    if isinstance(reference, Compared):
        figures, count = reference.measure()
        return Measured(reference.name, reference.variant, reference.reference, figures, count)
    model = reference.build()
    family = reference.family
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars of tiny files
            model.save_pretrained(folder)
        config = reference.config or read_config(folder / "config.json")
        weights = open_weights(next(folder.glob("*.pth"), folder))
        plan = plan_import(weights, family, family.spec_of(config))
        params = read_params(weights, plan)
        figures = {
            "round trip": round_trip_failures(weights, plan, params),
            "strict": strictness_failures(weights, plan),
        }
    figures |= measures(plan.spec.build(), params, model, family)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    return Measured(family.name, reference.variant, family.reference, figures, count)


def round_trip_failures(weights: Weights, plan: Plan, params) -> int:
    """How many tensors an export would give back with other bits."""
    found = published_tensors(params, plan.family, plan.spec)
    again = plan.family.spec_of(plan.family.config_of(plan.spec))
    wrong = sum(not np.array_equal(a, weights.read(plan.names[name])) for name, a in found)
    return wrong + (again != plan.spec)


def strictness_failures(weights: Weights, plan: Plan) -> int:
    """How many spoilt checkpoints were not refused by the name of what is wrong."""
    whole = {name: weights.read(name) for name in weights.tensors}
    name = plan.names[plan.places[len(plan.places) // 2].name]
    spoilt = {
        name: {n: a for n, a in whole.items() if n != name},
        f"{name}.more": whole | {f"{name}.more": whole[name]},
        f"{name} has shape": whole | {name: whole[name][:-1]},
    }
    return sum(not _refused(tensors, plan, said) for said, tensors in spoilt.items())


def _refused(tensors: dict[str, np.ndarray], plan: Plan, said: str) -> bool:
    try:
        plan_import(InMemory(tensors), plan.family, plan.spec)
    except UserError as error:
        return said in str(error)
    return False


def write_ledger(measured: Iterable[Measured], path: Path) -> None:
    """Write the table, one row per family."""
    rows: dict[str, list[Measured]] = {}
    for each in measured:
        rows.setdefault(each.family, []).append(each)
    header = ("family", "met", "reference", "variants", *COLUMNS)
    lines = [_line(header), _line(["---"] * len(header))]
    for family, variants in rows.items():
        missed = sorted({name for variant in variants for name in variant.misses})
        cells = [_cell(name, [v.figures[name] for v in variants if name in v.figures])
                 for name in COLUMNS]  # fmt: skip
        names = "; ".join(variant.variant for variant in variants)
        met = f"no: {', '.join(missed)}" if missed else "yes"
        lines.append(_line([family, met, variants[0].reference, names, *cells]))
    used = package_versions() | {peer: metadata.version(peer) for peer in ("torch", "transformers")}
    versions = ", ".join(f"{name} {version}" for name, version in used.items())
    head = HEADER.format(outputs=OUTPUTS, gradients=GRADIENTS)
    date = datetime.date.today().isoformat()
    text = head + "\n".join(lines) + f"\n\n{date}; {versions}\n\n{PUBLISHED_HEADER}"
    write_whole(path, text + "\n".join(published_lines()) + "\n")


def published_lines() -> list[str]:
    """A table of the published models: family, shape, and parameters as counted here."""
    header = ("model", "family", "layers", "width", "heads", "parameters", "licence", "source")
    lines = [_line(header), _line(["---"] * len(header))]
    for model in PUBLISHED.values():
        spec = model.spec
        stack = _stack(spec)
        shape = (str(getattr(stack, name)) for name in ("layers", "width", "heads"))
        count = f"{model.parameters:,}"
        lines.append(_line([model.name, model.family.name, *shape, count, model.licence,
                            model.source]))  # fmt: skip
    return lines


def _stack(spec: ModelSpec) -> ModelSpec:
    """Of an encoder-decoder the encoder, of two towers the first."""
    if isinstance(spec, EncoderDecoderSpec):
        return spec.encoder
    return spec.first if isinstance(spec, DualEncoderSpec) else spec


def read_ledger(path: Path) -> dict[str, str]:
    """Family -> whether its bars were met when the ledger was last written; {} without one."""
    if not path.is_file():
        return {}
    table = path.read_text().partition(PUBLISHED_HEADER)[0].splitlines()
    rows = [line.split(" | ") for line in table if line.startswith("| ")]
    return {row[0].removeprefix("| "): row[1] for row in rows[2:]}


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(column: str, values: list[float]) -> str:
    if not values:
        return "-"
    if column in ("round trip", "strict"):
        return f"{int(max(values))} failures" if any(values) else "yes"
    return f"{worst(values):.1e}"


def chosen(
    families: Iterable[str], every: Callable[[], list[Reference | Compared]]
) -> list[Reference | Compared]:
    """The references of some families; of none, all.

    Raises:
        UserError: a family that has none.
    """
    found, wanted = every(), list(families)
    known = {reference.name for reference in found}
    if unknown := sorted(set(wanted) - known):
        raise UserError(
            f"no reference of {', '.join(unknown)}; known are {', '.join(sorted(known))}"
        )
    return [r for r in found if not wanted or r.name in wanted]
