"""A vision transformer with a projection and a predictor of another view's projection."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from biofm_jax.array_types import AnyArray
from biofm_jax.errors import UserError
from biofm_jax.models.api import Model, gather
from biofm_jax.models.around_vision import AroundVision
from biofm_jax.models.heads import ProjectionHead
from biofm_jax.models.layers import Dense
from biofm_jax.models.vision import VisionSpec


@dataclasses.dataclass(frozen=True)
class PredictorSpec(AroundVision):
    """An encoder with a projection head, and two layers behind it (MoCo v3, Chen et al. 2021,
    arXiv:2104.02057; BYOL, Grill et al. 2020, arXiv:2006.07733). Without BatchNorm.

    Attributes:
        hidden: units of the predictor's hidden layer.
    """

    encoder: VisionSpec = dataclasses.field(
        default_factory=lambda: VisionSpec(head=ProjectionHead(width=256, layers=3))
    )
    hidden: int = 4096

    def train_flops(self, attended, predicted=0.0, pooled=0.0) -> float:
        """See `ModelSpec`: for an image."""
        predictor = 2 * self.encoder.head.width * self.hidden
        return self.encoder.train_flops(attended, 0.0, pooled) + 6.0 * predictor * pooled

    def build(self) -> Model:
        """The model's pure functions.

        Parameters are `{"encoder": ..., "predictor": ...}`; `Outputs.logits` (b, 1, m) are the
        projection and `Outputs.pooled_logits` (b, 1, m) float32 what is predicted from it.

        Raises:
            UserError: fields that do not go together; the message names them.
        """
        head = self.encoder.head
        if not isinstance(head, ProjectionHead):
            raise UserError(
                f"PredictorSpec.encoder.head is {head}; it must be ProjectionHead(width=...)"
            )
        if self.hidden < 1:
            raise UserError(f"PredictorSpec.hidden is {self.hidden}; it must be positive")
        encoder, predictor = self.encoder.build(), _Predictor(head.width, self.hidden)
        blank = jnp.zeros((1, 1, head.width))
        boxed = jax.eval_shape(predictor.init, jax.random.key(0), blank)["params"]
        names = jax.tree.map(
            lambda box: box.names, boxed, is_leaf=lambda x: isinstance(x, nn.meta.AxisMetadata)
        )

        def init(rng, batch):
            """Float32 parameters; of `batch` nothing is read, all shapes are in the spec."""
            first, second = jax.random.split(rng)
            own = nn.unbox(predictor.init(second, blank))["params"]
            return {"encoder": encoder.init(first, None), "predictor": own}

        def apply(params, batch, **options):
            out = encoder.apply(params["encoder"], batch, **options)
            own = gather(params["predictor"], names, jnp.float32)
            return dataclasses.replace(
                out, pooled_logits=predictor.apply({"params": own}, out.logits)
            )

        def axes(params):
            return {"encoder": encoder.axes(params["encoder"]), "predictor": names}

        return Model(init, apply, axes, self)


class _Predictor(nn.Module):
    width: int
    hidden: int

    @nn.compact
    def __call__(self, x: AnyArray) -> AnyArray:
        width, hidden = self.width, self.hidden
        up = Dense((width, hidden), ("embed", "mlp"), width**-0.5, True, name="up")
        down = Dense((hidden, width), ("mlp", "embed"), hidden**-0.5, True, name="down")
        return down(jax.nn.relu(up(x)))
