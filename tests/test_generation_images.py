"""`biofm generate` of a captioner: captions of images, of files or of those its run held out."""

import csv
import json
import shutil

import jax
import numpy as np
import pytest
from toy_batches import FAST_COMPILE, compiled_once
from toy_images import gradient, save

from biofm_jax import cli
from biofm_jax.adapt.captions import caption_writer
from biofm_jax.adapt.prompts import rules
from biofm_jax.data.batch import Batch
from biofm_jax.evaluate.captions import caption_report, nearest_images, rouge_of
from biofm_jax.evaluate.metrics_text import rouge
from biofm_jax.experiment import load_encoder

FILE = """
import dataclasses, runpy
coca = runpy.run_path("experiments/medical_imaging/coca_captioning.py")["variants"]["smoke"]
data = dataclasses.replace(coca.data, path={path!r}, holdout=0.5, image=(8, 8), pair_tokens=16,
                           columns=dataclasses.replace(coca.data.columns, caption="", group=""))
first = dataclasses.replace(coca.model.first, image=(8, 8), patch=(4, 4), init_std=0.5)
second, decoder = (dataclasses.replace(half, init_std=0.5)
                   for half in (coca.model.second, coca.model.decoder))
model = dataclasses.replace(coca.model, first=first, second=second, decoder=decoder)
experiment = dataclasses.replace(coca, data=data, model=model)
"""
WORDS = ("dark lung", "clear", "a mass", "dark lung", "no mass", "a rib")
NEW = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("captions")


@pytest.fixture(scope="module")
def model(folder):
    with pytest.MonkeyPatch.context() as patch, compiled_once(folder / "compiled"):
        patch.setenv("BIOFM_CACHE", str(folder / "cache"))
        lines = []
        for image in range(8):
            save(folder / "set" / f"{image}.png", gradient(8, 8, seed=image))
            for text in (WORDS[image % 6], f"finding {image}"):
                lines.append(json.dumps({"image": f"{image}.png", "caption": text}))
        (folder / "set" / "captions.jsonl").write_text("\n".join(lines) + "\n")
        (folder / "coca.py").write_text(FILE.format(path=str(folder / "set")))
        yield f"random:{folder / 'coca.py'}"


def command(capsys, model, out, *arguments):
    code = cli.main(["generate", model, str(out), *map(str, arguments), "--json", "True"])
    said, err = capsys.readouterr()
    return code, json.loads(said)[0] if code == 0 else " ".join(err.split())


def table(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_each_image_gets_the_caption_of_the_full_forward_pass(model, folder, capsys, tmp_path):
    out = tmp_path / "made.csv"
    options = ["--images", folder / "set", "--temperature", 0, "--max-tokens", NEW, "--rows", 3]
    code, report = command(capsys, model, out, *options, "--prompt", "a")
    assert code == 0 and report["sequences"] == 8 and "rouge_l" not in report
    rows = table(out)
    assert [r["id"] for r in rows] == [r["image"] for r in rows] == [f"{i}.png" for i in range(8)]
    encoder = load_encoder(model)
    writer, params = caption_writer(encoder), encoder.params_for(0)
    banned, tokenizer = np.array(rules(writer).banned), writer.data.tokenizer()
    apply = encoder.spec.build().apply
    whole = jax.jit(
        lambda params, batch: jax.nn.log_softmax(apply(params, batch).caption),
        compiler_options=FAST_COMPILE,
    )
    pixels = np.stack([gradient(8, 8, seed=i) for i in range(8)])
    one = np.ones((8, 1), np.int32)
    tokens, total = np.zeros((8, 2 + NEW), np.int32), np.zeros(8)
    tokens[:, :2] = tokenizer.encode("a")[:2]
    place = np.broadcast_to(np.arange(2 + NEW, dtype=np.int32), tokens.shape)
    batch, alive = Batch(0 * one, one, 0 * one, one, images=pixels), np.ones(8, bool)
    for at in range(2, 2 + NEW):  # all is read again for every token
        pair = Batch(tokens, 1 + 0 * tokens, place, one)
        scores = np.array(whole(params, batch.replace(pair=pair)))[:, at - 1]
        allowed = scores.copy()
        allowed[:, banned] = -np.inf
        tokens[:, at] = np.where(alive, allowed.argmax(-1), 0)
        total += np.where(alive, scores[np.arange(8), tokens[:, at]], 0)
        alive &= tokens[:, at] != tokenizer.vocabulary.eos
    assert [row["text"] for row in rows] == [tokenizer.decode(row) for row in tokens]
    np.testing.assert_allclose([float(r["log_likelihood"]) for r in rows], total, atol=2e-3)
    assert len({row["log_likelihood"] for row in rows}) == 8  # no two images are told alike


def test_samples_go_on_where_they_were_killed_and_depend_on_their_image_alone(
    model, folder, capsys, tmp_path
):
    options = ["--n", 2, "--max-tokens", NEW, "--rows", 3, "--images"]
    out, again = tmp_path / "made.jsonl", tmp_path / "again.jsonl"
    assert command(capsys, model, out, *options, folder / "set")[0] == 0
    part = tmp_path / "again.jsonl.part.jsonl"
    settings = json.loads((tmp_path / "made.jsonl.report.json").read_text())["settings"]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows[:3]] == ["0.png_1", "0.png_2", "1.png_1"]
    marked = [row | {"text": "kept"} for row in rows[:3]]
    part.write_text("".join(json.dumps(each) + "\n" for each in (settings, marked)) + '[{"cut')
    assert command(capsys, model, again, *options, folder / "set")[0] == 0
    found = [json.loads(line) for line in again.read_text().splitlines()]
    assert found == [*marked, *rows[3:]] and not part.exists()
    code, err = command(capsys, model, out, *options, folder / "set" / "0.png")
    assert code == 2 and "images: " in err
    # A table names an image for each caption, a folder once; several paths keep their order.
    shutil.copytree(folder / "set", tmp_path / "other")
    (tmp_path / "other" / "captions.jsonl").unlink()
    (tmp_path / "other" / "0.png").unlink()
    paths = (folder / "set" / "3.png", tmp_path / "other")
    code, report = command(capsys, model, tmp_path / "b.csv", "--beams", 2, "--max-tokens", NEW,
                           "--n", 1, "--images", *paths)  # fmt: skip
    assert code == 0, report
    assert [r["image"] for r in table(tmp_path / "b.csv")] == [
        "3.png", *(f"other/{i}.png" for i in range(1, 8))
    ]  # fmt: skip


