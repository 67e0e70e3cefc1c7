r"""Deep or wide? Four shapes of transformer at equal FLOPs.

    biofm sweep experiments/ablations/depth_width.py --over variant=3x128,2x160,6x96,12x64 \
        --match flops --seeds 3 --task bbbp esol lipophilicity --out runs/depth_width

Layers x width, heads of 32 dimensions each. Molecules and objective are those of objective.py, with
masked pretraining; 3x128 is its backbone and sets the budget. The shapes have nearly the same
number of weights in their layers, and --match flops evens out the rest by the number of steps.
The held-out losses are of the same masks in all cells and can be compared as well.

Not run yet: twelve cells of a million tokens, which took masking_rate.py 13 minutes on two cores.
"""

import dataclasses
import runpy
from pathlib import Path

objective = runpy.run_path(str(Path(__file__).with_name("objective.py")))
experiment = objective["experiment"]


def shape(layers: int, width: int):
    """A variant with so many layers of such a width."""

    def reshape(base):
        model = dataclasses.replace(base.model, layers=layers, width=width, heads=width // 32)
        return dataclasses.replace(base, model=model)

    return reshape


variants = {
    "2x160": shape(2, 160),
    "3x128": shape(3, 128),
    "6x96": shape(6, 96),
    "12x64": shape(12, 64),
    "smoke": lambda base: shape(4, 32)(objective["variants"]["smoke"](base)),
}
