"""Tasks of clinical trials: does a trial succeed, told from its protocol before it starts.

trial/*: phase I trials of the TOP benchmark (Fu et al. 2022, Patterns 3:100445, HINT;
github.com/futianfan/clinical-trial-outcome-prediction, which states no licence: to compare with,
not to pass on), in its official temporal split. The text is diseases, drugs and eligibility
criteria; the label 1 is success. The columns `status` and `why_stop` tell how the trial ended (of
the 489 that were terminated 95 % have label 0): they are in no text, and stand among the metadata,
so that the leak report warns of them. Groups: the phase.

Baseline. TF-IDF of words with logistic regression, on the training part alone, gives ROC-AUC .647,
PR-AUC .679 and (at a half) F1 of label 1 .707, as reported with the data. Its settings (words in 3
texts or more, C = 3) were not reported: they are the only ones, of some hundred tried, that give
all three figures; so they are chosen by test scores. F1 is no task: of the metrics here, F1 is the
mean over classes.

HINT. The predictions that its authors released are for the same 627 test trials, and score ROC-AUC
.564, PR-AUC .635, F1 .663. The paper reports another F1, .665 (its abstract).
"""

import ast
import gzip
from pathlib import Path

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.errors import UserError
from biofm_jax.evaluate.labels import numbers, read_columns
from biofm_jax.evaluate.splits import Fold
from biofm_jax.evaluate.task import Dataset, Published, Task, data_file

PARTS = ("train", "valid", "test")
READ = ("nctid", "label", "diseases", "drugs", "criteria")  # known before the trial, but the label
METADATA = ("phase", "status", "why_stop")
HINT = "futianfan/clinical-trial-outcome-prediction @ 8dc0497, results/phase_I_test.csv"


def load_trials(root: Path | None) -> Dataset:
    """Phase I trials with the official parts."""
    cells: list[list[str]] = [[] for _ in READ + METADATA]
    part = []
    for name in PARTS:
        path = data_file(root, f"drug/trial_outcome_phase1/phase_I_{name}.csv.gz")
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            found = read_columns(lines, str(path), READ + METADATA)
        for column, more in zip(cells, found):
            column += more
        part += [name] * len(found[0])
    ids, labels, diseases, drugs, criteria, *others = cells
    texts = tuple(
        ". ".join((_listed(d, ids[i]), _listed(m, ids[i]), " ".join(c.split())))
        for i, (d, m, c) in enumerate(zip(diseases, drugs, criteria))
    )
    targets = numbers(labels, "drug/trial_outcome_phase1", "label")[:, None]
    metadata = dict(zip(METADATA, others))
    return Dataset(
        Labelled(tuple(ids), texts, targets),
        (Fold.from_labels(part),),
        ("success",),
        groups={"phase": metadata["phase"]},
        metadata=metadata,
    )


def _listed(cell: str, nctid: str) -> str:
    """`['one', 'two']` as `one, two`."""
    try:
        names = ast.literal_eval(cell)
        return ", ".join(str(name) for name in names)
    except (ValueError, SyntaxError, TypeError) as error:
        raise UserError(f"{nctid}: {cell[:60]!r} is no list of names ({error})") from error


def _phase1(name: str, metric: str, hint: float) -> Task:
    return Task(
        name=name,
        modality="trial",
        data=load_trials,
        split="TOP official, by time: 1,044 train, 117 valid, 627 test",
        metric=metric,
        unit="",
        baselines=("tfidf_logistic",),
        published=(
            Published("HINT", hint, HINT, True, "its released predictions, scored on these items"),
        ),
    )


TASKS = (
    _phase1("trial/phase1", "auroc", 0.564),
    _phase1("trial/phase1_auprc", "auprc", 0.635),
)
