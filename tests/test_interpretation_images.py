"""`biofm interpret` of models of images: every picture, on planted lesions with masks."""

import json

import jax
import numpy as np
import pytest
from toy_pictures import toy_hrf

from biofm_jax import cli
from biofm_jax.adapt.encoder import Encoder
from biofm_jax.data.imaging import ImageData
from biofm_jax.evaluate.report import write_report
from biofm_jax.interpret.records import read_interpretations
from biofm_jax.models.vision import VisionSpec

SPEC = VisionSpec(layers=1, width=8, heads=2, image=(16, 16), patch=(4, 4), channels=1,
                  mean=(0.5,), deviation=(0.25,), init_std=0.2)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return toy_hrf(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def encoder():
    params = jax.jit(SPEC.build().init)(jax.random.key(0), None)
    return Encoder("toy", SPEC, ImageData(image=(16, 16), channels=1), params)


@pytest.fixture
def interpret(monkeypatch, capsys, root, encoder, tmp_path):
    monkeypatch.setattr("biofm_jax.interpretation.load_encoder", lambda name: encoder)
    monkeypatch.setenv("BIOFM_DATA", str(root))

    def run(*arguments):
        given = ["interpret", "toy", *arguments, "--out", str(tmp_path), "--json", "True"]
        code = cli.main(given)
        out, err = capsys.readouterr()
        return (code, json.loads(out)) if code == 0 else (code, err)

    return run


def test_a_task_with_masks_gets_every_picture_and_the_report_shows_them(interpret, root, tmp_path):
    masks = root / "imaging/retina_hrf/masks"
    code, rows = interpret("--task", "retina_hrf", "--masks", str(masks), "--steps", "16")
    assert code == 0
    kinds = ["rollout", "gradients", "pointing", "neighbours", "embeddings"]
    assert [row["kind"] for row in rows] == kinds
    found, problems = read_interpretations([tmp_path])
    assert not problems
    by_kind = {each.kind: each for each in found}
    pointing = by_kind["pointing"].arrays
    assert pointing["hits"].shape == (6, 4)  # four of six photographs have a lesion
    # This model's parameters are those of its untrained control: no map may tell them apart.
    np.testing.assert_allclose(pointing["untrained"], pointing["hits"])
    assert any("untrained model: 1.00" in each.caption for each in found)
    np.testing.assert_allclose(pointing["areas"], 16 / 256)
    near = by_kind["neighbours"].arrays
    assert near["queries"].shape == (3, 16, 16, 1) and near["found"].shape[:2] == (3, 3)
    assert set(near["query_labels"]) == {"healthy", "diabetic retinopathy", "glaucoma"}
    page = tmp_path / "report.html"
    write_report([tmp_path], page)
    assert page.read_text().count("data:image/png;base64,") >= 5


def test_a_file_alone_gets_its_attention(interpret, root):
    file = root / "imaging/retina_hrf/images/01_g.jpg"
    code, rows = interpret("--text", str(file))
    assert code == 0 and [row["kind"] for row in rows] == ["rollout"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--text", "a.png"), "a.png.*there is no such file"),
        (("--text", "a.png", "--show", "gradients"), "give --task for a readout"),
        (("--task", "retina_hrf", "--show", "contacts"), "for sequences, not images"),
        (("--task", "retina_hrf", "--show", "pointing"), "needs --task, .* and --masks"),
        (("--task", "retina_hrf", "--show", "reconstruction"), "no masked autoencoder"),
        (("--task", "retina_hrf", "--masks", "nowhere"), "nowhere is no folder"),
        (("--task", "esol"), "task of molecule models"),
    ],
)
def test_what_cannot_be_shown_says_why(interpret, arguments, told):
    import re

    code, said = interpret(*arguments)
    assert code == 2 and re.search(told, said.replace("\n", " "))


def test_masks_of_other_images_are_named(interpret, tmp_path):
    code, said = interpret(
        "--task", "retina_hrf", "--show", "pointing", "--masks", str(tmp_path)
    )  # fmt: skip
    assert code == 2 and "no mask is named as a test image of retina_hrf, such as 01_" in said
