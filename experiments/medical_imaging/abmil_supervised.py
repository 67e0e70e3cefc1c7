"""Slides by attention over their tiles (ABMIL), on synthetic slides with planted lesions.

    biofm train experiments/medical_imaging/abmil_supervised.py
    biofm train experiments/medical_imaging/abmil_supervised.py:transformer

A slide is a bag of 60 to 192 tile vectors, and has a lesion on 2 % of them or none; only that is
known in training. Which tiles show it is known to the judge (`tests/models/test_slide.py`).

Hardware and time: two shared CPU cores, a minute and a half. Reached on the 100 slides held out:
ROC-AUC 0.994 (logistic regression on the mean of a slide's tiles: 0.818). Of the attention 93 %
lies on lesions, and in 98 % of the slides with one its highest weight. In the variant `transformer`
all tiles of a slide see one another first, so that its weights need not point anywhere.
"""

import dataclasses

from biofm_jax.data.planted_slides import PlantedSlides
from biofm_jax.experiment import Experiment
from biofm_jax.models.slide import AbmilSpec, SlideSpec
from biofm_jax.objectives.supervised import Supervised
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.optimizer import OptimizerSpec

experiment = Experiment(
    model=AbmilSpec(vectors=32, width=64, gate=32, dropout=0.1),
    data=PlantedSlides(),
    objective=Supervised("binary"),
    optimizer=OptimizerSpec(learning_rate=1e-3, warmup=20),
    loop=LoopSpec(steps=400, batch_size=16, eval_every=50, checkpoint_every=200),
)


def _transformer(base: Experiment) -> Experiment:
    model = SlideSpec(vectors=32, layers=2, width=64, heads=4, gate=32, dropout=0.1)
    return dataclasses.replace(base, model=model)


def _smoke(base: Experiment) -> Experiment:
    return dataclasses.replace(
        base,
        model=AbmilSpec(vectors=8, width=8, gate=4),
        data=PlantedSlides(slides=16, fewest=5, max_tokens=16, width=8),
        optimizer=OptimizerSpec(warmup=2),
        loop=LoopSpec(steps=2, batch_size=8, log_every=1, checkpoint_every=2),
    )


variants = {"transformer": _transformer, "smoke": _smoke}
