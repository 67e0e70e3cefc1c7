"""What every model has that is built around one vision transformer, to pretrain it."""

import dataclasses

from biofm_jax.models.positions import Positions
from biofm_jax.models.spec import ModelSpec
from biofm_jax.models.vision import VisionSpec, check_image_data


@dataclasses.dataclass(frozen=True)
class AroundVision(ModelSpec):
    """A vision transformer with parts that only pretraining needs.

    The parameters are `{"encoder": ..., ...}`; adaptation and embedding read the encoder.

    Attributes:
        encoder: the vision transformer.
    """

    encoder: VisionSpec = dataclasses.field(default_factory=VisionSpec)

    writer = "model.encoder"
    vocabulary_paths = ("model.encoder.vocabulary",)

    @property
    def vocabulary(self) -> int:
        """Kinds of tokens."""
        return self.encoder.vocabulary

    @property
    def layers(self) -> int:
        """Blocks of the encoder."""
        return self.encoder.layers

    @property
    def width(self) -> int:
        """Of the encoder's residual stream."""
        return self.encoder.width

    @property
    def heads(self) -> int:
        """Query heads of the encoder."""
        return self.encoder.heads

    @property
    def positions(self) -> Positions:
        """Of the encoder."""
        return self.encoder.positions

    @property
    def token_dropout(self) -> None:
        """None: images have no such thing."""
        return None

    def check(self, data, mesh) -> None:
        """See `ModelSpec`: as the encoder does."""
        check_image_data(self.encoder, data, mesh, self.writer)

    def reader(self, params):
        """The encoder."""
        return self.encoder, None if params is None else params["encoder"]

    def stacks(self):
        """See `ModelSpec`."""
        return {"encoder": self.encoder}

    def places(self, batch) -> int:
        """See `ModelSpec`: of the encoder, as if it saw all patches."""
        return self.encoder.places(batch)
