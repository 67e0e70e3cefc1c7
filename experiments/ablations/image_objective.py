r"""Which objective for images? Four ways to pretrain one vision transformer on the same X-rays.

    biofm sweep experiments/ablations/image_objective.py \
        --over variant=masked,contrastive,distillation,supervised --match flops --seeds 3 \
        --task pneumoniamnist --method probe finetune --finetune.epochs 5 --finetune.rows 32 \
        --out runs/image_objective

Masked autoencoder, image-pair contrastive (SimCLR), self-distillation (DINOv2) and supervised from
scratch: the same 4-layer ViT of patches of 4 pixels, the same 3,882 chest X-rays of 28 x 28 pixels
and the same model FLOPs. A step on 64 images costs a masked autoencoder least, whose encoder sees a
quarter of the patches: it takes 1,500 steps, `supervised` 574, `contrastive` 287 and
`distillation`, with six crops and a teacher's two, 155. Then a linear probe on the mean of the
patches' states, and fine-tuning, on the official split. `supervised` sees labels as it pretrains,
the others none. The images are the official training images but for 826 normal ones: nine in ten
have pneumonia.

`biofm train experiments/ablations/image_objective.py:contrastive` runs one cell, without
`--match flops` of as many steps as the masked one.

Two cores, 70 minutes of CPU time. ROC-AUC by probe and fine-tuned, three seeds: masked .943 and
.956, contrastive .951 and .941, distillation .935 and .942, supervised .946 and .951; untrained
.936 and .943; logistic regression on texture .943, a small convolutional network .967. Read on in
experiments/README.md.
"""

import dataclasses

from biofm_jax.data.imaging import ImageData
from biofm_jax.data.labelled_images import LabelledImageData
from biofm_jax.experiment import Experiment
from biofm_jax.models.heads import PredictionHead, ProjectionHead
from biofm_jax.models.masked_autoencoder import MaskedAutoencoderSpec, PixelDecoder
from biofm_jax.models.prototypes import Prototypes, PrototypeSpec
from biofm_jax.models.vision import VisionSpec
from biofm_jax.objectives.distillation import COLOURS, SelfDistillation
from biofm_jax.objectives.image_views import ImageViews
from biofm_jax.objectives.reconstruction import MaskedAutoencoder
from biofm_jax.objectives.simclr import SimCLR
from biofm_jax.objectives.supervised import Supervised
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.optimizer import OptimizerSpec

encoder = VisionSpec(
    layers=4,
    width=96,
    heads=4,
    image=(28, 28),
    patch=(4, 4),
    channels=1,
    mean=(0.5,),
    deviation=(0.25,),
    grid_positions="sincos",
    pooling="mean",
)
images = dict(
    path="$BIOFM_DATA/imaging/pneumoniamnist/A_official_valtest_train3882.npz",
    image=(28, 28),
    channels=1,
    split="train",
    holdout=0.05,
)
# An X-ray is not flipped (the heart lies left), and half a pixel of blur is much of 28.
VIEWS = ImageViews(flips=(), area=(0.3, 1.0), sigma=(0.1, 0.5), **COLOURS)

experiment = Experiment(
    model=MaskedAutoencoderSpec(encoder, PixelDecoder(layers=2, width=48, heads=4)),
    data=ImageData(**images),
    objective=MaskedAutoencoder(rate=0.75),
    optimizer=OptimizerSpec(learning_rate=1e-3, warmup=100, weight_decay=0.05),
    loop=LoopSpec(steps=1500, batch_size=64, eval_every=500, checkpoint_every=500),
    tasks=("pneumoniamnist",),
)


def contrastive(base: Experiment) -> Experiment:
    """Two views of an image are a pair, the rest of the batch are negatives."""
    model = dataclasses.replace(base.model.encoder, head=ProjectionHead(width=64))
    return dataclasses.replace(base, model=model, objective=SimCLR(augment=VIEWS))


def distillation(base: Experiment) -> Experiment:
    """A student follows its own moving average; two large crops and four small ones."""
    model = PrototypeSpec(
        dataclasses.replace(base.model.encoder, mask_vector=True),
        Prototypes(count=512, hidden=192, bottleneck=64),
    )
    objective = SelfDistillation(
        momentum=0.98,
        local_crops=4,
        first=VIEWS,
        second=dataclasses.replace(VIEWS, blur=0.1, solarise=0.2),
        local=dataclasses.replace(VIEWS, size=(12, 12), area=(0.1, 0.3)),
    )
    return dataclasses.replace(base, model=model, objective=objective)


def supervised(base: Experiment) -> Experiment:
    """The labels themselves."""
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model.encoder, head=PredictionHead(outputs=2)),
        data=LabelledImageData(**images, classes=("0", "1")),
        objective=Supervised("softmax"),
    )


def smoke(base: Experiment) -> Experiment:
    """A shrunk run."""
    small = dataclasses.replace(base.model.encoder, layers=1, width=32, heads=2)
    return dataclasses.replace(
        base,
        model=MaskedAutoencoderSpec(small, PixelDecoder(layers=1, width=16, heads=2)),
        optimizer=OptimizerSpec(warmup=2),
        loop=LoopSpec(steps=2, batch_size=8, log_every=1, checkpoint_every=2),
    )


variants = {
    "masked": lambda base: base,
    "contrastive": contrastive,
    "distillation": distillation,
    "supervised": supervised,
    "smoke": smoke,
}
