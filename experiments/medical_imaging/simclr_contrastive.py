"""Contrastive learning of medical images: two random views of one image are a pair (SimCLR).

    biofm train experiments/medical_imaging/simclr_contrastive.py --data.path images/

ViT-S/16 at 224 pixels, a projection of two layers, temperature 0.1 and views as in Chen et al. 2020
(arXiv:2002.05709): crops of 8 to 100 % of the area, flips, colours, blur. Both views of all other
images of the global batch are the negatives; `--loop.accumulate 8` keeps them all (in two passes).
AdamW in the place of LARS. Left and right differ on an X-ray: `small` does not flip.

`small` reads X-rays of 28 x 28 pixels as patches of 4, on two cores:

    biofm train experiments/medical_imaging/simclr_contrastive.py:small --workdir runs/simclr
"""

import dataclasses

from biofm_jax.data.imaging import ImageData
from biofm_jax.experiment import Experiment
from biofm_jax.models.heads import ProjectionHead
from biofm_jax.models.vision import VisionSpec
from biofm_jax.objectives.image_views import ImageViews
from biofm_jax.objectives.simclr import SimCLR
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.optimizer import OptimizerSpec

XRAYS = "$BIOFM_DATA/imaging/pneumoniamnist/A_official_valtest_train3882.npz"

experiment = Experiment(
    model=VisionSpec(head=ProjectionHead(width=128), remat="full"),
    data=ImageData(holdout=0.02),
    objective=SimCLR(temperature=0.1),
    optimizer=OptimizerSpec(learning_rate=1e-3, warmup=1000, final=0.0, weight_decay=0.05),
    loop=LoopSpec(steps=20_000, batch_size=1024, eval_every=1000, checkpoint_every=1000),
)

small = dataclasses.replace(
    experiment,
    model=VisionSpec(
        layers=6,
        width=128,
        heads=4,
        image=(28, 28),
        patch=(4, 4),
        channels=1,
        mean=(0.5,),
        deviation=(0.25,),
        head=ProjectionHead(width=64),
    ),
    data=ImageData(path=XRAYS, image=(28, 28), channels=1, holdout=0.05),
    # A blur of up to two pixels is for large pictures; half a pixel is as much of these.
    objective=SimCLR(augment=ImageViews(flips=(), area=(0.3, 1.0), sigma=(0.1, 0.5))),
    optimizer=dataclasses.replace(experiment.optimizer, warmup=100),
    loop=LoopSpec(steps=1000, batch_size=64, eval_every=250, checkpoint_every=250),
    tasks=("pneumoniamnist",),
)

variants = {
    "small": small,
    "base": dataclasses.replace(
        experiment, model=dataclasses.replace(experiment.model, width=768, heads=12)
    ),
    "smoke": dataclasses.replace(
        small,
        model=dataclasses.replace(small.model, layers=2, width=32, heads=2),
        objective=SimCLR(augment=ImageViews(jitter=0.0, grey=0.0, blur=0.0)),
        optimizer=OptimizerSpec(warmup=2),
        loop=LoopSpec(steps=2, batch_size=8, log_every=1, checkpoint_every=2),
    ),
}
