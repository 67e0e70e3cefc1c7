import json

import jax
import numpy as np
import pytest
from toy_images import gradient, save

from biofm_jax.data.image_caption import ImageCaptionData
from biofm_jax.data.image_records import ImageColumns
from biofm_jax.data.imaging import ImageData
from biofm_jax.data.notes import ByteTokenizer
from biofm_jax.errors import UserError

CAPTIONS = ["a clear lung", "an opacity in the left lower lobe, " * 3, "é", "glands", "no finding"]


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("BIOFM_CACHE", str(tmp_path / "cache"))
    lines = []
    for number in range(10):
        name = f"{number // 2}.png"  # two captions an image
        save(tmp_path / "set" / "images" / name, gradient(6, 6, seed=number // 2))
        lines.append({"image": name, "caption": CAPTIONS[number % 5] + f" {number}"})
    (tmp_path / "set" / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path / "set"


def data(path, **changes):
    usual = {"image": (6, 6), "pair_tokens": 24, "holdout": 0.0}
    return ImageCaptionData(str(path), **usual | changes)


def test_image_and_caption_of_a_row_belong_together(path):
    spec, tokenizer = data(path), ByteTokenizer()
    store = spec.open()
    assert len(store) == 10 and store.first.pixels.shape == (5, 6, 6, 3)
    batch = next(spec.batches(store, batch_size=12, seed=0, epochs=1))
    told = jax.tree.map(lambda leaf: (leaf.shape, np.dtype(leaf.dtype)), (batch, spec.shapes(12)))
    assert told[0] == told[1] and batch.pair.tokens.shape == (12, 24)
    seen = []
    for row, record in enumerate(batch.examples[:, 0]):
        if record < 0:
            assert not batch.pair.segment_ids[row].any() and not batch.images[row].any()
            continue
        np.testing.assert_array_equal(batch.images[row], gradient(6, 6, seed=record // 2))
        caption = f"{CAPTIONS[record % 5]} {record}"
        shown = batch.pair.tokens[row, batch.pair.segment_ids[row] == 1]
        whole = tokenizer.encode(caption)
        if len(whole) > 24:  # its start, and eos as the last token
            whole = np.append(whole[:23], tokenizer.vocabulary.eos)
        np.testing.assert_array_equal(shown, whole)
        seen.append(int(record))
    assert sorted(seen) == list(range(10))
    np.testing.assert_array_equal(batch.examples, batch.pair.examples)


def test_equal_images_and_equal_captions_are_told(path):
    rows = ["image,text", "0.png,lung", "1.png,heart", "0.png,rib", "2.png,lung", "copy.png,skin"]
    save(path / "images" / "copy.png", gradient(6, 6, seed=1))  # the pixels of another file
    (path / "some.csv").write_text("\n".join(rows))
    spec = data(path / "some.csv")
    batch = next(spec.batches(spec.open(), batch_size=8, seed=3, epochs=1))
    record = batch.examples[:, 0]
    assert sorted(record) == [-1, -1, -1, 0, 1, 2, 3, 4]
    for view, equal in ((batch, {0: 0, 2: 0, 1: 1, 4: 1, 3: 3}),
                        (batch.pair, {0: 0, 3: 0, 1: 1, 2: 2, 4: 4})):  # fmt: skip
        numbers = view.contents[:, 0]
        assert (numbers[record < 0] == -1).all() and (numbers[record >= 0] >= 0).all()
        for i in np.flatnonzero(record >= 0):
            for j in np.flatnonzero(record >= 0):
                assert (numbers[i] == numbers[j]) == (equal[record[i]] == equal[record[j]])


def test_captions_that_lose_their_end_are_counted(path, caplog):
    with caplog.at_level("INFO", "biofm_jax"):
        data(path).open()
        assert "2 of 10 captions have over 24 tokens" in caplog.text
        caplog.clear()
        data(path, pair_tokens=200).open()
    assert not caplog.text


def test_captions_of_one_image_stay_on_one_side_and_an_order_goes_on(path):
    spec = data(path, holdout=0.5)
    store = spec.open()
    held = set(store.split(0.5, held=True).tolist())
    assert 0 < len(held) < 10 and all((i ^ 1) in held for i in held)
    spec = data(path)
    whole = list(spec.batches(store, batch_size=3, seed=1, epochs=2))
    stopped = spec.batches(store, batch_size=3, seed=1, epochs=2)
    next(stopped)
    resumed = spec.batches(spec.open(), batch_size=3, seed=1, epochs=2)
    resumed.restore(json.loads(json.dumps(stopped.state())))
    for expected, found in zip(whole[1:], resumed, strict=True):
        np.testing.assert_array_equal(expected.pair.tokens, found.pair.tokens)
        np.testing.assert_array_equal(expected.images, found.images)
        np.testing.assert_array_equal(expected.contents, found.contents)


def test_blank_and_endless_captions_are_named(path):
    lines = ["image,text", "0.png,fine", "1.png,  ", f"2.png,{'word ' * 3000}", "9.png,fine"]
    (path / "some.csv").write_text("\n".join(lines))
    with pytest.raises(UserError) as stopped:
        data(path / "some.csv").open()
    text = str(stopped.value)
    assert "3 of 4 records are bad" in text
    assert "line 3: 1.png: the caption is blank" in text
    assert "line 4: 2.png: a caption of 3,000 words; 1,000 is the most" in text
    assert "line 5: 9.png: there is no such file" in text
    (path / "none.csv").write_text("image,label\n0.png,1\n")
    with pytest.raises(UserError, match="'caption' or 'text'"):
        data(path / "none.csv").open()


def test_columns_are_joined_and_a_folder_without_captions_is_refused(path, tmp_path):
    (path / "qa.csv").write_text("image,question,answer\n0.png,which organ?,lung\n1.png,what?,\n")
    spec = data(path / "qa.csv", columns=ImageColumns(caption="question+answer"))
    store = spec.open()
    assert [row["caption"] for row in store.first.records] == ["which organ? lung", "what? "]
    plain = ImageData(str(path / "images"), image=(6, 6)).prepare(tmp_path / "plain")
    with pytest.raises(UserError, match="prepared without captions"):
        data(plain).open()
    whole = data(path).prepare(tmp_path / "whole")
    assert data(whole).open().digest() == data(path).open().digest()
    assert len(ImageData(str(whole), image=(6, 6)).open()) == 10


def test_real_questions_and_answers(biofm_data, tmp_path, monkeypatch):
    monkeypatch.setenv("BIOFM_CACHE", str(tmp_path / "cache"))
    spec = ImageCaptionData(
        "$BIOFM_DATA/imaging/vqa_rad/qa.csv.gz",
        image=(16, 16),
        columns=ImageColumns(caption="question+answer"),
        tolerance=0.001,  # one row of the published file is not UTF-8
    )
    store = spec.open()
    assert len(store) == 3063 and len(store.first.pixels) == 314
    batch = next(spec.batches(store, batch_size=4, seed=0))
    assert batch.images.shape == (4, 16, 16, 3) and (batch.pair.segment_ids[:, :5] == 1).all()
