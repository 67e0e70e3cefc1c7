"""Stain normalisation of histology: Macenko et al. 2009 (ISBI) and Reinhard et al. 2001.

Both bring the colours of a slide to those of a reference; what is measured on a whole slide is
applied to each of its tiles, so that a tile's colours do not depend on what lies in it.
"""

import dataclasses

import numpy as np

from biofm_jax.data.bad_records import BadText

LIGHT = 240.0  # of transmitted light, in 8 bits (Macenko)
FAINT = 0.15  # optical density below which a pixel is clear
EXTREME = 1.0  # per cent of angles beyond the two stains
FEWEST = 100  # stained pixels that a measurement needs
# Cone responses of sRGB (Reinhard 2001, equation 4), and l-alpha-beta of their logarithms
# (Ruderman et al. 1998).
CONES = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
OPPONENTS = np.diag(1 / np.sqrt([3, 6, 2])) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])


@dataclasses.dataclass(frozen=True, eq=False)
class Macenko:
    """The two stains of a slide.

    Attributes:
        stains: (3, 2) optical density of haematoxylin and of eosin in red, green and blue, each of
            length 1.
        strongest: (2,) 99th percentile of the amount of each.
    """

    stains: np.ndarray
    strongest: np.ndarray

    @classmethod
    def of(cls, pixels: np.ndarray) -> "Macenko":
        """Measure the stains.

        Args:
            pixels: (..., 3) uint8.

        Raises:
            BadText: nearly nothing is stained, or in one colour alone.
        """
        density = _density(pixels.reshape(-1, 3))
        stained = density[(density >= FAINT).all(1)]
        if len(stained) < FEWEST:
            raise BadText(f"{len(stained)} stained pixels: too few", "leave the slide as it is")
        values, vectors = np.linalg.eigh(np.cov(stained.T))
        if values[1] <= 1e-6 * values[2]:
            raise BadText("its pixels have one colour", "leave the slide as it is")
        plane = vectors[:, [2, 1]]
        plane = plane * np.where(plane.sum(0) < 0, -1, 1)
        along = stained @ plane
        angles = np.arctan2(along[:, 1], along[:, 0])
        ends = np.percentile(angles, [EXTREME, 100 - EXTREME])
        found = plane @ np.stack([np.cos(ends), np.sin(ends)])
        if found[0, 0] < found[0, 1]:  # haematoxylin, blue, takes more of the red light
            found = found[:, ::-1]
        found = found / np.linalg.norm(found, axis=0)
        amounts = np.linalg.lstsq(found, stained.T, rcond=None)[0]
        return cls(found, np.percentile(amounts, 99, axis=1))

    def to(self, pixels: np.ndarray, target: "Macenko") -> np.ndarray:
        """Pixels of this slide in the stains of another; (..., 3) uint8 both."""
        density = _density(pixels.reshape(-1, 3))
        amounts = np.linalg.lstsq(self.stains, density.T, rcond=None)[0]
        amounts = amounts * (target.strongest / self.strongest)[:, None]
        made = LIGHT * np.exp(-(target.stains @ amounts)).T
        return np.clip(np.rint(made), 0, 255).astype(np.uint8).reshape(pixels.shape)


# Of the reference slide in the authors' published code.
REFERENCE = Macenko(
    np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]]), np.array([1.9705, 1.0308])
)


@dataclasses.dataclass(frozen=True, eq=False)
class Reinhard:
    """Mean and deviation of a slide in l-alpha-beta.

    Attributes:
        mean: (3,) of each axis.
        deviation: (3,) of each axis.
    """

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, pixels: np.ndarray) -> "Reinhard":
        """Measure the colours; arguments and errors as of `Macenko.of`."""
        flat = pixels.reshape(-1, 3)
        stained = (_density(flat) >= FAINT).all(1)
        if stained.sum() < FEWEST:
            raise BadText(f"{stained.sum()} stained pixels: too few", "leave the slide as it is")
        colours = _opponent(flat[stained])
        return cls(colours.mean(0), colours.std(0) + 1e-6)

    def to(self, pixels: np.ndarray, target: "Reinhard") -> np.ndarray:
        """Pixels of this slide with the colours of another; (..., 3) uint8 both.

        Clear pixels stay as they are: a shift of colours would stain the glass.
        """
        colours = (_opponent(pixels.reshape(-1, 3)) - self.mean) / self.deviation
        cones = 10 ** ((colours * target.deviation + target.mean) @ np.linalg.inv(OPPONENTS).T)
        made = np.clip(np.rint(cones @ np.linalg.inv(CONES).T * 255), 0, 255).astype(np.uint8)
        clear = (_density(pixels) < FAINT).all(-1, keepdims=True)
        return np.where(clear, pixels, made.reshape(pixels.shape))


def reference(kind: type) -> Macenko | Reinhard:
    """What slides are brought to: the reference stains in a square of all their mixtures."""
    if kind is Macenko:
        return REFERENCE
    amounts = np.stack(np.meshgrid(*(np.linspace(0.1, s, 32) for s in REFERENCE.strongest)))
    made = LIGHT * np.exp(-(REFERENCE.stains @ amounts.reshape(2, -1))).T
    return Reinhard.of(np.clip(np.rint(made), 0, 255).astype(np.uint8))


def _density(pixels: np.ndarray) -> np.ndarray:
    """Optical density of each colour (Lambert and Beer)."""
    return -np.log((pixels.astype(np.float64) + 1) / LIGHT)


def _opponent(pixels: np.ndarray) -> np.ndarray:
    cones = np.maximum(pixels / 255, 1 / 255) @ CONES.T
    return np.log10(cones) @ OPPONENTS.T
