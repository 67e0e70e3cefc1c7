"""Masked autoencoder of medical images: three quarters of the patches are hidden and drawn (MAE).

    biofm train experiments/medical_imaging/mae_masked.py --data.path images/

ViT-B/16 at 224 pixels with a decoder of 8 blocks of width 512, 75 % hidden and the pixels of each
patch normalised, as He et al. 2022 (arXiv:2111.06377) and, on retinas, RETFound (Zhou et al. 2023,
doi 10.1038/s41586-023-06555-x: the variant `large`, ViT-L/16); learning rate 1.5e-4 for each 256
images of a batch, betas 0.9 and 0.95, weight decay 0.05. `--data.path` is a folder of PNG, JPEG,
TIFF, DICOM or NIfTI files, a table that names them, or an NPZ of MedMNIST's layout. The authors'
random crops are not drawn here: every image is seen whole.

`small` reads X-rays of 28 x 28 pixels as patches of 4, on two cores:

    biofm train experiments/medical_imaging/mae_masked.py:small --workdir runs/mae
    biofm evaluate runs/mae --task pneumoniamnist --method probe knn

in five minutes of one core; ROC-AUC .945 by a probe (untrained .941), .904 by nearest neighbours
(.811), where logistic regression on texture has .943 and a small convolutional network .967.

`small64` is for images of 64 x 64 pixels, as of the other sizes of MedMNIST+.
"""

import dataclasses

from biofm_jax.data.imaging import ImageData
from biofm_jax.experiment import Experiment
from biofm_jax.models.masked_autoencoder import MaskedAutoencoderSpec, PixelDecoder
from biofm_jax.models.vision import VisionSpec
from biofm_jax.objectives.reconstruction import MaskedAutoencoder
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.optimizer import OptimizerSpec

XRAYS = "$BIOFM_DATA/imaging/pneumoniamnist/A_official_valtest_train3882.npz"

experiment = Experiment(
    model=MaskedAutoencoderSpec(
        # No loss reaches the class token: features are the mean of the patches, as RETFound's.
        encoder=VisionSpec(
            width=768, heads=12, grid_positions="sincos", pooling="mean", remat="full"
        ),
        decoder=PixelDecoder(),
    ),
    data=ImageData(holdout=0.02),
    objective=MaskedAutoencoder(rate=0.75),
    optimizer=OptimizerSpec(
        learning_rate=1.5e-4, warmup=2000, final=0.0, b2=0.95, weight_decay=0.05, clip_norm=0.0
    ),
    loop=LoopSpec(steps=50_000, batch_size=256, eval_every=1000, checkpoint_every=1000),
)


def grey(image: int, patch: int) -> Experiment:
    """A run of a few minutes on small grey images."""
    encoder = VisionSpec(
        layers=6,
        width=128,
        heads=4,
        image=(image, image),
        patch=(patch, patch),
        channels=1,
        mean=(0.5,),
        deviation=(0.25,),
        grid_positions="sincos",
        pooling="mean",
    )
    return dataclasses.replace(
        experiment,
        model=MaskedAutoencoderSpec(encoder, PixelDecoder(layers=2, width=64, heads=4)),
        data=ImageData(path=XRAYS, image=(image, image), channels=1, holdout=0.05),
        optimizer=dataclasses.replace(experiment.optimizer, learning_rate=1e-3, warmup=100),
        loop=LoopSpec(steps=1500, batch_size=64, eval_every=500, checkpoint_every=500),
        tasks=("pneumoniamnist",),
    )


small = grey(28, 4)

variants = {
    "small": small,
    "small64": grey(64, 8),
    "base": experiment,
    "large": dataclasses.replace(
        experiment,
        model=dataclasses.replace(
            experiment.model,
            encoder=dataclasses.replace(experiment.model.encoder, layers=24, width=1024, heads=16),
        ),
    ),
    "smoke": dataclasses.replace(
        small,
        model=MaskedAutoencoderSpec(
            dataclasses.replace(small.model.encoder, layers=2, width=32, heads=2),
            PixelDecoder(layers=1, width=16, heads=2),
        ),
        optimizer=OptimizerSpec(warmup=2),
        loop=LoopSpec(steps=2, batch_size=8, log_every=1, checkpoint_every=2),
    ),
}
