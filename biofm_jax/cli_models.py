"""The verbs that take a model as it is: embed, score, generate, import, export, parity."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from biofm_jax.cli_output import DONE, ERR, FAILED, parse, print_rows

Positional = tyro.conf.Positional


def embed(arguments: list[str]) -> int:
    """Write the embeddings of all sequences of a file, with ids in its order; resumable."""
    from biofm_jax.embed.command import Embed, Job

    options = parse(Embed, arguments, "embed")
    job = Job(options)
    title = "dry run: nothing was written" if options.dry_run else "embedded"
    row = job.dry_run() if options.dry_run else job.run()
    print_rows(title, [row], options.json, across=False)
    return DONE


def score(arguments: list[str]) -> int:
    """Score variants without labels: A123T, HGVS, a DMS table, or a VCF with its genome."""
    from biofm_jax.score.command import Job, Score

    options = parse(Score, arguments, "score")
    job = Job(options)
    title = "dry run: nothing was written" if options.dry_run else "scored"
    row = job.summary() if options.dry_run else job.run()
    print_rows(title, [row], options.json, across=False)
    return DONE


def generate(arguments: list[str]) -> int:
    """Sample new sequences from a causal model, or from sources (T5); valid, unique, novel."""
    from biofm_jax.generation import Generate, Generation

    options = parse(Generate, arguments, "generate")
    generation = Generation(options)
    if options.dry_run:
        print_rows("dry run", [generation.describe()], options.json, across=False)
        return DONE
    print_rows(f"sequences in {options.out}", [generation.run()], options.json, across=False)
    return DONE


def import_(arguments: list[str]) -> int:
    """Read published weights into a model that the other verbs take."""
    from biofm_jax.publishing import Import, import_model

    options = parse(Import, arguments, "import")
    row = import_model(options)
    print_rows("imported", [row], options.json, across=False)
    return DONE


def export(arguments: list[str]) -> int:
    """Write a model in the layout in which it is published."""
    from biofm_jax.publishing import Export, export_model

    options = parse(Export, arguments, "export")
    print_rows("exported", export_model(options), options.json)
    return DONE


@dataclasses.dataclass(frozen=True)
class Parity:
    """Hold every family of published models to its reference implementation.

    Attributes:
        family: some of them; none means all.
        out: the table, written when all families were measured.
        dry_run: list what would be measured, and against what.
        json: print JSON instead of a table.
    """

    family: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(metavar="[FAMILY ...]")] = ()
    out: Path = Path("PARITY.md")
    dry_run: bool = False
    json: bool = False


def parity(arguments: list[str]) -> int:
    """Compare imported models with the reference implementations; writes the ledger PARITY.md."""
    from biofm_jax.parity import ledger
    from biofm_jax.parity.models import references
    from biofm_jax.parity.references import require_peers

    options = parse(Parity, arguments, "parity")
    chosen = ledger.chosen(options.family, references)
    if options.dry_run:
        rows = [{"family": r.name, "variant": r.variant, "reference": r.reference} for r in chosen]
        print_rows("dry run: nothing was measured", rows, options.json)
        return DONE
    require_peers({name for each in chosen for name in getattr(each, "needs", ())})
    measured = []
    for reference in chosen:
        ERR.print(f"{reference.name}: {reference.variant}", highlight=False)
        measured.append(ledger.measure(reference))
    rows = [
        {"family": m.family, "variant": m.variant, **m.figures, "misses": ", ".join(m.misses)}
        for m in measured
    ]
    print_rows("parity", rows, options.json)
    if not options.family:
        ledger.write_ledger(measured, options.out)
    return FAILED if any(m.misses for m in measured) else DONE
