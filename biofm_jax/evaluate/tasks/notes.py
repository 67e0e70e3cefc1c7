"""Tasks of biomedical prose: questions answered from abstracts.

pubmedqa: 1,000 research questions that PubMed abstracts answer with yes, no or maybe (PQA-L, Jin
et al. 2019, EMNLP, arXiv:1909.06146; github.com/pubmedqa/pubmedqa, MIT). The text is the question,
then the abstract without its conclusion: the reasoning-required setting. The conclusion
(`LONG_ANSWER`) is dropped. The answers of two annotators (right on 78 % of items without the
conclusion and 92 % with it) and the year are metadata that only the leak report looks at. The 500
test items are the official ones. Of the other 500, 50 validate: the development set of the first of
the ten official folds, which the authors' script draws with seed 0; it is drawn again here.

Baselines. The majority class is right on .552 of the test items. TF-IDF of words and pairs of
words with logistic regression, on all 500 others, gives accuracy .570 and macro-F1 .379, as
reported with the data. Its settings (phrases in 2 texts or more, C = 10, classes weighed alike)
were not reported: they are the only ones, of about 2,000 tried on words, phrases, rarity, strength
and weights, that give both figures; so they are chosen by test scores, not the best of which was
.580. One test item is decided by where the solver stops: at scikit-learn's default tolerance its
two likeliest classes differ by 0.00003, and converged to 1e-8 the scores are .568 and .377.
"""

import gzip
import json
import math
import random
from pathlib import Path

import numpy as np

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.errors import UserError
from biofm_jax.evaluate.splits import Fold
from biofm_jax.evaluate.task import Dataset, Published, Task, data_file

CLASSES = ("yes", "no", "maybe")
OFFICIAL_FOLDS = 10
METADATA = ("YEAR", "reasoning_required_pred", "reasoning_free_pred")
LEADERBOARD = "pubmedqa.github.io, leaderboard of the reasoning-required setting"
PAPER = "Jin et al. 2019, arXiv:1909.06146, and pubmedqa.github.io"


def load_pubmedqa(root: Path | None) -> Dataset:
    """PQA-L: 450 training, 50 validation and the 500 official test items."""
    records, answers = (
        _read(data_file(root, f"clinical/pubmedqa/{name}.json.gz"))
        for name in ("ori_pqal", "test_ground_truth")
    )
    try:
        decisions = {pmid: record["final_decision"] for pmid, record in records.items()}
        texts = tuple(" ".join([r["QUESTION"], *r["CONTEXTS"]]) for r in records.values())
        labels = [float(CLASSES.index(decision)) for decision in decisions.values()]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"clinical/pubmedqa/ori_pqal.json.gz: a record without question, contexts or an answer "
            f"among {', '.join(CLASSES)} ({type(error).__name__}: {error})"
        ) from error
    wrong = [pmid for pmid, answer in answers.items() if decisions.get(pmid) != answer]
    if wrong:
        raise UserError(
            f"clinical/pubmedqa: the two files differ in the answer of {wrong[0]}; they should be "
            "of one version"
        )
    valid = official_parts(decisions)[0][0]
    part = ["test" if p in answers else "valid" if p in valid else "train" for p in records]
    items = Labelled(tuple(records), texts, np.array(labels)[:, None])
    return Dataset(
        items,
        (Fold.from_labels(part),),
        ("answer",),
        metadata={name: [r.get(name) for r in records.values()] for name in METADATA},
        classes=CLASSES,
    )


def official_parts(answers: dict[str, str]) -> tuple[list[list[str]], list[str]]:
    """The parts that the authors' script `preprocess/split_dataset.py` cuts PQA-L into.

    Args:
        answers: PMID -> answer, in the order of the file.

    Returns:
        PMIDs of the ten parts of one half (of each fold, the part of its number develops and the
        rest trains), and PMIDs of the other half, which is the official test set.
    """
    rng = random.Random(0)
    others, test = _cut(answers, 2, rng)
    return _cut({pmid: answers[pmid] for pmid in others}, OFFICIAL_FOLDS, rng), test


def _cut(answers: dict[str, str], parts: int, rng: random.Random) -> list[list[str]]:
    """Parts of equal size and about equal answers; the last one, if too small, gets from each."""
    cut: list[list[str]] = [[] for _ in range(parts)]
    for answer in CLASSES:
        pmids = [pmid for pmid, given in answers.items() if given == answer]
        rng.shuffle(pmids)
        size = math.ceil(len(pmids) / parts)
        for number, part in enumerate(cut):
            part += pmids[number * size : (number + 1) * size]
    if len(cut[-1]) != len(cut[0]):
        for part in cut[:-1]:
            moved = rng.choice(part)
            part.remove(moved)
            cut[-1].append(moved)
    return cut


def _read(path: Path) -> dict:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            found = json.load(lines)
        if not isinstance(found, dict) or not found:
            raise ValueError("no object, or an empty one")
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); fetch it again") from error
    return found


def _published() -> tuple[Published, ...]:
    large = {
        "GPT-4 (Medprompt)": 0.820,
        "Med-PaLM 2": 0.818,
        "MEDITRON-70B": 0.816,
        "Flan-PaLM (3-shot)": 0.790,
    }
    note = "the official test items; a large model, prompted or tuned on other data"
    return (
        *(Published(name, value, LEADERBOARD, True, note) for name, value in large.items()),
        Published("one human", 0.780, PAPER, True, "the official test items"),
        Published(
            "BioBERT", 0.681, PAPER, False, "tuned on 272,500 more questions and the conclusions"
        ),
    )


TASKS = (
    Task(
        name="pubmedqa",
        modality="notes",
        data=load_pubmedqa,
        split="official: 500 test; of the other 500, 50 validate (first official fold)",
        metric="accuracy",
        unit="",
        baselines=("tfidf_phrases_logistic", "majority"),
        published=_published(),
    ),
)
