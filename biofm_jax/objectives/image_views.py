"""Random views of images, drawn on the device: crop, flips, colours, blur, solarisation.

Each operation does to one image what torchvision's of the same name does; what is random comes
from one key an image, so that a view depends neither on the batch nor on its microbatches.
"""

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp

from biofm_jax.array_types import AnyArray
from biofm_jax.errors import UserError
from biofm_jax.models.image_embedding import unit_pixels

TRIES = 10  # boxes drawn until one fits, as torchvision's RandomResizedCrop
LUMA = (0.2989, 0.587, 0.114)  # torchvision's


@dataclasses.dataclass(frozen=True)
class ImageViews:
    """How views are drawn; the defaults are SimCLR's (Chen et al. 2020, arXiv:2002.05709, A).

    Attributes:
        size: pixels of a view along each axis; () those of the image.
        area: smallest and largest share of the image's area, or of the volume, that a crop keeps.
        aspect: smallest and largest width by height of a crop; of a volume, how much its sides may
            differ from the volume's.
        flips: chance to be reversed along each axis, the last first: (0.5,) is left to right. Left
            and right differ in radiology (the heart), not in histology, where (0.5, 0.5) fits.
        jitter: chance of a change of colours: brightness, contrast, saturation and hue, in this
            order (torchvision draws the order).
        brightness: largest change of the factor 1; of `contrast` and `saturation` as well.
        contrast: see `brightness`.
        saturation: see `brightness`; of colour images, as `hue` and `grey`.
        hue: largest turn, 0.5 is half the circle.
        grey: chance to lose the colours.
        blur: chance of a Gaussian blur within slices.
        sigma: smallest and largest deviation of the blur in pixels.
        solarise: chance that pixels of at least `threshold` are inverted.
        threshold: see `solarise`.
    """

    size: tuple[int, ...] = ()
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flips: tuple[float, ...] = (0.5,)
    jitter: float = 0.8
    brightness: float = 0.8
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2
    grey: float = 0.2
    blur: float = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)
    solarise: float = 0.0
    threshold: float = 0.5

    def __post_init__(self):
        for name in ("jitter", "grey", "blur", "solarise"):
            _in(name, getattr(self, name), 0, 1)
        for chance in self.flips:
            _in("flips", chance, 0, 1)
        for name, most in (("brightness", 1), ("contrast", 1), ("saturation", 1), ("hue", 0.5)):
            _in(name, getattr(self, name), 0, most)
        for name in ("area", "aspect", "sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise UserError(f"views.{name} is {(low, high)}; give a smallest above 0 and more")
        _in("area", self.area[1], 0, 1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Drawn:
    """What is random about one view of one image.

    Attributes:
        start: (axes,) first pixel of the crop along each axis.
        extent: (axes,) its pixels.
        flip: (axes,) whether each is reversed.
        factors: (4,) of brightness, contrast and saturation, and the turn of the hue.
        jitter: whether colours change.
        grey: whether they are lost.
        sigma: of the blur; 0 is none.
        solarise: whether bright pixels are inverted.
    """

    start: jax.Array
    extent: jax.Array
    flip: jax.Array
    factors: jax.Array
    jitter: jax.Array
    grey: jax.Array
    sigma: jax.Array
    solarise: jax.Array


def views(spec: ImageViews, images: AnyArray, keys: jax.Array) -> jax.Array:
    """One view of each image.

    Args:
        spec: what may be drawn.
        images: (b, [z,] h, w, c) uint8, uint16, or float in [0, 1].
        keys: (b,) one an image, such as `objectives.api.row_keys` gives.

    Returns:
        (b, *size, c) float32 in [0, 1].

    Raises:
        UserError: `size` or `flips` has other axes than the images.
    """
    size = images.shape[1:-1]
    if (spec.size and len(spec.size) != len(size)) or len(spec.flips) > len(size):
        raise UserError(
            f"views of size {spec.size} with flips {spec.flips} are of images of {len(size)} axes"
        )

    def one(key: jax.Array) -> Drawn:
        return draw(spec, key, size)

    # On a CPU, a loop's results are kept; else they would be drawn again for every pixel.
    drawn = jax.lax.platform_dependent(
        keys, cpu=lambda keys: jax.lax.map(one, keys), default=jax.vmap(one)
    )
    return jax.vmap(lambda image, one: applied(spec, image, one))(unit_pixels(images), drawn)


def draw(spec: ImageViews, key: jax.Array, size: tuple[int, ...]) -> Drawn:
    """The random numbers of one view of an image of so many pixels along each axis."""
    keys = dict(zip(("box", "flip", "factors", "sigma", "chances"), jax.random.split(key, 5)))
    start, extent = _box(spec, keys["box"], size)
    padded = (0.0,) * (len(size) - len(spec.flips)) + spec.flips[::-1]
    most = jnp.array([spec.brightness, spec.contrast, spec.saturation, spec.hue])
    turned = jax.random.uniform(keys["factors"], (4,), minval=-1, maxval=1) * most
    chances = jax.random.uniform(keys["chances"], (4,))
    sigma = jax.random.uniform(keys["sigma"], (), minval=spec.sigma[0], maxval=spec.sigma[1])
    return Drawn(
        start=start,
        extent=extent,
        flip=jax.random.uniform(keys["flip"], (len(size),)) < jnp.array(padded),
        factors=turned + jnp.array([1.0, 1.0, 1.0, 0.0]),
        jitter=chances[0] < spec.jitter,
        grey=chances[1] < spec.grey,
        sigma=jnp.where(chances[2] < spec.blur, sigma, 0.0),
        solarise=chances[3] < spec.solarise,
    )


def applied(spec: ImageViews, image: jax.Array, drawn: Drawn) -> jax.Array:
    """A view of one image.

    Args:
        spec: its size, and what never happens and so is left out of the program.
        image: ([z,] h, w, c) float32 in [0, 1].
        drawn: what happens.

    Returns:
        (*size, c) float32 in [0, 1].
    """
    for axis, wanted in enumerate(spec.size or image.shape[:-1]):
        # A product of matrices is what accelerators do best, and ten times dearer on a CPU.
        image = jax.lax.platform_dependent(
            image,
            drawn.start[axis],
            drawn.extent[axis],
            drawn.flip[axis],
            cpu=partial(taken, axis, wanted),
            default=partial(multiplied, axis, wanted),
        )
    image = jnp.clip(image, 0, 1)
    coloured = image.shape[-1] == 3
    if spec.jitter:
        image = jnp.where(drawn.jitter, _jittered(spec, image, drawn.factors, coloured), image)
    if spec.grey and coloured:
        image = jnp.where(drawn.grey, jnp.broadcast_to(_luma(image), image.shape), image)
    if spec.blur:
        image = _blurred(image, drawn.sigma, math.ceil(3 * spec.sigma[1]))
    if spec.solarise:
        bright = drawn.solarise & (image >= spec.threshold)
        image = jnp.where(bright, 1 - image, image)
    return image


def _box(spec: ImageViews, key: jax.Array, size: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """First pixel and number of pixels of a crop, each (axes,) int32."""
    of_area, of_aspect, of_place = jax.random.split(key, 3)
    whole = jnp.array(size, jnp.float32)
    axes = len(size)
    share = jax.random.uniform(of_area, (TRIES, 1), minval=spec.area[0], maxval=spec.area[1])
    limits = jnp.log(jnp.array(spec.aspect))
    drawn = jax.random.uniform(of_aspect, (TRIES, axes), minval=limits[0], maxval=limits[1])
    if axes == 2:  # of the picture: width by height
        stretch = jnp.exp(drawn[:, :1] * jnp.array([-0.5, 0.5]))
        sides = jnp.sqrt(share * whole.prod()) * stretch
    else:  # of a volume: by its own sides, which are of unlike units
        stretch = jnp.exp((drawn - drawn.mean(1, keepdims=True)) / 2)
        sides = whole * share ** (1 / axes) * stretch
    sides = jnp.round(sides)
    last = whole
    fits = ((sides >= 1) & (sides <= whole)).all(1)
    if axes == 2:  # where none fits, the largest of the nearest allowed shape, in the middle
        ratio = whole[1] / whole[0]
        allowed = jnp.clip(ratio, spec.aspect[0], spec.aspect[1])
        widest = jnp.array([jnp.minimum(1, ratio / allowed), jnp.minimum(1, allowed / ratio)])
        last = jnp.round(whole * widest)
    extent = jnp.where(fits.any(), sides[jnp.argmax(fits)], last)
    room = whole - extent
    place = jnp.floor(jax.random.uniform(of_place, (axes,)) * (room + 1))
    start = jnp.where(fits.any(), jnp.minimum(place, room), jnp.floor(room / 2))
    return start.astype(jnp.int32), extent.astype(jnp.int32)


def multiplied(
    axis: int, wanted: int, image: jax.Array, start: jax.Array, extent: jax.Array, flip: jax.Array
) -> jax.Array:
    """Cut out `extent` pixels of an axis and resize them to `wanted`: bilinear, antialiased.

    Pixels outside the crop do not count, as if it had been cut out first.
    """
    places = jnp.arange(image.shape[axis])
    centres, support = _centres(wanted, start, extent, flip)
    weights = _triangle(places[None], centres[:, None], support, start, extent)
    moved = jnp.tensordot(weights, image, (1, axis), precision="highest")
    return jnp.moveaxis(moved, 0, axis)


def taken(
    axis: int, wanted: int, image: jax.Array, start: jax.Array, extent: jax.Array, flip: jax.Array
) -> jax.Array:
    """What `multiplied` gives, from the few pixels that have a weight."""
    centres, support = _centres(wanted, start, extent, flip)
    first = jnp.floor(centres - support - 0.5) + 1
    most = math.ceil(2 * max(1.0, image.shape[axis] / wanted))
    places = first[:, None] + jnp.arange(most)
    weights = _triangle(places, centres[:, None], support, start, extent)
    index = jnp.clip(places, start, start + extent - 1).astype(jnp.int32)
    shape = [wanted if i == axis else 1 for i in range(image.ndim)]
    return sum(
        jnp.take(image, index[:, k], axis=axis, mode="clip") * weights[:, k].reshape(shape)
        for k in range(most)
    )


def _centres(wanted, start, extent, flip) -> tuple[jax.Array, jax.Array]:
    """(wanted,) where the middle of each new pixel lies in the old ones; reach of the filter."""
    scale = extent / wanted
    number = jnp.arange(wanted)
    number = jnp.where(flip, wanted - 1 - number, number)
    return start + (number + 0.5) * scale, jnp.maximum(scale, 1.0)


def _triangle(places, centres, support, start, extent) -> jax.Array:
    """(wanted, n) weights of pixels, which sum to 1."""
    weights = jnp.maximum(0, 1 - jnp.abs(places + 0.5 - centres) / support)
    weights = jnp.where((places >= start) & (places < start + extent), weights, 0)
    return weights / weights.sum(1, keepdims=True)


def _luma(image: jax.Array) -> jax.Array:
    """(..., 1) brightness; of other than three channels their mean."""
    if image.shape[-1] != 3:
        return image.mean(-1, keepdims=True)
    return (image * jnp.array(LUMA)).sum(-1, keepdims=True)


def _jittered(spec, image, factors, coloured: bool) -> jax.Array:
    """Brightness, contrast, saturation and hue, clipped in between as torchvision does."""

    def blend(image, other, factor):
        return jnp.clip(factor * image + (1 - factor) * other, 0, 1)

    if spec.brightness:
        image = blend(image, 0.0, factors[0])
    if spec.contrast:
        image = blend(image, _luma(image).mean(), factors[1])
    if spec.saturation and coloured:
        image = blend(image, _luma(image), factors[2])
    if spec.hue and coloured:
        image = _turned(image, factors[3])
    return image


def _turned(image: jax.Array, turn: jax.Array) -> jax.Array:
    """The hue moved by `turn` of the circle, saturation and value of HSV kept."""
    value, low = image.max(-1), image.min(-1)
    chroma = value - low
    safe = jnp.where(chroma == 0, 1, chroma)
    red, green, blue = (image[..., i] for i in range(3))
    hue = jnp.where(
        # Not `value == red`: fused code may round the two unlike.
        (red >= green) & (red >= blue),
        (green - blue) / safe,
        jnp.where(green >= blue, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sixth = (hue + 6 * turn)[..., None] + jnp.array([5.0, 3.0, 1.0])
    sixth = jnp.mod(sixth, 6)
    ramp = jnp.clip(jnp.minimum(sixth, 4 - sixth), 0, 1)
    return value[..., None] - chroma[..., None] * ramp


def _blurred(image: jax.Array, sigma: jax.Array, radius: int) -> jax.Array:
    """Gaussian blur of the last two axes but one, reflected at the border; none of sigma 0."""
    offsets = jnp.arange(-radius, radius + 1)
    spread = jnp.where(sigma > 0, sigma, 1e-3)
    kernel = jnp.exp(-0.5 * (offsets / spread) ** 2)
    kernel = kernel / kernel.sum()
    for axis in (image.ndim - 3, image.ndim - 2):
        margin = [(radius, radius) if i == axis else (0, 0) for i in range(image.ndim)]
        padded = jnp.pad(image, margin, mode="reflect")
        image = sum(
            kernel[k] * jax.lax.slice_in_dim(padded, k, k + image.shape[axis], axis=axis)
            for k in range(2 * radius + 1)
        )
    return image


def _in(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UserError(f"views.{name} is {value}; it must lie in [{low}, {high}]")
