"""Small data sets of images in the layout of the real ones, with a lesion planted in the ill."""

import csv
import gzip
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 16
SPOT = 4  # pixels of the lesion's side


def planted(ill: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(16, 16) uint8 noise, of an ill one with a bright square, and the square's (16, 16) mask."""
    pixels = rng.integers(60, 120, (SIDE, SIDE)).astype(np.uint8)
    mask = np.zeros((SIDE, SIDE), bool)
    if ill:
        top, left = rng.integers(0, SIDE // SPOT, 2) * SPOT
        mask[top : top + SPOT, left : left + SPOT] = True
        pixels[mask] = rng.integers(200, 255, SPOT * SPOT)
    return pixels, mask


def toy_pneumonia(root: Path, train: int = 24, tested: int = 24) -> Path:
    """PneumoniaMNIST's two files: label 1 where a lesion was planted."""
    folder = root / "imaging" / "pneumoniamnist"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for file, sizes in (
        ("A_official_valtest_train3882.npz", {"train": train, "val": tested, "test": tested}),
        ("B_balanced_undersampled.npz", {"train": 2 * train}),
    ):
        arrays = {}
        for split, count in sizes.items():
            labels = np.arange(count) % 4 != 0 if split == "train" else np.arange(count) % 2
            arrays[f"{split}_images"] = np.stack([planted(bool(x), rng)[0] for x in labels])
            arrays[f"{split}_labels"] = labels.astype(np.uint8)[:, None]
        np.savez(folder / file, **arrays)
    return root


def toy_ebhi(root: Path, rows: list[tuple[str, str, str, str]] | None = None) -> Path:
    """EBHI's table and tiles: 20 of two classes in ten cases, two cases a fold."""
    folder = root / "imaging" / "ebhi_colorectal"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    if rows is None:
        names = [("Normal", "Polyp")[i % 2] for i in range(20)]
        rows = [
            (f"{name}_{i}.jpg", name, f"case{i // 2}", str(i // 4)) for i, name in enumerate(names)
        ]
    for i in range(20):
        pixels, _ = planted(i % 2 == 1, rng)
        name = ("Normal", "Polyp")[i % 2]
        colour = Image.fromarray(np.stack([pixels] * 3, axis=-1))
        colour.save(folder / "images" / f"{name}_{i}.jpg")
    with open(folder / "labels.csv", "w") as file:
        csv.writer(file).writerows([("file", "label", "case_group", "fold"), *rows])
    return root


def toy_hrf(root: Path) -> Path:
    """HRF's photographs, two of each class, with masks: a lesion in all but the healthy."""
    folder = root / "imaging" / "retina_hrf"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rng = np.random.default_rng(0)
    for number in (1, 2):
        for code in ("h", "dr", "g"):
            pixels, mask = planted(code != "h", rng)
            grey = Image.fromarray(pixels)
            grey.save(folder / "images" / f"{number:02}_{code}.jpg", quality=95)
            Image.fromarray(mask).save(folder / "masks" / f"{number:02}_{code}.png")
    return root


def toy_vqa_rad(root: Path) -> Path:
    """VQA-RAD's table: two questions of each of six images."""
    folder = root / "imaging" / "vqa_rad"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["image,organ,question"]
    for number in range(6):
        Image.fromarray(planted(False, rng)[0]).save(folder / "images" / f"{number}.jpg")
        organ = ("HEAD", "CHEST", "ABD")[number % 3]
        lines += [f"{number}.jpg,{organ},what?", f"{number}.jpg,{organ},where?"]
    (folder / "qa.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return root
