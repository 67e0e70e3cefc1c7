"""Copies of pictures that no hash of their bytes or pixels tells."""

import numpy as np
from PIL import Image

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.data.pictures import Picture
from biofm_jax.evaluate.leak_text import leak_lines
from biofm_jax.evaluate.leaks import leak_report
from biofm_jax.evaluate.near_pictures import PictureSimilarity, picture_similarity
from biofm_jax.evaluate.splits import Fold
from biofm_jax.evaluate.task import Dataset


def drawn(folder, count: int = 12) -> list[Picture]:
    """Clouds of colour, (40, 56, 3)."""
    rng = np.random.default_rng(0)
    for number in range(count):
        small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        small.resize((56, 40), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return [Picture(f"{number}.png", folder) for number in range(count)]


def test_a_copy_is_found_however_it_was_made(tmp_path):
    pictures = drawn(tmp_path)
    copy = Image.open(tmp_path / "3.png").transpose(Image.Transpose.ROTATE_90)
    copy = copy.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((31, 44)).point(lambda v: v // 2)
    copy.save(tmp_path / "copy.jpg", quality=70)
    pictures.append(Picture("copy.jpg", tmp_path))
    fold = Fold(np.arange(6), np.arange(6, 8), np.arange(8, 13))
    items = Labelled(tuple(pictures), tuple(pictures), np.arange(13.0)[:, None])
    report = leak_report(Dataset(items, (fold,), ("y",)), "imaging")
    assert report.exact.count == 0 and report.near.count == 1
    (match,) = report.near.examples
    assert (match.test, match.seen, match.part) == ("copy.jpg", "3.png", "train")
    assert report.findings == ("near duplicates",) and report.near.median < 0.5
    (line,) = (line for line in leak_lines(report) if line.startswith("near"))
    assert "1 test items" in line and "copy.jpg ~ 3.png" in line


def test_the_nearest_is_that_of_a_slow_search(tmp_path, monkeypatch):
    pictures = drawn(tmp_path)
    monkeypatch.setattr("biofm_jax.evaluate.near_pictures._CELLS", 10)  # blocks of two rows
    thumbnails = picture_similarity(pictures).thumbnails
    thumbnails[11] = 7  # flat: like none
    rows, columns = np.array([0, 2, 4, 6, 8, 10, 11]), np.array([1, 3, 5, 7, 9])
    place, alike = PictureSimilarity(thumbnails).nearest(rows, columns)

    def vector(image):
        across = image[1:, 1:] - image[1:, :-1]
        down = image[1:, 1:] - image[:-1, 1:]
        return np.concatenate([across.ravel(), down.ravel()]).astype(np.float64)

    for row, found, value in zip(rows, place, alike):
        cosines = []
        for column in columns:
            other = vector(thumbnails[column])
            forms = [np.rot90(m, k) for m in (thumbnails[row], thumbnails[row].T) for k in range(4)]
            scale = [np.linalg.norm(vector(f)) * np.linalg.norm(other) + 1e-9 for f in forms]
            cosines.append(max(vector(f) @ other / s for f, s in zip(forms, scale)))
        assert abs(value - (1 - np.arccos(max(max(cosines), 0)) / (np.pi / 2))) < 1e-4
        if row != 11:
            assert found == int(np.argmax(cosines))
    assert alike[-1] == 0
