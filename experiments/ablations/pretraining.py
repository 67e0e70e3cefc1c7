r"""Is pretraining worth it? The same model pretrained or not, then probed and fine-tuned.

    biofm sweep experiments/ablations/pretraining.py --over variant=off,on --seeds 3 \
        --task bbbp esol lipophilicity --method probe finetune --out runs/pretraining

Backbone, molecules and budget are those of objective.py, with masked pretraining. `off` is one
step with a learning rate of 0, which leaves the random parameters as they are; it goes through the
same adaptation with the same seeds.

Not run yet: six cells, of which three pretrain on a million tokens, about a minute each on two
cores, and all are fine-tuned.
"""

import dataclasses
import runpy
from pathlib import Path

objective = runpy.run_path(str(Path(__file__).with_name("objective.py")))
experiment = objective["experiment"]


def off(base):
    """The same run, which learns nothing."""
    return dataclasses.replace(
        base,
        optimizer=dataclasses.replace(base.optimizer, learning_rate=0.0),
        loop=dataclasses.replace(base.loop, steps=1, eval_every=0),
    )


variants = {"off": off, "on": lambda base: base, "smoke": objective["variants"]["smoke"]}
