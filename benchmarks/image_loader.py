"""Training images a second, against torch's DataLoader: random resized crop, flip, normalise.

One process on one core and one thread, rounds interleaved, median of the CPU time. Both make
float32 batches of 64 views of 224 x 224 pixels in a new order. Ours reads the memory map that
`ImageData` prepared and draws the views on the device, which is this core too: on an accelerator
it costs the host nothing, and what is left is the reading, measured by itself. DataLoader has no
worker processes, as it has no other core; its data set reads the same memory map, or decodes JPEG
files as torchvision's ImageFolder does, and cuts and resizes with what RandomResizedCrop calls for
a tensor (`interpolate`, antialiased) and for a picture (Pillow). That both make the same view of
the same box is checked before anything is timed.
"""

import math
import os
import tempfile
import time
from pathlib import Path

from benchmarks import inputs

os.environ.update(inputs.one_core())

import jax
import jax.numpy as jnp
import numpy as np
import torch
from PIL import Image

from benchmarks.results import Row, judged, run_part
from biofm_jax.data.imaging import ImageData
from biofm_jax.objectives.image_views import ImageViews, draw, views

COUNT, SIZE, BATCH = 256, 224, 64
ROUNDS, AGAIN = 7, "ours again"
MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
SPEC = ImageViews(jitter=0, grey=0, blur=0)  # area 0.08 to 1, aspect 3/4 to 4/3, a flip


def measure() -> list[Row]:
    """Rates of all, one beside the other."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BIOFM_CACHE"] = str(Path(folder) / "cache")
        files = pictures(Path(folder) / "images")
        data = ImageData(str(Path(folder) / "images"), image=(SIZE, SIZE), holdout=0.0)
        store = data.open()
        difference = largest_difference(store.pixels)
        ours = OurLoader(data, store)
        contenders = {
            "ours": ours.round,
            "reading": ours.read,
            "torch": torch_round(Stored(store.pixels)),
            "files": torch_round(Decoded(files)),
            AGAIN: OurLoader(data, store).round,
        }
        for contender in contenders.values():
            contender()
        times = {name: [] for name in contenders}
        for _ in range(ROUNDS):
            for name, contender in contenders.items():
                began = time.process_time()
                contender()
                times[name].append(time.process_time() - began)
    rate = {name: COUNT / float(np.median(seconds)) for name, seconds in times.items()}
    print("   " + ", ".join(f"{name} {value:,.0f}/s" for name, value in rate.items()), flush=True)
    again = rate["ours"] / rate[AGAIN]
    void = not 0.95 <= again <= 1.05
    setting = f"views of {SIZE} x {SIZE}, one core"
    rates = {name.replace(" ", "_"): value for name, value in rate.items()}
    note = f"{rate['ours']:,.0f} images/s; the same loader again {again:.3f}"
    return [
        judged("image_loader", 4, f"over torch DataLoader, the same memory map, {setting}",
               rate["ours"] / rate["torch"], at_least=1.0, void=void, note=note, **rates),
        judged("image_loader", 4, f"over torch DataLoader, JPEG files, {setting}",
               rate["ours"] / rate["files"], at_least=5.0, void=void, note=note, **rates),
        judged("image_loader", 4, f"batches read for a device, images/s, {SIZE} x {SIZE}",
               rate["reading"], at_least=5000, form="{:,.0f}/s"),
        judged("image_loader", 4, "the same view of the same box, largest difference of a pixel",
               difference, at_most=1.01 / 255, form="{:.4f}", note="torch rounds to 8 bits"),
    ]  # fmt: skip


def pictures(folder: Path) -> list[Path]:
    """JPEG files of smooth noise, as large as photographs compressed for training."""
    folder.mkdir()
    generator, found = np.random.default_rng(0), []
    for number in range(COUNT):
        coarse = generator.integers(0, 256, (SIZE // 8, SIZE // 8, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        found.append(folder / f"{number:04}.jpg")
        picture.save(found[-1], quality=90)
    return found


class OurLoader:
    """Batches of a data set and their views."""

    def __init__(self, data: ImageData, store):
        self._batches = data.batches(store, batch_size=BATCH, seed=0)

        @jax.jit
        def make(images, examples):
            keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(examples)
            return (views(SPEC, images, keys) - MEAN) / DEVIATION

        self._make = make

    def round(self) -> None:
        """As many views as there are images."""
        for _ in range(COUNT // BATCH):
            batch = next(self._batches)
            jax.block_until_ready(self._make(batch.images, batch.examples[:, 0]))

    def read(self) -> None:
        """As many images, to be handed to a device."""
        for _ in range(COUNT // BATCH):
            next(self._batches)


def box(generator: torch.Generator, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height and width, as torchvision's RandomResizedCrop draws them."""
    for _ in range(10):
        share, shape, top, left = torch.rand(4, generator=generator).tolist()
        area = height * width * (SPEC.area[0] + share * (SPEC.area[1] - SPEC.area[0]))
        low, high = (math.log(limit) for limit in SPEC.aspect)
        aspect = math.exp(low + shape * (high - low))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(top * (height - h + 1)), int(left * (width - w + 1)), h, w
    return 0, 0, height, width


