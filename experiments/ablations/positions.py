r"""Which positions? Rotary, ALiBi, learned and relative ones, or none at all.

    biofm sweep experiments/ablations/positions.py --seeds 3 \
        --over "model.positions=Rotary,ALiBi,Learned(maximum=128),Relative,NoPositions" \
        --task bbbp esol lipophilicity --out runs/positions

Backbone, molecules and budget are those of objective.py, with masked pretraining. Without
positions a SMILES is a bag of tokens, which is the floor here. The held-out losses are of the same
masks in all cells and can be compared as well.
"""

import runpy
from pathlib import Path

objective = runpy.run_path(str(Path(__file__).with_name("objective.py")))
experiment = objective["experiment"]

variants = {"smoke": objective["variants"]["smoke"]}
