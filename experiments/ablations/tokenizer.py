r"""Which tokens? A SMILES as atoms and bonds, or as characters, or SELFIES.

    biofm sweep experiments/ablations/tokenizer.py --over variant=atom,character,selfies --seeds 3 \
        --task bbbp esol lipophilicity --out runs/tokenizer

Backbone, molecules and budget are those of objective.py, with masked pretraining. With atoms,
`Cl` and `[C@@H]` are one token each; with characters, two and six, over a vocabulary a quarter as
large. SELFIES have one for each atom, branch and ring, and more for the lengths of these; every
sequence of them is a molecule. All see the same number of tokens, which are fewer molecules in
characters. A loss per character and a loss per atom are different things, so held-out losses do not
rank them; the tasks do.

Not run yet: nine cells of a million tokens; nine took objective.py 13 minutes on two cores.
"""

import dataclasses
import runpy
from pathlib import Path

from biofm_jax.data.molecule_characters import CharacterMoleculeData
from biofm_jax.data.selfies_tokenizer import SelfiesData

objective = runpy.run_path(str(Path(__file__).with_name("objective.py")))
experiment = objective["experiment"]


def character(base):
    """The same run on characters."""
    return _written(base, CharacterMoleculeData)


def selfies(base):
    """The same run on SELFIES; of a thousand molecules three have none."""
    return _written(dataclasses.replace(base, data=_tolerant(base.data)), SelfiesData)


def _tolerant(data):
    return dataclasses.replace(data, tolerance=0.01)


def _written(base, kind):
    fields = {f.name: getattr(base.data, f.name) for f in dataclasses.fields(base.data)}
    data = kind(**fields)
    vocabulary = data.tokenizer().vocabulary
    model = dataclasses.replace(base.model, vocabulary=vocabulary.size, special=vocabulary.special)
    return dataclasses.replace(base, data=data, model=model)


variants = {
    "atom": lambda base: base,
    "character": character,
    "selfies": selfies,
    "smoke": objective["variants"]["smoke"],
    "smoke_character": lambda base: character(objective["variants"]["smoke"](base)),
}
