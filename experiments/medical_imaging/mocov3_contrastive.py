"""Contrastive learning of medical images with a momentum encoder (MoCo v3).

    biofm train experiments/medical_imaging/mocov3_contrastive.py --data.path images/

ViT-S/16 at 224 pixels, a projection of three layers and a predictor of two, temperature 0.2,
momentum 0.99 that rises to 1, and the two unlike ways to draw a view of Chen et al. 2021
(arXiv:2104.02057); without their BatchNorm, so that no image depends on the others of its batch but
in the loss, and without the frozen projection of patches (`--optimizer.freeze
encoder/embed/patches` freezes it). `base` is ViT-B/16.

`small` reads X-rays of 28 x 28 pixels as patches of 4, on two cores:

    biofm train experiments/medical_imaging/mocov3_contrastive.py:small --workdir runs/moco
"""

import dataclasses

from biofm_jax.data.imaging import ImageData
from biofm_jax.experiment import Experiment
from biofm_jax.models.heads import ProjectionHead
from biofm_jax.models.predictor import PredictorSpec
from biofm_jax.models.vision import VisionSpec
from biofm_jax.objectives.image_views import ImageViews
from biofm_jax.objectives.mocov3 import MoCoV3
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.optimizer import OptimizerSpec

XRAYS = "$BIOFM_DATA/imaging/pneumoniamnist/A_official_valtest_train3882.npz"
VIEWS = ImageViews(flips=(), area=(0.3, 1.0), sigma=(0.1, 0.5))  # of an X-ray of 28 x 28 pixels
PLAIN = ImageViews(jitter=0.0, grey=0.0, blur=0.0)  # quick to compile

experiment = Experiment(
    model=PredictorSpec(
        encoder=VisionSpec(head=ProjectionHead(width=256, layers=3), remat="full"), hidden=4096
    ),
    data=ImageData(holdout=0.02),
    objective=MoCoV3(momentum_steps=50_000),
    optimizer=OptimizerSpec(learning_rate=1.5e-4, warmup=4000, final=0.0, weight_decay=0.1),
    loop=LoopSpec(steps=50_000, batch_size=1024, eval_every=1000, checkpoint_every=1000),
)

small = dataclasses.replace(
    experiment,
    model=PredictorSpec(
        encoder=VisionSpec(
            layers=6,
            width=128,
            heads=4,
            image=(28, 28),
            patch=(4, 4),
            channels=1,
            mean=(0.5,),
            deviation=(0.25,),
            head=ProjectionHead(width=64, layers=3),
        ),
        hidden=128,
    ),
    data=ImageData(path=XRAYS, image=(28, 28), channels=1, holdout=0.05),
    objective=MoCoV3(
        momentum_steps=1000,
        first=VIEWS,
        second=dataclasses.replace(VIEWS, blur=0.1, solarise=0.2),
    ),
    optimizer=dataclasses.replace(experiment.optimizer, learning_rate=1e-3, warmup=100),
    loop=LoopSpec(steps=1000, batch_size=64, eval_every=250, checkpoint_every=250),
    tasks=("pneumoniamnist",),
)


def sized(width: int, heads: int) -> Experiment:
    """The same with another encoder."""
    encoder = dataclasses.replace(experiment.model.encoder, width=width, heads=heads)
    return dataclasses.replace(
        experiment, model=dataclasses.replace(experiment.model, encoder=encoder)
    )


variants = {
    "small": small,
    "base": sized(768, 12),
    "smoke": dataclasses.replace(
        small,
        model=PredictorSpec(
            dataclasses.replace(small.model.encoder, layers=2, width=32, heads=2), hidden=32
        ),
        objective=MoCoV3(first=PLAIN, second=PLAIN),
        optimizer=OptimizerSpec(warmup=2),
        loop=LoopSpec(steps=2, batch_size=8, log_every=1, checkpoint_every=2),
    ),
}
