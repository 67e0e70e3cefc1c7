"""Small molecules in space, shared by the tests of several rooms."""

import numpy as np

from biofm_jax.data.batch import Batch
from biofm_jax.data.conformers import ConformerExample
from biofm_jax.data.in_memory import pack_examples
from biofm_jax.data.molecule_conformer import ConformerData

VOCABULARY = ConformerData().vocabulary


def toy_conformers(count: int, seed=0, sizes=(1, 9)) -> list[ConformerExample]:
    """So many molecules of atoms at random places."""
    rng, made = np.random.default_rng(seed), []
    for size in rng.integers(*sizes, count):
        places = 2.0 * rng.normal(size=(size + 2, 3))
        places -= places[1:-1].mean(0)
        places[[0, -1]] = 0.0
        tokens = [VOCABULARY.cls, *rng.integers(4, 12, size), VOCABULARY.eos]
        made.append(ConformerExample(np.array(tokens, np.uint8), places.astype(np.float32)))
    return made


def packed_conformers(examples, rows=4, tokens=24, slots=3) -> list[Batch]:
    """Batches of them, the last one filled with empty rows."""
    options = {"max_tokens": tokens, "segments": slots, "batch_size": rows}
    return pack_examples(examples, VOCABULARY, **options).batches
