"""The verb `biofm repurpose`."""

from biofm_jax.cli_output import DONE, ERR, OUT, parse, print_rows
from biofm_jax.evaluate.table import rows_by_task, rows_to_table
from biofm_jax.evaluate.task import get_task
from biofm_jax.repurposing import (
    Repurpose,
    judged,
    load_pretrained,
    ranking,
    recalls,
    write_ranking,
)


def repurpose(arguments: list[str]) -> int:
    """Rank drugs for a disease by a model of a knowledge graph, with the paths between them."""
    options = parse(Repurpose, arguments, "repurpose")
    model = load_pretrained(options)
    if options.evaluate:
        rows = judged(model, options, lambda line: ERR.print(line, highlight=False))
        if options.json:
            header, cells = rows_to_table(rows)
            print_rows("", [dict(zip(header, line, strict=True)) for line in cells], True)
            return DONE
        for title, lines in rows_by_task(rows):
            print_rows(title, lines, False)
        for name in model.tasks:
            print_rows(
                f"{name}: mean recall of a disease's drugs", recalls(get_task(name), rows), False
            )
        OUT.print(f"results in {options.results}", highlight=False)
    if options.disease:
        found = ranking(model, options)
        if options.out is not None:
            write_ranking(found, options.out)
        shown = found[: options.top]
        if not options.json:
            shown = [
                row | {"paths": "\n".join(path["path"] for path in row["paths"])} for row in shown
            ]
        print_rows(f"drugs for {options.disease}", shown, options.json)
    return DONE