def cut(pixels: np.ndarray, top: int, left: int, h: int, w: int) -> torch.Tensor:
    """(3, SIZE, SIZE) uint8 of a tensor, as torchvision's resized_crop."""
    whole = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    part = whole[:, :, top : top + h, left : left + w]
    return torch.nn.functional.interpolate(
        part, size=(SIZE, SIZE), mode="bilinear", antialias=True
    )[0]


def normalised(view: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Flipped or not, (3, SIZE, SIZE) float32."""
    if torch.rand(1, generator=generator) < 0.5:
        view = view.flip(-1)
    mean, deviation = torch.from_numpy(MEAN), torch.from_numpy(DEVIATION)
    return (view.float().div(255) - mean[:, None, None]) / deviation[:, None, None]


class Stored(torch.utils.data.Dataset):
    """Views of the images in a memory map."""

    def __init__(self, pixels: np.ndarray):
        self._pixels, self._generator = pixels, torch.Generator().manual_seed(0)

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> torch.Tensor:
        image = np.array(self._pixels[index])
        view = cut(image, *box(self._generator, *image.shape[:2]))
        return normalised(view, self._generator)


class Decoded(torch.utils.data.Dataset):
    """Views of picture files, as torchvision's ImageFolder gives them."""

    def __init__(self, files: list[Path]):
        self._files, self._generator = files, torch.Generator().manual_seed(0)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> torch.Tensor:
        picture = Image.open(self._files[index]).convert("RGB")
        top, left, h, w = box(self._generator, picture.height, picture.width)
        part = picture.crop((left, top, left + w, top + h))
        small = part.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        view = torch.from_numpy(np.array(small)).permute(2, 0, 1)
        return normalised(view, self._generator)


def torch_round(dataset: torch.utils.data.Dataset):
    """A function that makes as many views as there are images."""
    loader = torch.utils.data.DataLoader(dataset, BATCH, shuffle=True, num_workers=0)

    def go() -> None:
        for batch in loader:
            batch.contiguous()

    return go


def largest_difference(pixels: np.ndarray) -> float:
    """Of a pixel, between our views of some images and torch's of the same boxes."""
    keys = jax.random.split(jax.random.key(1), 16)
    made = views(SPEC, jnp.asarray(pixels[:16]), keys)
    worst = 0.0
    for number, key in enumerate(keys):
        drawn = draw(SPEC, key, (SIZE, SIZE))
        place = [int(v) for v in (*drawn.start, *drawn.extent)]
        expected = cut(np.array(pixels[number]), *place).permute(1, 2, 0).numpy()
        expected = expected[:, ::-1] if drawn.flip[1] else expected
        worst = max(worst, float(np.abs(np.asarray(made[number]) - expected / 255).max()))
    return worst


if __name__ == "__main__":
    run_part(measure)
