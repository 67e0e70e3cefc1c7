"""What an objective adds to a step that compares every example with every other."""

import math

from biofm_jax.experiment import Experiment
from biofm_jax.models.heads import ProjectionHead
from biofm_jax.objectives.contrastive import Contrastive

FLOAT = 4  # bytes: embeddings are compared in float32


def pair_flops(experiment: Experiment, sizes: tuple[int, int, int, int]) -> float:
    """FLOPs of one chip for the similarities of a step, and for both their gradients.

    A chip compares its own slots with those of all chips: with as many rows a chip they grow with
    the chips, and nothing of them is computed twice on data and fsdp axes.

    Args:
        experiment: the run; 0 for an objective that compares nothing.
        sizes: of the mesh axes.
    """
    slots, width = _embeddings(experiment)
    return 3 * 2.0 * slots * (slots / (sizes[0] * sizes[1])) * width


def least_pair_bytes(experiment: Experiment, sizes: tuple[int, int, int, int]) -> float:
    """Bytes that a chip must send so that every slot meets all others.

    The embeddings of one view are gathered and their gradients scattered.

    Args:
        experiment: the run; 0 for an objective that compares nothing.
        sizes: of the mesh axes.
    """
    slots, width = _embeddings(experiment)
    members = math.prod(sizes[:2])
    return 2.0 * (members - 1) / members * slots * width * FLOAT


def _embeddings(experiment: Experiment) -> tuple[int, int]:
    """Slots of the global batch, empty ones too, and the width of their embeddings."""
    if not isinstance(experiment.objective, Contrastive):
        return 0, 0
    head, spec = experiment.model.head, experiment.model
    width = head.width if isinstance(head, ProjectionHead) else spec.width
    return math.prod(experiment.shapes().examples.shape), width
