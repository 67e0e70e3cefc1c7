"""A look into prepared images: counts, brightness, and a contact sheet."""

import collections
import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np

from biofm_jax.data.image_store import ImageStore, open_images
from biofm_jax.data.pixels import quantised, resize
from biofm_jax.errors import UserError

SAMPLE = 2000  # images that brightness is measured on
CELL, TEXT, COLUMNS = 112, 14, 8  # pixels of a picture and of its line of text; pictures a row


@dataclasses.dataclass(frozen=True)
class ImageInspection:
    """What is in a prepared folder of images.

    Attributes:
        about: its metadata: source, counts, and the fields it was made with.
        store: the images.
        labels: (label, records) from the most frequent; "" is no label.
        splits: the same of the splits that the source names.
        groups: how many patients, cases or volumes are told.
        duplicates: images that are equal to an earlier one.
        mean: of each channel, of pixels between 0 and 1, of up to 2,000 images.
        deviation: the same.
        words: (shortest, median, longest) caption in words; None without captions.
    """

    about: dict
    store: ImageStore
    labels: tuple[tuple[str, int], ...]
    splits: tuple[tuple[str, int], ...]
    groups: int
    duplicates: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    words: tuple[int, float, int] | None


def inspect_images(folder: Path) -> ImageInspection:
    """Count and measure prepared images.

    Raises:
        UserError: the folder is none.
    """
    try:
        about = json.loads((folder / "metadata.json").read_text())
        store = open_images(folder)
    except (OSError, ValueError) as error:
        fix = "make one with `biofm data prepare imaging PATH --out DIR`"
        raise UserError(f"{folder}: no prepared images; {fix}") from error
    chosen = np.linspace(0, len(store.pixels) - 1, min(SAMPLE, len(store.pixels))).astype(int)
    unit = store.pixels[chosen] / np.float32(np.iinfo(store.pixels.dtype).max)
    axes = tuple(range(unit.ndim - 1))
    lengths = [len(row["caption"].split()) for row in store.records]
    return ImageInspection(
        about=about,
        store=store,
        labels=tuple(collections.Counter(r["label"] for r in store.records).most_common()),
        splits=tuple(collections.Counter(r["split"] for r in store.records).most_common()),
        groups=len({row["group"] for row in store.records} - {""}),
        duplicates=len(store.pixels) - len(np.unique(store.contents)),
        mean=tuple(unit.mean(axes).tolist()),
        deviation=tuple(unit.std(axes).tolist()),
        words=(min(lengths), float(np.median(lengths)), max(lengths)) if any(lengths) else None,
    )


def contact_sheet(store: ImageStore, path: Path, rows: int = 5) -> int:
    """Draw some images of each label, with the label below; of a volume its middle slice.

    Args:
        store: of prepared images.
        path: the PNG to write.
        rows: most rows of eight pictures.

    Returns:
        How many are drawn.
    """
    from PIL import Image, ImageDraw

    by_label = collections.defaultdict(list)
    for record, row in enumerate(store.records):
        by_label[row["label"]].append(record)
    spread = [_spread(records, COLUMNS * rows) for _, records in sorted(by_label.items())]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*spread))
    chosen = [record for record in turns if record is not None][: COLUMNS * rows]
    lines = -(-len(chosen) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (CELL + 4) + 4, lines * (CELL + TEXT + 4) + 4), "white")
    draw = ImageDraw.Draw(sheet)
    for place, record in enumerate(chosen):
        x = 4 + place % COLUMNS * (CELL + 4)
        y = 4 + place // COLUMNS * (CELL + TEXT + 4)
        sheet.paste(Image.fromarray(_flat(store.pixels[store.image[record]])), (x, y))
        text = store.records[record]["label"] or store.records[record]["caption"]
        while text and draw.textlength(text) > CELL:
            text = text[:-1]
        draw.text((x, y + CELL), text, fill="black")
    temporary = path.with_name(f".{path.name}.tmp.png")
    sheet.save(temporary)
    temporary.replace(path)
    return len(chosen)


def _spread(records: list[int], most: int) -> list[int]:
    places = np.linspace(0, len(records) - 1, min(most, len(records))).astype(int)
    return [records[place] for place in places]


def _flat(pixels: np.ndarray) -> np.ndarray:
    """(CELL, CELL, 3) uint8 of an image, its proportions kept on grey."""
    if pixels.ndim == 4:
        pixels = pixels[len(pixels) // 2]
    pixels = quantised(np.asarray(pixels), 8)
    pixels = pixels if pixels.shape[-1] == 3 else np.repeat(pixels[..., :1], 3, -1)
    h, w = (max(1, round(n * CELL / max(pixels.shape[:2]))) for n in pixels.shape[:2])
    cell = np.full((CELL, CELL, 3), 230, np.uint8)
    top, left = (CELL - h) // 2, (CELL - w) // 2
    cell[top : top + h, left : left + w] = resize(pixels, (h, w))
    return cell
