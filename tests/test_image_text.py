"""Images and captions of one model: retrieval where images repeat, and classes told in words."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from toy_batches import compiled_once
from toy_images import gradient, save

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.adapt.prompt_classes import (
    METHOD,
    class_vectors,
    ensemble,
    picture_vectors,
    prompts_adapter,
    text_vectors,
)
from biofm_jax.compare import plan
from biofm_jax.data.image_caption import ImageCaptionData
from biofm_jax.data.pictures import Picture
from biofm_jax.errors import UserError
from biofm_jax.evaluate.class_prompts import WORDS, prompts_of
from biofm_jax.evaluate.task import get_task
from biofm_jax.experiment import load_encoder
from biofm_jax.retrieval import Retrieve, experiment_of, oracle, retrieve, views

FILE = """
import dataclasses, runpy
smoke = runpy.run_path("experiments/medical_imaging/clip_contrastive.py")["variants"]["smoke"]
data = dataclasses.replace(smoke.data, path={path!r}, holdout=0.7, image=(16, 16), pair_tokens=16)
model = dataclasses.replace(smoke.model, first=dataclasses.replace(smoke.model.first,
                                                                   image=(16, 16)))
experiment = dataclasses.replace(smoke, data=data, model=model)
"""
IMAGES, EACH = 12, 3
SHARED = "is this a ct? yes"  # a caption of every image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("image_text")


@pytest.fixture(scope="module")
def name(folder):
    with pytest.MonkeyPatch.context() as patch, compiled_once(folder / "compiled"):
        patch.setenv("BIOFM_CACHE", str(folder / "cache"))
        lines = []
        for image in range(IMAGES):
            save(folder / f"{image}.png", gradient(16, 16, seed=image))
            texts = [SHARED, *(f"finding {image} {n}" for n in range(1, EACH))]
            for text in texts:
                question, _, answer = text.rpartition(" ")
                row = {"image": f"{image}.png", "question": question, "answer": answer}
                lines.append(json.dumps(row | {"split": "train"}))
        (folder / "qa.jsonl").write_text("\n".join(lines) + "\n")
        (folder / "towers.py").write_text(FILE.format(path=str(folder / "qa.jsonl")))
        yield f"random:{folder / 'towers.py'}"


def slow_recall(queries, candidates, right, k) -> float:
    """The share of the right candidates among the k nearest, query by query."""
    shares = []
    for query, wanted in zip(queries, right):
        best = np.argsort(-(candidates @ query), kind="stable")[:k]
        shares.append(np.isin(best, wanted).sum() / len(wanted))
    return float(np.mean(shares))


def test_a_prompt_that_is_too_long_ends_as_captions_do(monkeypatch):
    """Towers that read the last token would read a letter in the place of eos."""
    data = ImageCaptionData("unused", pair_tokens=16)
    towers = SimpleNamespace(second=None)
    encoder = SimpleNamespace(data=data, spec=towers, params_for=lambda seed: {"second": None})
    monkeypatch.setattr(
        "biofm_jax.adapt.prompt_classes._vectors", lambda spec, params, ids, *rest: ids
    )
    long, fits = text_vectors(encoder, ["x" * 99, "x" * 14], 0)
    np.testing.assert_array_equal(long, fits)
    assert len(fits) == 16 and fits[-1] == data.pair_vocabulary.eos


def test_an_image_with_many_captions_is_one_query_and_one_candidate(name):
    options = Retrieve(name, k=(1, 5))
    encoder, experiment = load_encoder(name), experiment_of(name)
    objective = experiment.objective.built_for(experiment.model, experiment.data)
    found = views(encoder, experiment, objective, options)
    n, m = len(found.records), len(found.distinct)
    assert n == EACH * m and 3 <= m < IMAGES
    image_of = found.records // EACH
    np.testing.assert_array_equal(found.records[found.distinct], np.unique(image_of) * EACH)
    rows = {(row["direction"], row["k"]): row for row in retrieve(options, lambda line: None)}
    images = found.first[found.distinct]
    captions = [np.flatnonzero(image_of == image) for image in np.unique(image_of)]
    place = [[np.flatnonzero(np.unique(image_of) == image)[0]] for image in image_of]
    for k in (1, 5):
        row = rows["first->second", k]
        # Equal captions share their places, which the slow form gives to the first.
        assert row["queries"] == m and row["candidates"] == n and row["chance"] == k / n
        assert row["ceiling"] == min(k, EACH) / EACH >= row["recall"]
        row = rows["second->first", k]
        want = slow_recall(found.second, images, place, k)
        np.testing.assert_allclose(row["recall"], want, atol=1e-9)
        # Two of three captions name their image, the third fits each.
        want = (EACH - 1 + min(1.0, k / m)) / EACH
        np.testing.assert_allclose(row["ceiling"], want, atol=1e-9)
        assert row["queries"] == n and row["candidates"] == m
    own = [found.second[0] @ found.first[0], found.second[0] @ found.first[EACH]]
    assert own[0] != own[1] and captions[0].tolist() == [0, 1, 2]
    assert oracle(found)[0].tolist() == [1] * m and oracle(found)[1].tolist() == [1] + [0] * (m - 1)


def test_a_class_is_the_mean_of_its_prompts_and_a_picture_is_of_the_nearest(name, folder):
    encoder = load_encoder(name)
    prompts = (("dark", "black"), ("a bright image",), ("blank", "empty", "a text as long as two"))
    one = text_vectors(encoder, ["dark", "black"], 0)
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, rtol=1e-5)
    mean = one.mean(0) / np.linalg.norm(one.mean(0))
    classes = class_vectors(encoder, prompts, 0)
    np.testing.assert_allclose(classes[0], mean, atol=1e-6)
    items = tuple(Picture(f"{i}.png", folder) for i in range(5))
    test = Labelled(tuple(items), items, np.full((5, 1), np.nan))
    nothing = test.at(np.zeros(0, int))
    guess = prompts_adapter(encoder, prompts, "class")(nothing, nothing, test, 0)
    pictures = picture_vectors(encoder, items, 0)
    np.testing.assert_array_equal(guess[:, 0], (pictures @ classes.T).argmax(1))
    two = prompts_adapter(encoder, prompts[:2], "binary")(nothing, nothing, test, 0)
    odds = (pictures @ (classes[1] - classes[0])) / 0.07
    np.testing.assert_allclose(two[:, 0], 1 / (1 + np.exp(-odds)), rtol=1e-5)
    other = prompts_adapter(encoder, prompts[:2], "binary")(nothing, nothing, test, 1)
    assert np.abs(other - two).max() > 1e-3  # an untrained model, drawn anew


def test_every_task_with_words_has_them_for_each_class(biofm_data):
    for name in WORDS:
        task = get_task(name)
        prompts = prompts_of(task, task.data(biofm_data))
        assert len(prompts) == len(task.data(biofm_data).classes) and all(prompts)
        assert len({text for texts in prompts for text in texts}) == sum(map(len, prompts))
    assert ensemble(["polyp"])[0][:2] == ("polyp", "an image of polyp")


def test_what_cannot_be_is_named(name):
    encoder = load_encoder(name)
    with pytest.raises(UserError, match="prompts of two classes"):
        prompts_adapter(encoder, (("a",), ("b",), ("c",)), "binary")
    with pytest.raises(UserError, match="each of two or more classes"):
        prompts_adapter(encoder, (("a",), ()), "class")
    with pytest.raises(UserError, match="kind number"):
        prompts_adapter(encoder, (("a",), ("b",)), "number")
    masked = load_encoder("random:experiments/drug_discovery/smiles_masked.py:smoke")
    with pytest.raises(UserError, match="no model of both"):
        prompts_adapter(masked, (("a",), ("b",)), "class")
    with pytest.raises(UserError, match="esol has none"):
        plan(["esol"], [METHOD], 1)
