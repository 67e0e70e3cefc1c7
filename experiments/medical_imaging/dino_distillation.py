"""Self-distillation of medical images, as DINOv2: UNI, Virchow and Prov-GigaPath on pathology.

    biofm train experiments/medical_imaging/dino_distillation.py --data.path tiles/

ViT-S/16 at 224 pixels with two large crops and eight small ones of 96, 65,536 prototypes, hidden
patches, Sinkhorn-Knopp and KoLeo, as Oquab et al. 2023 (arXiv:2304.07193). The teacher is part of
the run's state: it lies on the devices as its student does, and a run that stopped goes on with it.
`large` has the size of UNI (ViT-L/16, Chen et al. 2024, doi 10.1038/s41591-024-02857-3), `huge`
that of Virchow (ViT-H/14, Vorontsov et al. 2024, doi 10.1038/s41591-024-03141-0), `giant` that of
Prov-GigaPath's tile encoder (ViT-g/16, Xu et al. 2024, doi 10.1038/s41586-024-07441-w). Hidden
patches are drawn one by one, not in blocks, and no layers are dropped at random.

`small` reads X-rays of 28 x 28 pixels as patches of 4, on two cores:

    biofm train experiments/medical_imaging/dino_distillation.py:small --workdir runs/dino

The metric `entropy` of the teacher's targets tells a collapse: it ends at 0, or at the logarithm
of the number of prototypes.
"""

import dataclasses

from biofm_jax.data.imaging import ImageData
from biofm_jax.experiment import Experiment
from biofm_jax.models.prototypes import Prototypes, PrototypeSpec
from biofm_jax.models.vision import VisionSpec
from biofm_jax.objectives.distillation import COLOURS, SelfDistillation
from biofm_jax.objectives.image_views import ImageViews
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.optimizer import OptimizerSpec

XRAYS = "$BIOFM_DATA/imaging/pneumoniamnist/A_official_valtest_train3882.npz"
# Of an X-ray of 28 x 28 pixels.
VIEWS = ImageViews(flips=(), area=(0.4, 1.0), sigma=(0.1, 0.5), **COLOURS)
PLAIN = ImageViews(jitter=0.0, grey=0.0, blur=0.0)  # quick to compile

experiment = Experiment(
    model=PrototypeSpec(encoder=VisionSpec(mask_vector=True, layer_scale=1e-5, remat="full")),
    data=ImageData(holdout=0.02),
    objective=SelfDistillation(warm_steps=10_000, momentum_steps=100_000),
    optimizer=OptimizerSpec(
        learning_rate=1e-3, warmup=10_000, final=0.0, b2=0.999, weight_decay=0.04, clip_norm=3.0
    ),
    loop=LoopSpec(steps=100_000, batch_size=1024, eval_every=2000, checkpoint_every=2000),
)

small = dataclasses.replace(
    experiment,
    model=PrototypeSpec(
        encoder=VisionSpec(
            layers=6,
            width=128,
            heads=4,
            image=(28, 28),
            patch=(4, 4),
            channels=1,
            mean=(0.5,),
            deviation=(0.25,),
            mask_vector=True,
        ),
        images=Prototypes(count=1024, hidden=256, bottleneck=64),
    ),
    data=ImageData(path=XRAYS, image=(28, 28), channels=1, holdout=0.05),
    objective=SelfDistillation(
        warm_steps=300,
        momentum_steps=1000,
        local_crops=4,
        first=VIEWS,
        second=dataclasses.replace(VIEWS, blur=0.1, solarise=0.2),
        local=dataclasses.replace(VIEWS, size=(12, 12), area=(0.1, 0.4)),
    ),
    optimizer=dataclasses.replace(experiment.optimizer, warmup=100),
    loop=LoopSpec(steps=1000, batch_size=64, eval_every=250, checkpoint_every=250),
    tasks=("pneumoniamnist",),
)


def sized(**changes) -> Experiment:
    """The same with another encoder, and with prototypes of patches of their own."""
    encoder = dataclasses.replace(experiment.model.encoder, **changes)
    model = PrototypeSpec(encoder, Prototypes(131_072), Prototypes(131_072))
    objective = experiment.objective
    if encoder.patch == (14, 14):
        local = dataclasses.replace(objective.local, size=(98, 98))
        objective = dataclasses.replace(objective, local=local)
    return dataclasses.replace(experiment, model=model, objective=objective)


SWIGLU = {"gated": True, "activation": "silu"}

variants = {
    "small": small,
    "large": sized(layers=24, width=1024, heads=16),
    "huge": sized(layers=32, width=1280, heads=16, feedforward=3416, patch=(14, 14), **SWIGLU),
    "giant": sized(layers=40, width=1536, heads=24, feedforward=4096, **SWIGLU),
    "smoke": dataclasses.replace(
        small,
        model=PrototypeSpec(
            dataclasses.replace(small.model.encoder, layers=2, width=32, heads=2),
            Prototypes(count=64, hidden=32, bottleneck=16),
        ),
        objective=SelfDistillation(
            local_crops=2,
            first=PLAIN,
            second=PLAIN,
            local=dataclasses.replace(PLAIN, size=(12, 12)),
        ),
        optimizer=OptimizerSpec(warmup=2),
        loop=LoopSpec(steps=2, batch_size=8, log_every=1, checkpoint_every=2),
    ),
}
