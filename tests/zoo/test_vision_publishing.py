"""Published models that read images: in, used, and out again to the byte."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from biofm_jax.cli import main
from biofm_jax.experiment import load_encoder
from biofm_jax.zoo.importing import model_places
from biofm_jax.zoo.registry import FAMILIES, PUBLISHED
from biofm_jax.zoo.vision_layout import Patches

SIZES = dict(num_hidden_layers=1, hidden_size=16, num_attention_heads=2)
TOWER = SIZES | dict(intermediate_size=24, image_size=8, patch_size=4)
TEXT = SIZES | dict(intermediate_size=24, vocab_size=30, max_position_embeddings=6)
CLIP = dict(model_type="clip", projection_dim=10, vision_config=TOWER, text_config=TEXT)
CONFIGS = {
    "dinov2": SIZES | dict(model_type="dinov2", image_size=12, patch_size=4),
    "clip": CLIP,
    "openai_clip": CLIP,
    "siglip": dict(model_type="siglip", vision_config=TOWER, text_config=TEXT),
    "biomedclip": {
        "model_cfg": {
            "embed_dim": 10,
            "vision_cfg": {
                "timm_model_name": "vit_base_patch16_224",
                "timm_pool": "",
                "image_size": 8,
                "timm_model_args": dict(patch_size=4, embed_dim=16, depth=1, num_heads=2),
            },
            "text_cfg": {
                "hf_proj_type": "mlp",
                "hf_pooler_type": "cls_last_hidden_state_pooler",
                "hf_model_config": TEXT,
            },
        },
        "preprocess_cfg": {"mean": [0.7, 0.5, 0.6], "std": [0.2, 0.3, 0.1]},
    },
}

PREPROCESSOR = {"crop_size": {"height": 8, "width": 8}, "image_mean": [0.7, 0.5, 0.6],
                "image_std": [0.2, 0.3, 0.1]}  # fmt: skip


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def save(folder, family: str) -> None:
    """A folder as it is published, of random numbers; DINOv2's without its prefix."""
    spec, rng = FAMILIES[family].spec_of(CONFIGS[family]), np.random.default_rng(0)
    arrays = {
        place.name.removeprefix("dinov2."): rng.normal(size=place.published_shape)
        .astype(np.float16)
        for place in model_places(FAMILIES[family], spec)
    }  # fmt: skip
    folder.mkdir()
    file = folder / FAMILIES[family].weights
    save_file(arrays, file, metadata={"format": "pt"})
    (folder / FAMILIES[family].config).write_text(json.dumps(CONFIGS[family]))
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))


@pytest.mark.parametrize("family", CONFIGS)
def test_there_and_back_and_it_reads_pictures(family, tmp_path, picture, capsys):
    save(tmp_path / "published", family)
    assert main(["import", family, str(tmp_path / "published"), str(tmp_path / "model"),
                 "--json", "True"]) == 0  # fmt: skip
    (row,) = json.loads(capsys.readouterr().out)
    assert row["images"].startswith("8 x 8 pixels, 3 channels")
    encoder = load_encoder(str(tmp_path / "model"))
    tower, _ = encoder.spec.reader(None)
    assert tower.mean == (0.7, 0.5, 0.6) and tower.image == encoder.data.image == (8, 8)
    if family == "dinov2":
        assert tower.grid == (3, 3)  # whose table is for 12 pixels
        vectors = encoder.features(0)([str(picture)])
        assert vectors.shape == (1, 16) and np.isfinite(vectors).all()
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "again")]) == 0
    names = {path.name for path in (tmp_path / "published").iterdir()}
    assert {path.name for path in (tmp_path / "again").iterdir()} == names
    for name in names:
        wanted = (tmp_path / "published" / name).read_bytes()
        assert (tmp_path / "again" / name).read_bytes() == wanted, name


def test_the_authors_layout_is_told_by_its_names(tmp_path, capsys):
    save(tmp_path / "published", "openai_clip")
    assert main(["import", "clip", str(tmp_path / "published"), str(tmp_path / "model")]) == 0
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "again")]) == 0
    wanted = (tmp_path / "published" / "model.safetensors").read_bytes()
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == wanted


def test_a_projection_of_patches_is_the_convolution():
    import torch

    layout, rng = Patches((2, 3), 3), np.random.default_rng(0)
    weight = rng.normal(size=(5, 3, 2, 3)).astype(np.float32)
    image = rng.normal(size=(2, 3, 3)).astype(np.float32)
    kernel = layout.to_ours(weight, (18, 5))
    wanted = torch.nn.functional.conv2d(
        torch.from_numpy(image).permute(2, 0, 1)[None], torch.from_numpy(weight)
    )
    np.testing.assert_allclose(image.reshape(-1) @ kernel, wanted.reshape(-1), atol=1e-5)
    np.testing.assert_array_equal(layout.to_published(kernel), weight)
    assert layout.published_shape((18, 5)) == weight.shape


def test_wrong_images_of_a_published_model_are_refused(tmp_path, capsys):
    save(tmp_path / "published", "dinov2")
    (tmp_path / "published" / "preprocessor_config.json").write_text("{")
    out = str(tmp_path / "model")
    assert main(["import", "dinov2", str(tmp_path / "published"), out]) == 2
    assert "preprocessor_config.json" in capsys.readouterr().err
    grey = CONFIGS["dinov2"] | {"num_channels": 1}
    (tmp_path / "published" / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    (tmp_path / "published" / "config.json").write_text(json.dumps(grey))
    assert main(["import", "dinov2", str(tmp_path / "published"), out]) == 2
    assert "num_channels is 1" in capsys.readouterr().err


def test_biomedclip_is_written_as_open_clip_reads_it():
    entry = PUBLISHED["biomedclip_b16"]
    model = entry.family.config_of(entry.spec)["model_cfg"]
    fields = {"timm_model_args", "hf_model_config"}  # which open_clip has not
    assert not fields & {*model["vision_cfg"], *model["text_cfg"]}
    small = entry.family.spec_of(CONFIGS["biomedclip"])
    model = entry.family.config_of(small)["model_cfg"]
    assert fields < {*model["vision_cfg"], *model["text_cfg"]}
