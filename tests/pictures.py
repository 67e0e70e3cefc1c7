"""What can be told of a picture without eyes."""

import base64
import io

from matplotlib.image import imread


def is_cut(png: bytes | str) -> bool:
    """Whether something is drawn on the very edge of a picture, so that a part is missing.

    Args:
        png: a PNG file, or its data address.
    """
    if isinstance(png, str):
        png = base64.b64decode(png.removeprefix("data:image/png;base64,"), validate=True)
    pixels = imread(io.BytesIO(png), format="png")[..., :3]
    edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    return any((edge != 1).any() for edge in edges)
