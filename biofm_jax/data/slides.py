"""Whole-slide images: levels, magnification, and tiles of a wanted resolution."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.pixels import Image, resize, with_channels
from biofm_jax.data.raster import read_levels
from biofm_jax.data.tissue import share_of_tissue, tissue_mask

ENDINGS = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".svslide", ".tif", ".tiff")
TILE = "tile"
OVERVIEW = 1024  # pixels of the longer side on which tissue is sought
AT_20 = 0.5  # micrometres a pixel of a scan at 20x, by convention


@dataclasses.dataclass(frozen=True, eq=False)
class Slide:
    """An opened slide.

    Attributes:
        path: of the file.
        sizes: (width, height) of each level, the finest first.
        mpp: micrometres a pixel of the finest level; 0 where the file tells none.
        levels: pixels (h, w, 3) of each level, of a file that OpenSlide does not read; else empty.
        handle: OpenSlide's, or None.
    """

    path: Path
    sizes: tuple[tuple[int, int], ...]
    mpp: float
    levels: Sequence[np.ndarray] = ()
    handle: object = None

    def region(self, left: float, top: float, width: float, height: float, size) -> np.ndarray:
        """A rectangle of the finest level, resampled.

        Args:
            left: in pixels of the finest level, as the three behind.
            top: see `left`.
            width: see `left`.
            height: see `left`.
            size: (h, w) wanted.

        Returns:
            (h, w, 3) uint8; white outside the slide.
        """
        shrink = min(width / size[1], height / size[0])
        scales = [self.sizes[0][0] / w for w, _ in self.sizes]
        level = max((i for i, s in enumerate(scales) if s <= shrink * 1.01), default=0)
        scale = scales[level]
        w, h = max(1, round(width / scale)), max(1, round(height / scale))
        return resize(self._read(level, left, top, w, h, scale), size)

    def overview(self) -> np.ndarray:
        """The whole slide with at most 1,024 pixels on its longer side."""
        width, height = self.sizes[0]
        shrink = max(1.0, max(width, height) / OVERVIEW)
        size = (max(1, round(height / shrink)), max(1, round(width / shrink)))
        return self.region(0, 0, width, height, size)

    def _read(self, level, left, top, w, h, scale) -> np.ndarray:
        if self.handle is not None:
            place = (round(left), round(top))
            try:
                found = np.asarray(self.handle.read_region(place, level, (w, h)))
            except Exception as error:  # OpenSlide's errors, and Pillow's over its bytes
                reason = f"the slide is damaged at {place} ({type(error).__name__})"
                raise BadText(reason, "fetch it again") from None
            alpha = found[..., 3:].astype(np.float32) / 255
            return np.rint(found[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
        made = np.full((h, w, 3), 255, np.uint8)
        x, y = round(left / scale), round(top / scale)
        part = self.levels[level][max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)]
        made[max(-y, 0) :, max(-x, 0) :][: part.shape[0], : part.shape[1]] = part
        return made


def open_slide(path: Path) -> Slide:
    """Open a slide by OpenSlide, or a plain TIFF by what reads pictures.

    Raises:
        BadText: it is damaged, or of a scanner whose files need OpenSlide, which is not installed.
    """
    return _opened(path, path.stat().st_mtime_ns if path.exists() else 0)


@functools.lru_cache(maxsize=4)
def _opened(path: Path, changed: int) -> Slide:
    if not path.exists():
        raise BadText("there is no such file", "check the name, or drop the record")
    plain = path.suffix.lower() in (".tif", ".tiff")
    try:
        import openslide
    except ImportError:
        if not plain:
            fix = "pip install 'biofm_jax[slides]'"
            raise BadText("a slide of this scanner needs openslide", fix) from None
        return _plain(path)
    try:
        handle = openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError:
        if plain:
            return _plain(path)
        raise BadText("OpenSlide does not know this file", "fetch it again") from None
    except openslide.OpenSlideError as error:
        reason = f"the slide is cut short or damaged ({type(error).__name__})"
        raise BadText(reason, "fetch it again") from None
    return Slide(path, handle.level_dimensions, _mpp(handle.properties), handle=handle)


def _plain(path: Path) -> Slide:
    levels, mpp = read_levels(path)
    levels = [with_channels(level, 3) for level in levels]
    return Slide(path, tuple((v.shape[1], v.shape[0]) for v in levels), mpp, levels)


def _mpp(properties) -> float:
    """Micrometres a pixel by OpenSlide's properties; the objective's power tells it roughly."""
    found = _number(properties.get("openslide.mpp-x"))
    if not found and properties.get("tiff.ResolutionUnit") == "centimeter":
        dots = _number(properties.get("tiff.XResolution"))
        found = 10000 / dots if dots else 0.0
    if not found:
        power = _number(properties.get("openslide.objective-power"))
        found = AT_20 * 20 / power if power else 0.0
    return found


def _number(text: str | None) -> float:
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return value if np.isfinite(value) and value > 0 else 0.0


def tile_members(
    slide: Slide, size: int, mpp: float, *, stride: int = 0, tissue: float = 0.5, own: float = 0.0
) -> list[str]:
    """References of a slide's tiles that hold tissue, row by row.

    Args:
        slide: opened.
        size: pixels of a tile's side.
        mpp: micrometres a pixel of the tile: 0.5 is 20x.
        stride: pixels between the starts of two tiles; 0 is `size`.
        tissue: smallest share of tissue.
        own: micrometres a pixel of the slide, where the file tells none or a wrong one.

    Returns:
        "tile/LEFT/TOP/SIDE/SIZE" of each: left, top and side in pixels of the finest level.

    Raises:
        BadText: the slide tells no resolution, is scanned more coarsely, or holds no tissue.
    """
    scanned = own or slide.mpp
    if not scanned:
        raise BadText("the slide tells no micrometres a pixel", "give them with --slide-mpp")
    if mpp < 0.8 * scanned:
        reason = f"the slide has {scanned:.3g} micrometres a pixel, coarser than {mpp:g}"
        raise BadText(reason, f"ask for {scanned:.3g} or more")
    side = size * mpp / scanned
    step = (stride or size) * mpp / scanned
    width, height = slide.sizes[0]
    picture = slide.overview()
    shrink = width / picture.shape[1]
    columns = np.arange(max(1, int((width - side) // step) + 1)) * step
    rows = np.arange(max(1, int((height - side) // step) + 1)) * step
    top, left = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
    span = side / shrink
    shares = share_of_tissue(tissue_mask(picture), left / shrink, top / shrink, span, span)
    kept = np.flatnonzero(shares >= tissue)
    if not len(kept):
        raise BadText("no tissue on the slide", "look at it, or lower --tissue")
    return [f"{TILE}/{left[i]:.0f}/{top[i]:.0f}/{side:.0f}/{size}" for i in kept]


def read_tile(path: Path, member: str) -> Image:
    """One tile of a slide: (size, size, 3) uint8.

    Args:
        path: of the slide.
        member: as `tile_members` writes it.

    Raises:
        BadText: it names no tile, or as `open_slide`.
    """
    kind, *numbers = member.split("/")
    if kind != TILE or len(numbers) != 4 or not all(n.isdigit() for n in numbers):
        raise BadText(f"{member!r} names no tile", "write #tile/LEFT/TOP/SIDE/SIZE")
    left, top, side, size = map(int, numbers)
    slide = open_slide(path)
    pixels = slide.region(left, top, side, side, (size, size))
    if not slide.mpp:
        return Image(pixels)
    return Image(pixels, (slide.mpp * side / size / 1000,) * 2)
