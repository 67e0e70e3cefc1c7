"""Published image-text models, used whole: texts and images on real captions, and training."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
import torch
from published_towers import FAMILIES, SHORT, captions, published

from biofm_jax.adapt.prompt_classes import (
    check_model,
    picture_vectors,
    similarity_factor,
    text_vectors,
)
from biofm_jax.cli import main
from biofm_jax.data.pictures import Picture
from biofm_jax.errors import UserError
from biofm_jax.experiment import load_encoder, load_experiment, train
from biofm_jax.parity.vision_measures import pixel_values
from biofm_jax.retrieval import Retrieve, retrieve, searched
from biofm_jax.starting import started
from biofm_jax.train.mesh import MeshSpec

SMOKE = "experiments/medical_imaging/clip_contrastive.py:smoke"
IMAGES = ("synpic100132.jpg", "synpic100176.jpg", "synpic100228.jpg")


@pytest.fixture(scope="module")
def texts(biofm_data):
    return captions(biofm_data, 300)


@pytest.fixture(scope="module")
def folder(texts, tmp_path_factory):
    """Of each family `published/NAME`, and `NAME`, its import."""
    root = tmp_path_factory.mktemp("towers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIOFM_CACHE", str(root / "cache"))
        for family in FAMILIES:
            published(root / "published" / family, family, texts)
            arguments = [family, str(root / "published" / family), str(root / family)]
            assert main(["import", *arguments]) == 0
        yield root


@pytest.mark.parametrize("family", FAMILIES)
def test_similarities_of_images_and_captions_equal_the_reference(
    family, folder, texts, biofm_data, tmp_path
):
    theirs, tokenizer = published(tmp_path / "m", family, texts)  # the same random numbers
    encoder = load_encoder(str(folder / family))
    ids = [len(tokenizer(text).input_ids) for text in texts]
    assert encoder.data.pair_tokens == SHORT[family] < max(ids)
    some = [*texts[:4], texts[int(np.argmax(ids))], texts[int(np.argmin(ids))]]
    root = biofm_data / "imaging/vqa_rad/images"
    pictures = [Picture(str(root / name)) for name in IMAGES]
    pixels = np.stack([example.pixels for example in encoder.tokenize(pictures)])
    options = dict(truncation=True, max_length=SHORT[family], return_tensors="pt")
    padding = "max_length" if family == "siglip" else True
    inputs = dict(tokenizer(some, padding=padding, **options))
    inputs.pop("token_type_ids", None)
    if family == "siglip":
        inputs.pop("attention_mask", None)
    with torch.no_grad():
        wanted = theirs(**inputs, pixel_values=pixel_values(pixels, encoder.spec.first))
    found = picture_vectors(encoder, pictures, 0) @ text_vectors(encoder, some, 0).T
    found = found * similarity_factor(encoder, 0)
    if family == "siglip":
        found = found + encoder.params["space"]["bias"]
    assert np.abs(found).max() > 0.1
    np.testing.assert_allclose(found, wanted.logits_per_image.numpy(), rtol=1e-5, atol=1e-5)


@pytest.fixture
def two_devices(monkeypatch):
    """Runs on the first two devices: the parameters of an import come from the first alone."""
    some, build = jax.devices()[:2], MeshSpec.build
    monkeypatch.setattr(MeshSpec, "build", lambda spec, devices=some: build(spec, devices))
    monkeypatch.setattr(jax, "device_count", lambda: len(some))


@pytest.mark.slow
@pytest.mark.usefixtures("two_devices")
def test_training_starts_from_the_imported_parameters(folder, tmp_path):
    name, smoke = str(folder / "biomedclip"), load_experiment(SMOKE)
    loop = dataclasses.replace(smoke.loop, steps=1)
    slow = dataclasses.replace(smoke.optimizer, learning_rate=1e-9, warmup=0)
    experiment, encoder = started(dataclasses.replace(smoke, loop=loop, optimizer=slow), name)
    data = experiment.data
    assert experiment.model == encoder.spec != smoke.model
    assert (data.image, data.fit, data.pair_tokens) == ((16, 16), "crop", SHORT["biomedclip"])
    assert data.path == smoke.data.path and data.tokenizer_path == f"{name}/tokenizer"
    fitted = train(experiment, tmp_path / "run", show=False, start=encoder)
    both = (jax.tree.leaves(jax.device_get(x)) for x in (fitted.state.params, encoder.params))
    for ours, theirs in zip(*both, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-7)
    with pytest.raises(UserError, match="began from biomedclip"):
        train(experiment, tmp_path / "run", show=False)


def test_an_import_searches_the_records_of_an_experiment(folder):
    options = Retrieve(str(folder / "clip"), experiment=SMOKE, k=(5,), candidates=20)
    rows = retrieve(options, lambda line: None)
    assert [row["direction"] for row in rows] == ["first->second", "second->first"]
    assert rows[0]["candidates"] == 20 and rows[1]["queries"] == 20
    assert all(0 <= row["recall"] <= 1 and row["untrained"] is not None for row in rows)
    with pytest.raises(UserError, match="no records of its own"):
        searched(options.model, "")
    with pytest.raises(UserError, match="is of imports"):
        searched(f"random:{SMOKE}", SMOKE)


def test_what_cannot_start_a_run_is_named(folder):
    experiment = load_experiment(SMOKE)
    with pytest.raises(UserError, match="has no parameters"):
        started(experiment, f"random:{SMOKE}")
    other = load_experiment("experiments/medical_imaging/mae_masked.py:smoke")
    with pytest.raises(UserError, match=r"DualEncoderSpec of imaging.*MaskedAutoencoderSpec"):
        started(other, str(folder / "clip"))


LOST = {"clip": ("vocab.json", "merges.txt"), "siglip": ("spiece.model", "tokenizer_config.json"),
        "biomedclip": ("vocab.txt", "tokenizer_config.json")}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_files_of_a_tokenizer_that_are_missing_are_named(family, folder, tmp_path, capsys):
    source = tmp_path / "m"
    shutil.copytree(folder / "published" / family, source)
    first, second = LOST[family]
    (source / second).unlink()
    if family != "biomedclip":  # whose vocabulary says all
        assert main(["import", family, str(source), str(tmp_path / "half")]) == 2
        assert f"{second}: missing; copy the published file" in capsys.readouterr().err
    (source / first).unlink()
    assert main(["import", family, str(source), str(tmp_path / "none")]) == 0
    assert "none: give --tokenizer FOLDER" in capsys.readouterr().out
    encoder = load_encoder(str(tmp_path / "none"))  # its images are read
    for refused in (check_model, lambda e: started(load_experiment(SMOKE), str(tmp_path / "none"))):
        with pytest.raises(UserError, match="import it again with --tokenizer FOLDER"):
            refused(encoder)


def test_a_tokenizer_of_another_model_is_refused(folder, tmp_path, capsys):
    source, other = (str(folder / "published" / name) for name in ("clip", "siglip"))
    out = str(tmp_path / "model")
    assert main(["import", "clip", source, out, "--tokenizer", other]) == 2
    assert "do not belong together" in capsys.readouterr().err
