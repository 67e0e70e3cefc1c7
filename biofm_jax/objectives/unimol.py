"""Masked atoms, moved coordinates and distances of molecules in space (Uni-Mol).

Zhou et al. 2023, ChemRxiv 10.26434/chemrxiv-2022-jjm0j-v4; github.com/deepmodeling/Uni-Mol.
"""

import dataclasses

import jax
import jax.numpy as jnp

from biofm_jax.array_types import AnyArray
from biofm_jax.data.batch import Batch
from biofm_jax.data.tokenizers import Vocabulary
from biofm_jax.errors import UserError
from biofm_jax.models.pair_stack import distances
from biofm_jax.objectives.api import Loss, Objective, ObjectiveSpec, cross_entropy, row_keys
from biofm_jax.objectives.masked import MaskedLM, corrupt

# Of distances in the published pretraining data, in angstrom.
DISTANCE_MEAN, DISTANCE_DEVIATION = 6.312581655060595, 3.3899264663911888


@dataclasses.dataclass(frozen=True)
class UniMol(ObjectiveSpec):
    """Restore the elements, the places and the distances of atoms that were hidden and moved.

    Of the chosen atoms some are shown as masks or as other elements, and stand at most `noise`
    from their place along each axis; the others are shown as they are. The loss is the sum of
    three over the chosen atoms: cross-entropy of the element; smooth L1 of the coordinates, in
    angstrom; smooth L1 of the normalised distances to all atoms of the molecule, the mean for
    each chosen atom (published: over all pairs of a batch). The published penalties on the norms
    of states and pairs, a hundredth each, are left out.

    Attributes:
        rate: share of the atoms of a row that are chosen.
        mask: of these, the share shown as the mask.
        random: the share shown as a random element; the rest is shown as it is, in its place.
        noise: in angstrom; the shift along each axis is uniform in [-noise, noise].
        elements: weight of the cross-entropy.
        coordinates: weight of the coordinates' loss.
        distances: weight of the distances' loss.
    """

    rate: float = 0.15
    mask: float = 0.9
    random: float = 0.05
    noise: float = 1.0
    elements: float = 1.0
    coordinates: float = 5.0
    distances: float = 10.0

    head = "LanguageHead"
    causal = False

    @property
    def predicted(self) -> float:
        """See `ObjectiveSpec`."""
        return self.rate

    def check(self, model, data) -> None:
        """See `ObjectiveSpec`; the model must have the heads of coordinates and distances.

        Raises:
            UserError: names the field and the fix.
        """
        super().check(model, data)
        if not getattr(model, "geometry", False):
            raise UserError(
                "UniMol moves coordinates and predicts distances, and the model does neither; set "
                "model=PairTransformerSpec(geometry=True, ...)"
            )

    def build(self, vocabulary: Vocabulary) -> Objective:
        """The objective for a vocabulary of elements.

        Raises:
            UserError: a rate outside (0, 1], shares above 1, a negative weight or noise, or no
                mask token.
        """
        for name in ("noise", "elements", "coordinates", "distances"):
            if (value := getattr(self, name)) < 0:
                raise UserError(f"objective.{name} is {value}; it must be 0 or more")
        hiding = MaskedLM(self.rate, self.mask, self.random)
        hiding.build(vocabulary)

        def loss(apply, params, state, batch: Batch, rng) -> Loss:
            draw, dropout = jax.random.split(rng)
            shown = moved(self.noise, corrupt(hiding, vocabulary, batch, draw), batch, draw)
            out = apply(params, shown, rngs=dropout)
            return compare(self, out, shown, batch, state)

        return Objective(init=lambda params: {}, loss=loss)


def moved(noise: float, hidden: Batch, batch: Batch, rng: jax.Array) -> Batch:
    """The batch with every atom that is shown as another token moved.

    Args:
        noise: in angstrom, see `UniMol`.
        hidden: `batch` with other tokens.
        batch: rows (b, t) as they are.
        rng: the step's key; the shifts of a row are drawn from its own.
    """
    keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(row_keys(rng, batch))
    length = batch.tokens.shape[1]
    shifts = jax.vmap(lambda key: jax.random.uniform(key, (length, 3), jnp.float32, -noise, noise))(
        keys
    )
    changed = (hidden.tokens != batch.tokens)[:, :, None]
    return hidden.replace(coordinates=batch.coordinates + jnp.where(changed, shifts, 0.0))


def compare(spec: UniMol, out, shown: Batch, batch: Batch, state) -> Loss:
    """The three losses of what a model says of a hidden batch.

    Args:
        spec: the weights.
        out: the model's outputs; its logits stand at `shown.predict` (b, k).
        shown: what the model saw, with `targets` and `weights` (b, k).
        batch: as it is.
        state: passed on.

    Returns:
        Loss with the metrics `accuracy`, `element_loss`, `coordinate_loss` and `distance_loss`.
    """
    chosen, weights = shown.predict, shown.weights

    def at_chosen(values: AnyArray) -> jax.Array:
        return jnp.take_along_axis(values, chosen[:, :, None], axis=1)

    nats = cross_entropy(out.logits, shown.targets)
    hits = (jnp.argmax(out.logits, axis=-1) == shown.targets).astype(jnp.float32)
    places = smooth_l1(at_chosen(out.coordinates) - at_chosen(batch.coordinates)).mean(-1)
    far = distances(batch.coordinates)
    together = batch.segment_ids[:, :, None] == batch.segment_ids[:, None, :]
    partners = at_chosen((together & (far > 0)).astype(jnp.float32))
    wrong = smooth_l1(at_chosen(out.distances - (far - DISTANCE_MEAN) / DISTANCE_DEVIATION))
    apart = (wrong * partners).sum(-1) / jnp.maximum(partners.sum(-1), 1.0)
    parts = {"element_loss": nats, "coordinate_loss": places, "distance_loss": apart}
    total = spec.elements * nats + spec.coordinates * places + spec.distances * apart
    return Loss(
        total=jnp.sum(total * weights),
        weight=jnp.sum(weights),
        metrics={name: jnp.sum(x * weights) for name, x in {"accuracy": hits, **parts}.items()},
        state=state,
    )


def smooth_l1(difference: jax.Array) -> jax.Array:
    """Half the square below 1, the absolute value less a half beyond it (Huber's loss)."""
    size = jnp.abs(difference)
    return jnp.where(size < 1.0, 0.5 * size * size, size - 0.5)
