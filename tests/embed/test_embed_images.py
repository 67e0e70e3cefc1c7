"""Embeddings of a folder of images."""

import numpy as np
import pytest
from PIL import Image
from toy_batches import parameters
from toy_images import write_dicom

from biofm_jax import cli
from biofm_jax.adapt.encoder import Encoder
from biofm_jax.data.imaging import ImageData
from biofm_jax.data.pictures import Picture
from biofm_jax.embed.images import ImageSource
from biofm_jax.embed.tables import read_embeddings
from biofm_jax.models.vision import VisionSpec

SPEC = VisionSpec(layers=2, width=16, heads=2, image=(8, 8), patch=(4, 4), registers=1,
                  init_std=0.3)  # fmt: skip
ENCODER = Encoder("toy", SPEC, ImageData(image=(8, 8)), parameters(SPEC))


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(7):
        name = tmp_path / "scans" / ("ill", "well")[number % 2] / f"{number}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (12, 10, 3)).astype(np.uint8)).save(name)
    return tmp_path / "scans"


@pytest.fixture
def embed(monkeypatch, folder):
    """Runs the command on the folder; its exit code, and ids and columns."""
    monkeypatch.setattr("biofm_jax.embed.command.load_encoder", lambda name: ENCODER)

    def run(*options, source=folder):
        out = folder.parent / "out.parquet"
        code = cli.main(["embed", "toy", str(source), str(out), *options])
        return code, read_embeddings(out) if out.exists() else None

    return run


def test_images_get_what_features_gives_layer_by_layer_in_parts(embed, folder):
    # 64 pixels an image: parts of two; 10 tokens a batch: one image each.
    code, (ids, columns) = embed("--layers", "0", "2", "--part-letters", "128",
                                 "--batch-tokens", "10")  # fmt: skip
    pictures = [Picture(name, folder) for name in ids]
    assert code == 0 and ids == sorted(ids) and len(ids) == 7 and ids[0] == "ill/0.png"
    for name, found in columns.items():
        layer = int(name.removeprefix("embedding_layer_"))
        wanted = ENCODER.features(0, "mean", layer)(pictures)
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_tokens_are_patches(embed, folder, capsys):
    code, found = embed("--dry-run", "True", "--json", "True")
    assert (code, found) == (0, None) and '"images": 7' in capsys.readouterr().out
    _, (ids, columns) = embed("--pooling", "tokens")
    means = ENCODER.features(0, "mean")([Picture(name, folder) for name in ids])
    for states, mean in zip(columns["embedding"], means):
        states = np.reshape(states, (-1, SPEC.width))
        assert len(states) == 4  # neither class token nor register
        np.testing.assert_allclose(states.mean(0), mean, atol=1e-5)


def test_a_damaged_image_is_named_and_can_be_left_out(embed, folder, capsys):
    damaged = folder / "ill" / "2.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    code, found = embed()
    assert (code, found) == (2, None)
    said = capsys.readouterr().err
    assert "2.png: the picture is cut short" in said and "1 of 7" in said
    code, (ids, _) = embed("--tolerance", "0.2", "--pooling", "cls")
    assert code == 0 and len(ids) == 6 and "ill/2.png" not in ids


@pytest.mark.parametrize(
    ("options", "told"),
    [(("--id-column", "x"), "file's name"), (("--long", "error"), "has the model's size")],
)
def test_options_of_texts_are_refused(embed, options, told, capsys):
    assert embed(*options)[0] == 2 and told in capsys.readouterr().err


def test_an_absent_folder_is_named(embed, folder, capsys):
    assert embed(source=folder / "none")[0] == 2
    assert "no such file or folder" in capsys.readouterr().err


def test_series_beside_folders_have_a_digest(tmp_path):
    """A folder of a series may hold others, whose bytes are not its own."""
    for place in ("", "deeper"):
        for number in range(2):
            pixels = np.arange(64, dtype=np.int16).reshape(8, 8) + number
            write_dicom(tmp_path / place / f"{number}.dcm", pixels, position=(0, 0, number))
    source = ImageSource(tmp_path, ImageData(image=(8, 8), volumes="neighbours"))
    before = source.digest()
    (tmp_path / "deeper" / "1.dcm").write_bytes(b"other")
    assert source.digest() != before
