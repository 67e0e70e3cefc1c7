"""A vision transformer whose vectors are assigned to prototypes: what self-distillation trains."""

import dataclasses
import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from biofm_jax.array_types import AnyArray
from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models.api import Model, constrain, gather
from biofm_jax.models.around_vision import AroundVision
from biofm_jax.models.layers import Dense, normal, parameter
from biofm_jax.models.vision import VisionSpec


@dataclasses.dataclass(frozen=True)
class Prototypes:
    """An MLP, and cosines with prototypes (DINO, Caron et al. 2021, arXiv:2104.14294); the
    defaults are those of DINOv2 (Oquab et al. 2023, arXiv:2304.07193).

    Attributes:
        count: of prototypes.
        hidden: units of a hidden layer.
        layers: dense layers of the MLP, with GELU between them.
        bottleneck: width of the vectors and of the prototypes, both scaled to length 1.
    """

    count: int = 65_536
    hidden: int = 2048
    layers: int = 3
    bottleneck: int = 256

    def weights(self, width: int) -> int:
        """That a vector of the encoder's width meets."""
        sizes = [width, *[self.hidden] * (self.layers - 1), self.bottleneck, self.count]
        return sum(a * b for a, b in itertools.pairwise(sizes))


@dataclasses.dataclass(frozen=True)
class PrototypeSpec(AroundVision):
    """An encoder with prototypes for images, and with others or the same for patches.

    Attributes:
        images: prototypes of `Outputs.pooled`, the class token's state.
        patches: those of patches (iBOT, Zhou et al. 2022, arXiv:2111.07832); None: the same.
    """

    encoder: VisionSpec = dataclasses.field(default_factory=lambda: VisionSpec(mask_vector=True))
    images: Prototypes = Prototypes()
    patches: Prototypes | None = None

    def train_flops(self, attended, predicted=0.0, pooled=0.0) -> float:
        """See `ModelSpec`: for an image, of whose patches the share `predicted` is assigned."""
        patches = predicted * math.prod(self.encoder.image_grid)
        own = self.images if self.patches is None else self.patches
        heads = pooled * self.images.weights(self.width) + patches * own.weights(self.width)
        return self.encoder.train_flops(attended) + 6.0 * heads

    def build(self) -> Model:
        """The model's pure functions.

        Parameters are `{"encoder": ..., "images": ..., "patches": ...}`, the last only with
        prototypes of their own. `Outputs.pooled_logits` (b, 1, m) float32 are the cosines of the
        image, `Outputs.logits` (b, k, m) those of the tokens at `Batch.predict`, None without it.

        Raises:
            UserError: fields that do not go together; the message names them.
        """
        if self.encoder.head is not None:
            raise UserError(
                f"PrototypeSpec.encoder.head is {self.encoder.head}; it must be None: the "
                "prototypes are the head"
            )
        encoder = self.encoder.build()
        heads = {"images": _checked(self.images, "images")}
        if self.patches is not None:
            heads["patches"] = _checked(self.patches, "patches")
        modules = {name: Assignment(head, self.encoder.init_std) for name, head in heads.items()}
        blank = jnp.zeros((1, 1, self.width))
        names = {name: _names(module, blank) for name, module in modules.items()}

        def init(rng, batch):
            """Float32 parameters; of `batch` nothing is read, all shapes are in the spec."""
            keys = jax.random.split(rng, 1 + len(modules))
            params = {"encoder": encoder.init(keys[0], None)}
            for key, (name, module) in zip(keys[1:], modules.items()):
                params[name] = nn.unbox(module.init(key, blank))["params"]
            return params

        def assigned(params, name, x):
            name = name if name in modules else "images"
            own = gather(params[name], names[name], self.compute_dtype)
            return modules[name].apply({"params": own}, x.astype(self.compute_dtype))

        def apply(params, batch: Batch, **options):
            out = encoder.apply(params["encoder"], batch.replace(predict=None), **options)
            logits = None
            if batch.predict is not None:
                hidden = jnp.take_along_axis(out.hidden, batch.predict[:, :, None], axis=1)
                logits = assigned(params, "patches", hidden)
            pooled = assigned(params, "images", out.pooled)
            return dataclasses.replace(out, logits=logits, pooled_logits=pooled)

        def axes(params):
            return {"encoder": encoder.axes(params["encoder"]), **names}

        return Model(init, apply, axes, self)


def _checked(head: Prototypes, name: str) -> Prototypes:
    for field in dataclasses.fields(head):
        if getattr(head, field.name) < 1:
            value = getattr(head, field.name)
            raise UserError(f"PrototypeSpec.{name}.{field.name} is {value}; it must be positive")
    return head


def _names(module: nn.Module, blank: AnyArray):
    """The logical names of a module's parameters."""
    boxed = jax.eval_shape(module.init, jax.random.key(0), blank)["params"]
    return jax.tree.map(
        lambda box: box.names, boxed, is_leaf=lambda x: isinstance(x, nn.meta.AxisMetadata)
    )


class Assignment(nn.Module):
    """Cosines (b, n, m) float32 of vectors (b, n, d) with prototypes."""

    head: Prototypes
    init_std: float

    @nn.compact
    def __call__(self, x: AnyArray) -> AnyArray:
        head = self.head
        for i in range(head.layers):
            last = i == head.layers - 1
            shape = (x.shape[-1], head.bottleneck if last else head.hidden)
            # Column by column, then row by row, so that tensor parallelism sums once a pair.
            axes = ("mlp", "embed") if i % 2 else ("embed", None if last else "mlp")
            x = Dense(shape, axes, self.init_std, True, name=f"dense_{i}")(x)
            x = x if last else jax.nn.gelu(x, approximate=False)
        shape = (head.count, head.bottleneck)
        table = parameter(self, "prototypes", normal(self.init_std), shape, ("vocab", "embed"))
        cosines = jnp.einsum(
            "bnd,md->bnm", unit(x), unit(table), preferred_element_type=jnp.float32
        )
        return constrain(cosines, "batch", None, "vocab")


def unit(x: AnyArray) -> AnyArray:
    """Vectors (..., d) scaled to length 1, in their own type."""
    wide = x.astype(jnp.float32)
    # The floor inside the root keeps the gradient of a vector of zeros finite.
    return (wide * jax.lax.rsqrt(jnp.sum(wide**2, axis=-1, keepdims=True) + 1e-12)).astype(x.dtype)
