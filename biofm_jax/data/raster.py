"""PNG, JPEG, TIFF and BMP files to pixel arrays."""

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.pixels import Image

TIFF_ENDINGS = (".tif", ".tiff")
ALPHA = {"LA": "L", "RGBA": "RGB", "PA": "RGB"}  # mode with an alpha channel -> without
PLAIN = ("L", "RGB")
UNITS = {2: 25400, 3: 10000}  # micrometres in TIFF's units of resolution: inch, centimetre
DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def read_raster(path: Path, member: str = "") -> Image:
    """The pixels of a picture file.

    A palette is looked up, bits become 0 and 255, transparency lies on white, and the camera's
    orientation is applied. 16-bit, signed and float pixels keep their values. A TIFF of several
    pages of one size is a volume. No other field of the file is read.

    Args:
        path: PNG, JPEG, TIFF or BMP.
        member: "".

    Raises:
        BadText: the file is empty, cut short or damaged, or its pages differ in size.
    """
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    with _named():
        if not path.stat().st_size:
            raise BadText("the file is empty", "fetch it again")
        try:
            with Pillow.open(path) as picture:
                if not _deep_colour(picture):
                    pages = getattr(picture, "n_frames", 1)
                    flat = pages == 1 or path.suffix.lower() not in TIFF_ENDINGS
                    pixels = _pixels(picture) if flat else _pages(picture, pages)
                    return Image(pixels, inverted=_white_is_zero(picture, pixels))
        except UnidentifiedImageError:
            if path.suffix.lower() not in TIFF_ENDINGS:
                raise
        return Image(_by_tifffile(path))


def raster_pages(path: Path) -> int:
    """Pages of a TIFF of several; 0 of any other picture, which is flat.

    Raises:
        BadText: as `read_raster`.
    """
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    if path.suffix.lower() not in TIFF_ENDINGS:
        return 0
    with _named():
        try:
            with Pillow.open(path) as picture:
                pages = getattr(picture, "n_frames", 1)
                return pages if pages > 1 else 0
        except UnidentifiedImageError:
            values = _by_tifffile(path)
            return len(values) if values.ndim == 4 else 0


def read_levels(path: Path) -> tuple[list[np.ndarray], float]:
    """The pages of a TIFF that shrink from the first on, and its resolution.

    Returns:
        (h, w, c) uint8 of each, the finest first; micrometres a pixel, 0 where none are told.

    Raises:
        BadText: as `read_raster`.
    """
    from PIL import Image as Pillow

    with _named(), Pillow.open(path) as picture:
        tags = getattr(picture, "tag_v2", {})
        dots, unit = float(tags.get(282, 0)), UNITS.get(tags.get(296, 2), 0)
        levels: list[np.ndarray] = []
        for page in range(getattr(picture, "n_frames", 1)):
            picture.seek(page)
            if not levels or picture.size[0] < levels[-1].shape[1]:
                levels.append(_pixels(picture))
    return levels, unit / dots if dots > 100 else 0.0  # fewer are a printer's or a screen's


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """What the libraries raise over a damaged file, as a reason and a fix."""
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    try:
        yield
    except BadText:
        raise
    except UnidentifiedImageError:
        raise BadText("the file holds no picture that is known", "fetch it again") from None
    except Pillow.DecompressionBombError:
        raise BadText("the picture is too large to be read at once", "cut it into tiles") from None
    except (OSError, SyntaxError, ValueError, IndexError, struct.error) as error:
        reason = f"the picture is cut short or damaged ({error})"
        raise BadText(reason, "fetch it again, or drop it") from error


def _pixels(picture) -> np.ndarray:
    """(h, w, c) of the current page: uint8, or the type of deeper pixels."""
    from PIL import Image as Pillow
    from PIL import ImageOps

    picture = ImageOps.exif_transpose(picture)
    if picture.mode == "P":
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    if picture.mode in ALPHA:
        if picture.getchannel("A").getextrema()[0] < 255:
            white = Pillow.new("RGBA", picture.size, "white")
            picture = Pillow.alpha_composite(white, picture.convert("RGBA"))
        picture = picture.convert(ALPHA.get(picture.mode, "RGB"))
    if picture.mode in DEEP:
        values = np.asarray(picture)
        return values.astype(values.dtype.newbyteorder("="))[..., None]
    if picture.mode not in PLAIN:
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    values = np.asarray(picture)
    return values[..., None] if values.ndim == 2 else values


def _white_is_zero(picture, pixels: np.ndarray) -> bool:
    """Whether 0 is white; Pillow turns such pixels of 8 bits itself, and of more it does not."""
    return pixels.dtype != np.uint8 and getattr(picture, "tag_v2", {}).get(262) == 0


def _deep_colour(picture) -> bool:
    """Whether it is a TIFF in colour of over 8 bits, of which Pillow would keep 8."""
    bits = getattr(picture, "tag_v2", {}).get(258, ())  # BitsPerSample
    return picture.mode == "RGB" and max(bits, default=8) > 8


def _pages(picture, count: int) -> np.ndarray:
    """(z, h, w, c) of all pages."""
    found = []
    for page in range(count):
        picture.seek(page)
        found.append(_pixels(picture))
    sizes = sorted({page.shape for page in found})
    if len(sizes) > 1:
        raise BadText(
            f"its {count} pages are of {len(sizes)} sizes, from {sizes[0]} to {sizes[-1]}",
            "split it; a whole slide is cut by `biofm data tiles`",
        )
    return np.stack(found)


def _by_tifffile(path: Path) -> np.ndarray:
    """What Pillow has no mode for: 16 bits and colour, or more channels."""
    try:
        import tifffile
    except ImportError:
        raise BadText(
            "a TIFF of this kind needs tifffile", "pip install 'biofm_jax[imaging]'"
        ) from None

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        values = series.asarray()
        axes = series.axes
    if axes[:1] == "S" or (axes[:1] == "C" and len(values) <= 4):
        values, axes = np.moveaxis(values, 0, -1), axes[1:] + "S"
    if axes[-1:] != "S":
        values = values[..., None]
    if values.ndim not in (3, 4):
        raise BadText(f"it holds an array of shape {values.shape}", "save each image by itself")
    return values[..., :3] if values.shape[-1] == 4 else values
