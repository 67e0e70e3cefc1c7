import gzip

import numpy as np
import pytest

from biofm_jax.data.image_caption import ImageCaptionData
from biofm_jax.data.image_records import ImageColumns
from biofm_jax.errors import UserError
from biofm_jax.evaluate.leaks import leak_report
from biofm_jax.evaluate.task import get_task
from biofm_jax.evaluate.tasks.imaging_text import COLUMNS, HELD, answers, read_rows


def test_the_parts_are_official_and_their_leaks_are_reported(biofm_data):
    counts = {"all": 451, "closed": 272, "open": 179}
    for which, count in counts.items():
        data = get_task(f"vqa_rad/{which}").data(biofm_data)
        (fold,) = data.folds
        assert (len(fold.train), len(fold.valid), len(fold.test)) == (3064, 0, count)
    images = np.array(get_task("vqa_rad/all").data(biofm_data).groups["image"])
    data = get_task("vqa_rad/all").data(biofm_data)
    (fold,) = data.folds
    assert len(set(images[fold.test])) == 203
    assert set(images[fold.test]) <= set(images[fold.train])  # each test image trains, too
    asked = [" ".join(text.casefold().split()) for text in data.items.texts]
    rows = list(zip(images.tolist(), asked, data.items.targets[:, 0].tolist()))
    train, test = ([rows[i] for i in part] for part in (fold.train, fold.test))
    assert sum(row in set(test) for row in train) == 22
    assert sum(row in set(train) for row in test) == 14
    assert len(data.classes) == 517 and all(name == name.casefold() for name in data.classes)
    report = leak_report(data, "imaging_text", groups={"image": data.groups["image"]})
    (shared,) = report.groups
    assert (shared.tested, shared.shared, shared.share) == (203, 203, 1.0)
    assert {"shared groups", "exact duplicates"} <= set(report.findings)


def test_unseen_images_are_those_that_the_experiments_hold_out(biofm_data, tmp_path, monkeypatch):
    monkeypatch.setenv("BIOFM_CACHE", str(tmp_path))
    spec = ImageCaptionData(
        "$BIOFM_DATA/imaging/vqa_rad/qa.csv.gz",
        image=(8, 8),
        columns=ImageColumns(caption="question+answer", group="image"),
        holdout=HELD,
        tolerance=0.001,
    )
    store = spec.open()
    held = {store.first.records[i]["group"] for i in store.split(HELD, held=True)}
    data = get_task("vqa_rad_organ_unseen").data(biofm_data)
    tested = {data.items.ids[i] for i in data.folds[0].test}
    assert len(tested) == 63 and held == tested
    assert not tested & {data.items.ids[i] for i in data.folds[0].train}


def table(tmp_path, *rows) -> None:
    folder = tmp_path / "imaging" / "vqa_rad"
    folder.mkdir(parents=True)
    lines = [",".join(COLUMNS), *rows]
    (folder / "qa.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))


GOOD = "train,1,a.jpg,HEAD,Is it a CT?, Yes ,CLOSED,MODALITY"


def test_answers_are_classes_whatever_their_case(tmp_path):
    table(tmp_path, GOOD, "test,2,a.jpg,HEAD,Is it MR?,yes,CLOSED,MODALITY",
          "test,3,a.jpg,HEAD,What is it?,a  CT,OPEN,MODALITY")  # fmt: skip
    data = answers(tmp_path)
    assert data.classes == ("a ct", "yes") and data.items.ids == ("train/1", "test/2", "test/3")
    assert data.items.targets[:, 0].tolist() == [1, 1, 0]
    assert answers(tmp_path, "OPEN").items.ids == ("train/1", "test/3")


@pytest.mark.parametrize(
    "row, words",
    [
        ("train,2,a.jpg,HEAD,Is it?,,CLOSED,PRES", "line 3: answer is blank"),
        ("train,2,,HEAD,Is it?,no,CLOSED,PRES", "line 3: image is blank"),
        ("dev,2,a.jpg,HEAD,Is it?,no,CLOSED,PRES", "line 3: split 'dev'"),
    ],
)
def test_what_is_wrong_is_named_by_its_line(tmp_path, row, words):
    table(tmp_path, GOOD, row)
    with pytest.raises(UserError, match=words):
        answers(tmp_path)


def test_a_damaged_table_is_named(tmp_path):
    (tmp_path / "qa.csv.gz").write_bytes(gzip.compress(b"split,qid\n" * 500)[:20])
    with pytest.raises(UserError, match="cannot be read"):
        read_rows(tmp_path / "qa.csv.gz")
    (tmp_path / "qa.csv.gz").write_bytes(gzip.compress(b"split,qid\ntrain,1\n"))
    with pytest.raises(UserError, match="no column 'image'"):
        read_rows(tmp_path / "qa.csv.gz")
