"""Two towers whose tokens, too, are mapped into the shared space: patches and words."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from biofm_jax.errors import UserError
from biofm_jax.models.api import Model, gather
from biofm_jax.models.dual_encoder import DualEncoderSpec
from biofm_jax.models.layers import Dense
from biofm_jax.models.vision import VisionSpec

AXES = {"kernel": ("embed", None), "bias": (None,)}


@dataclasses.dataclass(frozen=True)
class LocalTowersSpec(DualEncoderSpec):
    """Towers of images and of texts for a comparison of words with regions (GLoRIA, Huang et al.
    2021, doi 10.1109/ICCV48922.2021.00391, section 3.2).

    A region is a patch of the image's tower. Patches and tokens have a linear projection each,
    beside the heads of the towers, which project the whole image and the whole text.
    """

    def build(self) -> Model:
        """The model's pure functions.

        Parameters are those of `DualEncoderSpec` and `{"local": {"first", "second"}}`. Of the
        `Outputs`, `hidden` (b, m, e) are the image's patches in the shared space, without the
        tokens in front of them, and that of `pair` (b, t, e) the text's tokens; both float32.

        Raises:
            UserError: as `DualEncoderSpec.build`; a first tower that reads no images.
        """
        if not isinstance(self.first, VisionSpec):
            raise UserError(
                f"LocalTowersSpec.first is {type(self.first).__name__}; it must be a VisionSpec, "
                "whose patches are the regions"
            )
        towers, front = super().build(), self.first.class_token + self.first.registers
        space = getattr(self.first.head, "width", self.first.width)
        widths = {"first": self.first.width, "second": self.second.width}
        dense = {name: Dense((d, space), ("embed", None), d**-0.5, True)
                 for name, d in widths.items()}  # fmt: skip

        def init(rng, batch):
            """Float32 parameters; of `batch` nothing is read, all shapes are in the specs."""
            params = towers.init(rng, batch)
            keys = zip(("first", "second"), jax.random.split(jax.random.fold_in(rng, 2)))
            local = {
                name: dense[name].init(key, jnp.zeros((1, widths[name])))["params"]
                for name, key in keys
            }
            return params | {"local": nn.unbox(local)}

        def apply(params, batch, **options):
            rest = {name: part for name, part in params.items() if name != "local"}
            out = towers.apply(rest, batch, **options)
            local = gather(params["local"], {name: AXES for name in dense}, jnp.float32)

            def projected(name, hidden):
                hidden = hidden.astype(jnp.float32)
                return dense[name].apply({"params": local[name]}, hidden)

            pair = dataclasses.replace(out.pair, hidden=projected("second", out.pair.hidden))
            return dataclasses.replace(
                out, hidden=projected("first", out.hidden[:, front:]), pair=pair
            )

        def axes(params):
            rest = {name: part for name, part in params.items() if name != "local"}
            return towers.axes(rest) | {"local": {name: AXES for name in dense}}

        return Model(init, apply, axes, self)
