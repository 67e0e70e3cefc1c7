"""Self-distillation of images: a student sees less of them than its teacher (DINOv2, Oquab et al.
2023, arXiv:2304.07193), as UNI, Virchow and Prov-GigaPath were trained."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp

from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models.image_embedding import MASK, image_tokens
from biofm_jax.models.prototypes import PrototypeSpec
from biofm_jax.models.vision import VisionSpec
from biofm_jax.objectives.api import Loss, Objective, ObjectiveSpec, row_keys
from biofm_jax.objectives.assignments import centred, moved_centre, sinkhorn, spread
from biofm_jax.objectives.crops import apart, crops
from biofm_jax.objectives.image_views import ImageViews
from biofm_jax.objectives.teacher import check_momentum, followed, momentum_at, start_teacher

COLOURS = dict(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
GLOBAL = 2  # crops that the teacher sees too


@dataclasses.dataclass(frozen=True)
class SelfDistillation(ObjectiveSpec):
    """Give every crop of an image the prototypes that the teacher gives its large crops.

    The student also finds the teacher's prototypes of patches that are hidden from it (iBOT). The
    prototypes are shared out over the whole batch, so that gradients are not accumulated. Hidden
    patches are drawn one by one, where DINOv2 draws blocks.

    Attributes:
        temperature: of the student.
        teacher_temperature: of the teacher.
        teacher_warm: the same at the start.
        warm_steps: over which it rises to `teacher_temperature`; 0: it is there at once.
        centring: how the teacher is kept from giving all images one prototype.
        rounds: of Sinkhorn-Knopp.
        centre_momentum: share of the centre that stays in a step.
        momentum: share of the teacher that stays in a step, at the start.
        momentum_steps: over which it rises to 1 along a cosine; 0: it stays.
        patch_weight: of the loss of hidden patches; 0: none are hidden.
        hidden_chance: that patches of a large crop are hidden at all.
        hidden_share: smallest and largest share that is then.
        spread_weight: of KoLeo, which keeps images apart.
        local_crops: small crops of an image.
        first: how the first large crop is drawn.
        second: how the second is.
        local: how small ones are.
    """

    temperature: float = 0.1
    teacher_temperature: float = 0.07
    teacher_warm: float = 0.04
    warm_steps: int = 0
    centring: Literal["sinkhorn", "centre"] = "sinkhorn"
    rounds: int = 3
    centre_momentum: float = 0.9
    momentum: float = 0.992
    momentum_steps: int = 0
    patch_weight: float = 1.0
    hidden_chance: float = 0.5
    hidden_share: tuple[float, float] = (0.1, 0.5)
    spread_weight: float = 0.1
    local_crops: int = 8
    first: ImageViews = ImageViews(area=(0.32, 1.0), blur=1.0, **COLOURS)
    second: ImageViews = ImageViews(area=(0.32, 1.0), blur=0.1, solarise=0.2, **COLOURS)
    local: ImageViews = ImageViews(size=(96, 96), area=(0.05, 0.32), **COLOURS)

    passes = GLOBAL

    @property
    def predicted(self) -> float:
        """Share of the patches of a large crop that may be hidden, for which there is room."""
        return self.hidden_share[1] if self.patch_weight else 0.0

    def check(self, model, data) -> None:
        """See `ObjectiveSpec`."""
        if not isinstance(model, PrototypeSpec):
            raise UserError(
                "SelfDistillation assigns images to prototypes; set "
                "model=PrototypeSpec(encoder=...)"
            )
        encoder = model.encoder
        if self.patch_weight and not encoder.mask_vector:
            raise UserError(
                "SelfDistillation hides patches behind a mask vector; set "
                "--model.encoder.mask-vector True, or --objective.patch-weight 0"
            )
        for name in ("temperature", "teacher_temperature", "teacher_warm"):
            if getattr(self, name) <= 0:
                raise UserError(f"objective.{name} is {getattr(self, name)}; it must be positive")
        low, high = self.hidden_share
        if not 0 < low <= high < 1:
            raise UserError(
                f"objective.hidden_share is {self.hidden_share}; give a smallest and a largest "
                "share, above 0 and below 1"
            )
        size, patch = self.local.size, encoder.patch
        fits = len(size) == len(patch) and all(n and n % p == 0 for n, p in zip(size, patch))
        if self.local_crops and not fits:
            near = " ".join(str(max(1, round(n / 2 / p)) * p) for n, p in zip(encoder.image, patch))
            raise UserError(
                f"objective.local.size is {size}, which the patches {patch} do not divide; set "
                f"--objective.local.size {near}, or --objective.local-crops 0"
            )
        if any(how.size not in ((), encoder.image) for how in (self.first, self.second)):
            raise UserError(
                "objective.first.size and objective.second.size must be "
                f"{' '.join(map(str, encoder.image))}, or empty"
            )
        check_momentum(self.momentum, self.momentum_steps)

    def batch_flops(self, model, batch, attended) -> float:
        """See `ObjectiveSpec`: of all crops; the teacher has no backward pass."""
        large = GLOBAL * (1 + 1 / 3) * model.batch_flops(batch, attended, self.predicted)
        if not self.local_crops:
            return large
        grid = model.encoder.position_grid
        encoder = dataclasses.replace(model.encoder, grid=grid, image=self.local.size)
        small = dataclasses.replace(model, encoder=encoder).batch_flops(batch, attended)
        return large + self.local_crops * small

    def most_hidden(self, encoder: VisionSpec) -> int:
        """The largest number of patches that are hidden of a crop; 0 without their loss."""
        if not self.patch_weight:
            return 0
        return max(1, round(self.hidden_share[1] * math.prod(encoder.image_grid)))

    def built_for(self, model: PrototypeSpec, data) -> Objective:
        """See `ObjectiveSpec`."""
        own = model.images if model.patches is None else model.patches

        def init(params):
            state = start_teacher(params)
            if self.centring == "centre":
                state |= {"centre": jnp.zeros(model.images.count, jnp.float32)}
                state |= {"patch_centre": jnp.zeros(own.count, jnp.float32)}
            return state

        def cosines(apply, params, teacher, batch: Batch, rng) -> dict[str, jax.Array]:
            """What student and teacher say of all crops; `compare` has the shapes."""
            drawing, small, hiding, *dropout = jax.random.split(rng, 6)
            large = crops((self.first, self.second), batch, drawing)
            shown, weights = hidden_patches(self, model.encoder, large, hiding)
            student = apply(params, shown, rngs=dropout[0])
            taught = apply(teacher, large.replace(predict=shown.predict), rngs=dropout[1])
            images = [apart(student.pooled_logits[:, 0], GLOBAL)]
            if self.local_crops:
                local = crops((self.local,) * self.local_crops, batch, small)
                seen = apply(params, local, rngs=dropout[2]).pooled_logits[:, 0]
                images.append(apart(seen, self.local_crops))
            found = {
                "images": jnp.concatenate(images, axis=1),
                "taught_images": apart(taught.pooled_logits[:, 0], GLOBAL),
                "vectors": apart(student.pooled[:, 0], GLOBAL),
            }
            if shown.predict is not None:
                found |= {"patches": student.logits, "taught_patches": taught.logits}
                found |= {"hidden": weights}
            return found

        def compare(found, batch: Batch, state) -> Loss:
            return distilled(self, found, batch, state)

        def loss(apply, params, state, batch: Batch, rng) -> Loss:
            momentum = momentum_at(state["step"], self.momentum, self.momentum_steps)
            teacher = followed(state["teacher"], params, momentum)
            found = cosines(apply, params, teacher, batch, rng)
            made = compare(found, batch, state | {"teacher": teacher})
            return dataclasses.replace(made, state=made.state | {"step": state["step"] + 1})

        return Objective(init=init, loss=loss, compare=compare)


def hidden_patches(
    spec: SelfDistillation, encoder: VisionSpec, batch: Batch, key: jax.Array
) -> tuple[Batch, jax.Array | None]:
    """The batch as the student sees it.

    Args:
        spec: says how much is hidden.
        encoder: of the model.
        batch: large crops, one token each.
        key: of the step.

    Returns:
        The batch with a row of tokens for each image, some of them MASK, and `predict` (b, k)
        the columns of as many patches as may be hidden; and (b, k) float32, 1 where one is.
        Where none ever are: the batch as it is, and None.
    """
    most = spec.most_hidden(encoder)
    if not most:
        return batch, None
    patches = math.prod(encoder.image_grid)
    low, high = (share * patches for share in spec.hidden_share)

    def draw(key):
        chance, share, noise = jax.random.split(key, 3)
        count = jnp.round(jax.random.uniform(share, (), minval=low, maxval=high))
        any_hidden = jax.random.uniform(chance) < spec.hidden_chance
        order = jnp.argsort(jax.random.uniform(noise, (patches,)))[:most].astype(jnp.int32)
        hidden = any_hidden & (jnp.arange(most) < jnp.clip(count, 1, most))
        masks = jnp.zeros(patches, bool).at[order].set(hidden, unique_indices=True)
        return order, hidden, masks

    order, hidden, masks = jax.vmap(draw)(row_keys(key, batch))
    whole = image_tokens(encoder, batch)
    front = encoder.class_token + encoder.registers
    kinds = jnp.where(masks, MASK, whole.tokens[:, front:])
    tokens = jnp.concatenate([whole.tokens[:, :front], kinds], axis=1)
    return whole.replace(tokens=tokens, predict=front + order), hidden.astype(jnp.float32)


def distilled(spec: SelfDistillation, found: dict, batch: Batch, state: dict) -> Loss:
    """The loss of a batch.

    Args:
        spec: weights and temperatures.
        found: cosines of c crops, the large ones first, with m prototypes: "images" (b, c, m) of
            the student, "taught_images" (b, 2, m) of the teacher, "vectors" (b, 2, d) of the
            student; where patches are hidden "patches" and "taught_patches" (2b, k, m) and
            "hidden" (2b, k) float32, 1 for a patch that is.
        batch: says which rows are empty.
        state: "step", and the centres where there are any.
    """
    valid = (batch.examples[:, 0] >= 0).astype(jnp.float32)
    warm = jnp.minimum(1.0, state["step"] / spec.warm_steps) if spec.warm_steps else 1.0
    temperature = spec.teacher_warm + warm * (spec.teacher_temperature - spec.teacher_warm)

    def targets(logits, weights, name):
        logits = jax.lax.stop_gradient(logits)
        if spec.centring == "sinkhorn":
            return sinkhorn(logits / temperature, weights, spec.rounds), {}
        centre = moved_centre(state[name], logits, weights, spec.centre_momentum)
        return centred(logits, state[name], temperature), {name: centre}

    prototypes = found["taught_images"].shape[-1]
    pair = jnp.repeat(valid, GLOBAL)
    taught, after = targets(found["taught_images"].reshape(-1, prototypes), pair, "centre")
    taught = taught.reshape(-1, GLOBAL, prototypes)
    logs = jax.nn.log_softmax(found["images"] / spec.temperature, axis=-1)
    nats = -jnp.einsum("bgm,bcm->bgc", taught, logs)
    crops_seen = nats.shape[2]
    others = ~jnp.eye(GLOBAL, crops_seen, dtype=bool)  # not its own crop
    images = jnp.where(others, nats, 0.0).sum((1, 2)) / (GLOBAL * (crops_seen - 1))
    parts = {"images": images, "entropy": jax.scipy.special.entr(taught).sum(-1).mean(1)}

    total = images
    if "patches" in found:
        count = found["taught_patches"].shape[-1]
        weights = found["hidden"] * pair[:, None]
        flat = found["taught_patches"].reshape(-1, count)
        taught, more = targets(flat, weights.reshape(-1), "patch_centre")
        logs = jax.nn.log_softmax(found["patches"] / spec.temperature, axis=-1)
        nats = -jnp.sum(taught.reshape(logs.shape) * logs, axis=-1)
        each = (nats * weights).sum(1) / jnp.maximum(weights.sum(1), 1.0)
        parts["patches"] = apart(each, GLOBAL).mean(1)
        total, after = total + spec.patch_weight * parts["patches"], after | more
    if spec.spread_weight:
        vectors = found["vectors"].astype(jnp.float32)
        parts["spread"] = sum(spread(vectors[:, i], valid) for i in range(GLOBAL))
        total = total + spec.spread_weight * parts["spread"]
    return Loss(
        total=jnp.sum(total * valid),
        weight=jnp.sum(valid),
        metrics={name: jnp.sum(value * valid) for name, value in parts.items()},
        state=state | after,
    )
