r"""Which positions? Rotary, ALiBi, learned and relative ones, or none at all.

    biofm sweep experiments/ablations/positions.py --seeds 3 \
        --over "model.positions=Rotary,ALiBi,Learned(maximum=128),Relative,NoPositions" \
        --task bbbp esol lipophilicity --out runs/positions

Backbone, molecules and budget are those of objective.py, with masked pretraining. Without
positions a SMILES is a bag of tokens, which is the floor here. The held-out losses are of the same
masks in all cells and can be compared as well.

Fifteen cells take 23 minutes of CPU time. Found: held-out losses of 0.99 (rotary), 1.32 (ALiBi),
1.89 (learned), 2.00 (relative) and 2.20 (none) nats, and no difference on the tasks that survives
correction for 30 tests; table and plot in experiments/README.md.
"""

import dataclasses
import runpy
from pathlib import Path

from biofm_jax.models.positions import Alibi

objective = runpy.run_path(str(Path(__file__).with_name("objective.py")))
experiment = objective["experiment"]


def smoke(base):
    """The shrunk run with distances in place of rotary angles."""
    small = objective["variants"]["smoke"](base)
    return dataclasses.replace(small, model=dataclasses.replace(small.model, positions=Alibi()))


variants = {"smoke": smoke}
