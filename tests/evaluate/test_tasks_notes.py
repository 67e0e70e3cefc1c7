import gzip
import json
from collections import Counter

import numpy as np
import pytest

from biofm_jax.errors import UserError
from biofm_jax.evaluate.leaks import leak_report
from biofm_jax.evaluate.task import get_task
from biofm_jax.evaluate.tasks.notes import CLASSES, official_parts

FOLDER = "clinical/pubmedqa"


def read(root, name):
    with gzip.open(root / FOLDER / f"{name}.json.gz", "rt") as lines:
        return json.load(lines)


def answers_of(data, index):
    return Counter(CLASSES[int(label)] for label in data.items.targets[index, 0])


def test_the_test_part_is_official(biofm_data):
    data = get_task("pubmedqa").data(biofm_data)
    fold, official = data.folds[0], read(biofm_data, "test_ground_truth")
    assert (len(fold.train), len(fold.valid), len(fold.test)) == (450, 50, 500)
    assert data.classes == ("yes", "no", "maybe")
    assert dict(zip(data.tested.ids, data.tested.targets[:, 0])) == {
        pmid: float(CLASSES.index(answer)) for pmid, answer in official.items()
    }
    assert answers_of(data, fold.test) == {"yes": 276, "no": 169, "maybe": 55}
    others = np.concatenate([fold.train, fold.valid])
    assert answers_of(data, others) == {"yes": 276, "no": 169, "maybe": 55}


def test_the_parts_are_those_of_the_authors_script(biofm_data):
    """Its seed gives the official test set again, so its folds are the official ones too."""
    answers = {p: r["final_decision"] for p, r in read(biofm_data, "ori_pqal").items()}
    parts, test = official_parts(answers)
    assert set(test) == set(read(biofm_data, "test_ground_truth"))
    assert [len(part) for part in parts] == [50] * 10
    assert len(set().union(*parts)) == 500 and not set(test) & set().union(*parts)
    shares = [Counter(answers[pmid] for pmid in part) for part in parts]
    assert all(24 <= s["yes"] <= 28 and 13 <= s["no"] <= 17 for s in shares[:-1])
    data = get_task("pubmedqa").data(biofm_data)
    assert {data.items.ids[i] for i in data.folds[0].valid} == set(parts[0])


def test_the_text_is_question_and_abstract_without_the_conclusion(biofm_data):
    data, records = get_task("pubmedqa").data(biofm_data), read(biofm_data, "ori_pqal")
    texts = dict(zip(data.items.ids, data.items.texts))
    for pmid, record in records.items():
        assert texts[pmid].startswith(record["QUESTION"])
        assert texts[pmid].endswith(record["CONTEXTS"][-1])
        assert record["LONG_ANSWER"] not in texts[pmid]


def test_nothing_leaks_from_the_test_items(biofm_data):
    report = leak_report(get_task("pubmedqa").data(biofm_data), "notes", classes=True)
    assert report.tested == 500 and report.findings == ()


def write(root, name, content):
    path = root / FOLDER / f"{name}.json.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content.encode()))


def test_broken_files_are_named(tmp_path):
    task, record = get_task("pubmedqa"), {"QUESTION": "Q?", "CONTEXTS": ["A."]}
    write(tmp_path, "test_ground_truth", '{"1": "no"}')
    for content, words in (
        ('{"1": {"QUES', r"ori_pqal\.json\.gz: cannot be read as JSON"),
        ("[]", "cannot be read as JSON"),
        (json.dumps({"1": record}), "KeyError: 'final_decision'"),
        (json.dumps({"1": record | {"final_decision": "perhaps"}}), "among yes, no, maybe"),
        (json.dumps({"1": record | {"final_decision": "yes"}}), "differ in the answer of 1"),
    ):
        write(tmp_path, "ori_pqal", content)
        with pytest.raises(UserError, match=words):
            task.data(tmp_path)
