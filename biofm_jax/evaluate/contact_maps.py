"""How well attention tells contacts: precision@L at long range over chains of known structure."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.data.structures import Chain, held_apart
from biofm_jax.errors import UserError
from biofm_jax.evaluate.metrics_retrieval import contact_precision
from biofm_jax.interpret.contacts import ContactHead, fit_contact_head, predict_contacts

TRAINED = 20  # chains, as by Rao et al. 2021
SHARES = {"P@L": 1.0, "P@L/2": 0.5, "P@L/5": 0.2}


@dataclasses.dataclass(frozen=True)
class ContactResult:
    """What a contact head reaches on chains that it was not fitted to.

    Attributes:
        head: the regression.
        trained: names of the chains it was fitted to; none for a published one.
        tested: names of the chains it was tested on.
        precision: metric -> mean over the tested chains; pairs at least 24 residues apart.
        random: the share of such pairs that touch, mean over the chains: a random order's.
    """

    head: ContactHead
    trained: tuple[str, ...]
    tested: tuple[str, ...]
    precision: dict[str, float]
    random: float


def contact_result(
    encoder: Encoder, chains: Sequence[Chain], head: ContactHead | None = None, seed: int = 0
) -> ContactResult:
    """Fit a contact head to 20 chains, if none is given, and test it on those of other clusters.

    Args:
        encoder: a model of proteins whose rows hold the longest chain.
        chains: from `data.structures.read_chains`.
        head: a published one: nothing is fitted, and the same chains are tested.
        seed: of the draw of training chains, and of a random model.

    Raises:
        UserError: as `fit_contact_head`, or too few chains.
    """
    train, test = (
        [chain for chain, there in zip(chains, part) if there]
        for part in held_apart(list(chains), TRAINED, seed)
    )
    if len(train) < TRAINED or not test:
        raise UserError(
            f"{len(train)} of {len(chains)} chains train and {len(test)} test: {TRAINED} are "
            "wanted to fit a contact head, and some of other clusters to test it"
        )
    if head is None:
        texts = [chain.sequence for chain in train]
        head = fit_contact_head(encoder, texts, [c.contacts() for c in train], seed=seed)
    else:
        train = []
    truth = [chain.contacts() for chain in test]
    maps = predict_contacts(encoder, head, [chain.sequence for chain in test], seed)
    precision = {
        name: float(contact_precision(truth, maps, per_length=share).mean())
        for name, share in SHARES.items()
    }
    flat = [np.zeros_like(each) for each in maps]
    return ContactResult(
        head,
        tuple(chain.name for chain in train),
        tuple(chain.name for chain in test),
        precision,
        float(contact_precision(truth, flat).mean()),
    )
