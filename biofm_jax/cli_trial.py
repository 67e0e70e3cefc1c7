"""The verb `biofm trial`."""

import json

from biofm_jax.cli_output import DONE, ERR, OUT, parse, print_rows
from biofm_jax.errors import UserError
from biofm_jax.evaluate.table import rows_by_task, rows_to_table
from biofm_jax.files import write_whole
from biofm_jax.trials import (
    CURVE,
    SCORES,
    TrialRun,
    Trials,
    asked_trials,
    explained_rows,
    explanations,
    judged,
    predictions,
    scored,
)


def trial(arguments: list[str]) -> int:
    """Predict outcomes of clinical trials and say which sentence or drug moved each one."""
    options = parse(Trials, arguments, "trial")
    if not options.evaluate and options.trials is None and not options.trial:
        raise UserError("give --trial NCT..., --trials FILE, or --evaluate True")
    if options.out is not None and options.out.suffix != ".json":
        raise UserError(f"--out {options.out} must end in .json")
    run = TrialRun(options)
    trials = asked_trials(run)
    if options.evaluate:
        _evaluate(run, options)
    if options.trials is None and not options.trial:
        return DONE
    model = run.model()
    found = predictions(model, trials)
    reasons = explanations(model, trials, options.trial)
    tables = {each.trial.id: explained_rows(each) for each in reasons}
    if options.out is not None:
        written = [row | {"moved": tables.get(row["trial"], [])} for row in found]
        if options.trial:
            written = [row for row in written if row["trial"] in tables]
        write_whole(options.out, json.dumps(written, indent=1) + "\n")
    if options.json:
        shown = [row for row in found if not options.trial or row["trial"] in tables]
        print(json.dumps([row | {"moved": tables.get(row["trial"], [])} for row in shown]))
        return DONE
    if not options.trial:
        print_rows(f"{len(found)} trials", found[: options.top], False)
    for row in found:
        if row["trial"] in tables:
            title = f"{row['trial']}: success {row['success']:.3f}; log-odds that each part adds"
            print_rows(
                title, [_narrow(part) for part in tables[row["trial"]][: options.top]], False
            )
    return DONE


def _evaluate(run: TrialRun, options: Trials) -> None:
    rows = judged(run, lambda line: ERR.print(line, highlight=False))
    table = scored(rows, run.tasks[0], options.workdir)
    if options.json:
        header, cells = rows_to_table(rows)
        lines = [dict(zip(header, line, strict=True)) for line in cells]
        print(json.dumps({"rows": lines, "scores": table}))
        return
    for title, lines in rows_by_task(rows):
        print_rows(title, lines, False)
    short = [{k: f"{v:.3f}" if isinstance(v, float) else v for k, v in r.items()} for r in table]
    print_rows("all scores on the same trials (F1 and accuracy at a half)", short, False)
    where = f"{options.workdir / SCORES} and {options.workdir / CURVE}"
    OUT.print(f"results in {options.results}; {where}", highlight=False)


def _narrow(row: dict) -> dict:
    """A line whose words, such as a SMILES, are no wider than a column."""
    words = (word if len(word) <= 30 else f"{word[:29]}…" for word in row["part"].split())
    return row | {"part": " ".join(words)}
