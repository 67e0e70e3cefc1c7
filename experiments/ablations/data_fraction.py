r"""How much data? From a hundredth of the molecules to all of them, at the same number of steps.

    biofm sweep experiments/ablations/data_fraction.py --over data.fraction=0.01,0.03,0.1,0.3,1 \
        --seeds 3 --task bbbp esol lipophilicity --out runs/data_fraction

Backbone, molecules and budget are those of objective.py, with masked pretraining. A smaller
share is a part of every larger one and is seen more often; the held-out molecules are the same in
all cells, so that their losses can be compared and show where repetition turns into learning by
heart.

Not run yet: fifteen cells of a million tokens, which took positions.py 23 minutes of CPU time.
"""

import dataclasses
import runpy
from pathlib import Path

objective = runpy.run_path(str(Path(__file__).with_name("objective.py")))
experiment = objective["experiment"]


def smoke(base):
    """A tenth of the shrunk run's molecules."""
    small = objective["variants"]["smoke"](base)
    return dataclasses.replace(small, data=dataclasses.replace(small.data, fraction=0.1))


variants = {"smoke": smoke}
