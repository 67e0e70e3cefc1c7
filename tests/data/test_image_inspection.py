import json

import numpy as np
import pytest
from PIL import Image
from toy_images import folder_of_classes, gradient, save

from biofm_jax import cli_data
from biofm_jax.data.image_inspection import contact_sheet, inspect_images
from biofm_jax.errors import UserError


@pytest.fixture
def made(tmp_path, capsys):
    source = folder_of_classes(tmp_path / "in", 10)
    save(source / "normal" / "twin.png", gradient(10, 12, seed=0))
    save(source / "normal" / "grey.png", gradient(20, 6, 1, seed=5))
    out = tmp_path / "out"
    words = ["prepare", "imaging", str(source), "--out", str(out), "--image", "10", "12"]
    assert cli_data.main(words) == 0
    assert "12 imaging records" in capsys.readouterr().out
    return out


def test_what_is_printed_is_what_is_there(made, capsys):
    found = inspect_images(made)
    assert dict(found.labels) == {"normal": 7, "tumour": 5} and found.duplicates == 1
    unit = found.store.pixels / 255
    np.testing.assert_allclose(found.mean, unit.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found.deviation, unit.std((0, 1, 2)), rtol=1e-5)
    assert cli_data.main(["inspect", str(made)]) == 0
    text = capsys.readouterr().out
    for part in (
        "12 images of 10 x 12 x 3 uint8",
        "1 of 20 x 6, 1 channel uint8, no spacing",
        "11 of 10 x 12, 3 channels uint8, no spacing",
        "normal 7  tumour 5",
    ):
        assert part in text


def test_a_contact_sheet_shows_every_label(made, tmp_path):
    store = inspect_images(made).store
    assert contact_sheet(store, tmp_path / "s.png", rows=1) == 8
    sheet = np.asarray(Image.open(tmp_path / "s.png"))
    assert sheet.shape == (112 + 14 + 8, 8 * 116 + 4, 3)
    # Labels take turns; the first picture is normal/000 enlarged, its middle row as it is.
    first = sheet[4 : 4 + 112, 4 : 4 + 112]
    expected = np.asarray(
        Image.fromarray(store.pixels[0]).resize((112, 93), Image.Resampling.BILINEAR)
    )
    np.testing.assert_array_equal(first[9 : 9 + 93], expected)


def test_options_that_cannot_be_are_named(made, tmp_path):
    with pytest.raises(UserError, match="no prepared images"):
        inspect_images(tmp_path)
    words = ["prepare", "imaging", str(tmp_path / "no"), "--out", str(tmp_path / "o")]
    with pytest.raises(UserError, match="no such file or folder"):
        cli_data.main(words)
    about = json.loads((made / "metadata.json").read_text())
    assert about["channels"] == 3 and about["source"] == "in"