def test_held_out_images_are_compared_with_their_captions_and_two_floors(model, capsys, tmp_path):
    out = tmp_path / "held.csv"
    code, report = command(capsys, model, out, "--max-tokens", NEW, "--n", 2)
    assert code == 0, report
    data = load_encoder(model).data
    store = data.open()
    held, rest = (store.split(0.5, held=side) for side in (True, False))
    images = sorted({record // 2 for record in held.tolist()})
    assert 1 < len(images) < 8 and report["images"] == len(images)
    rows = table(out)
    assert [row["image"] for row in rows] == [f"{i}.png" for i in images for _ in range(2)]
    texts = {i: [WORDS[i % 6], f"finding {i}"] for i in range(8)}
    train = sorted({record // 2 for record in rest.tolist()})
    count = [text for i in train for text in texts[i]]
    common = max(count, key=lambda text: (count.count(text), -count.index(text)))
    floor = np.mean([rouge_of([common], texts[i]) for i in images])
    assert report["rouge_l_most_frequent"] == pytest.approx(floor)
    pixels = np.stack([gradient(8, 8, seed=i) for i in range(8)]).astype(float)
    near = [min(train, key=lambda j: ((pixels[i] - pixels[j]) ** 2).sum()) for i in images]
    floor = np.mean([rouge_of(texts[j], texts[i]) for i, j in zip(images, near)])
    assert report["rouge_l_nearest_image"] == pytest.approx(floor)
    own = [np.mean([rouge_of([r["text"]], texts[i]) for r in rows if r["image"] == f"{i}.png"])
           for i in images]  # fmt: skip
    assert report["rouge_l"] == pytest.approx(np.mean(own))


def test_scores_are_those_of_the_best_reference():
    told, other = "a dark left lung", "the heart"
    assert rouge_of([told], [other, told]) == 1 and rouge_of([told, "x"], [told]) == 0.5
    part = rouge("a dark lung", "a lung", "L")[2]
    found = caption_report([["a lung"], ["no"]], [["a dark lung"], ["no", "x"]],
                           [["no", "yes"], ["yes", "yes"]], [1, 0])  # fmt: skip
    assert found["rouge_l"] == pytest.approx((part + 1) / 2) and found["images"] == 2
    assert found["rouge_l_most_frequent"] == 0 and found["rouge_l_nearest_image"] == 0.25
    assert found["rouge_l_low"] <= found["rouge_l"] <= found["rouge_l_high"]
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (30, 4, 4, 1)).astype(np.uint8)
    import biofm_jax.evaluate.captions as module

    before, module.PIXELS = module.PIXELS, 16 * 7  # seven images at a time
    try:
        near = nearest_images(pixels, np.arange(10), np.arange(10, 30))
    finally:
        module.PIXELS = before
    far = ((pixels[:10, None].astype(float) - pixels[None, 10:]) ** 2).sum((2, 3, 4))
    np.testing.assert_array_equal(near, far.argmin(1))


def test_bad_input_says_what_to_do(model, folder, capsys, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "cut.png").write_bytes((folder / "set" / "0.png").read_bytes()[:45])
    smiles = "random:experiments/drug_discovery/smiles_next_token.py:smoke"
    clip = "random:experiments/medical_imaging/clip_contrastive.py:smoke"
    for name, arguments, words in (
        (model, ("--images", tmp_path / "none"), "none: no such file or folder"),
        (model, ("--images", bad), "cut.png"),
        (model, ("--source", "x"), "writes from images: give --images FOLDER"),
        (model, ("--prompt", "a", "b"), "from each image begins alike"),
        (model, ("--temperature", 0, "--n", 2), "set --n 1"),
        (smiles, ("--images", folder / "set"), "writes from no image"),
        (clip, ("--images", folder / "set"), "encoder"),
    ):
        code, err = command(capsys, name, tmp_path / "x.csv", *arguments)
        assert code == 2 and words in err, (arguments, err)
    assert not list(tmp_path.glob("x.csv*"))
    options = ("--images", folder / "set", "--dry-run", "True", "--max-tokens", NEW)
    code, row = command(capsys, model, tmp_path / "x.csv", *options)
    assert code == 0 and row["sequences"] == 8 and row["vectors_of_an_image"] == 4
