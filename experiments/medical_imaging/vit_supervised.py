"""Supervised from scratch: a vision transformer learns the labels of images and nothing else.

    biofm train experiments/medical_imaging/vit_supervised.py --data.path labels.csv \\
        --data.classes benign malignant --model.head.outputs 2

ViT-S/16 at 224 pixels with DeiT's optimizer (Touvron et al. 2021, arXiv:2012.12877, table 9), and
without its augmentation: what images teach by their labels alone, beside what pretraining adds.
On a task the same network is trained from its random start by fine-tuning:

    biofm evaluate random:experiments/medical_imaging/vit_supervised.py:small \\
        --task pneumoniamnist ebhi_grade vqa_rad_organ --method finetune probe knn

`small` reads X-rays of 28 x 28 pixels as patches of 4, on two cores:

    biofm train experiments/medical_imaging/vit_supervised.py:small --workdir runs/vit_supervised

`tiles` reads colour at 64 pixels as patches of 8, the size of the small network's in the floors.
"""

import dataclasses

from biofm_jax.data.labelled_images import LabelledImageData
from biofm_jax.experiment import Experiment
from biofm_jax.models.heads import PredictionHead
from biofm_jax.models.vision import VisionSpec
from biofm_jax.objectives.supervised import Supervised
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.optimizer import OptimizerSpec

XRAYS = "$BIOFM_DATA/imaging/pneumoniamnist/A_official_valtest_train3882.npz"
TILES = "$BIOFM_DATA/imaging/ebhi_colorectal/labels.csv"
GRADES = ("Normal", "Polyp", "Low-grade_IN", "High-grade_IN", "Adenocarcinoma",
          "Serrated_adenoma")  # fmt: skip

experiment = Experiment(
    model=VisionSpec(head=PredictionHead(2), remat="full"),
    data=LabelledImageData(holdout=0.05, classes=("0", "1")),
    objective=Supervised("softmax"),
    optimizer=OptimizerSpec(learning_rate=1e-3, warmup=1000, weight_decay=0.05),
    loop=LoopSpec(steps=20_000, batch_size=1024, eval_every=500, checkpoint_every=1000),
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
        head=PredictionHead(2),
    ),
    data=LabelledImageData(
        path=XRAYS, image=(28, 28), channels=1, split="train", holdout=0.1, classes=("0", "1")
    ),
    optimizer=dataclasses.replace(experiment.optimizer, warmup=100),
    loop=LoopSpec(steps=1000, batch_size=64, eval_every=100, checkpoint_every=250),
    tasks=("pneumoniamnist", "pneumoniamnist_accuracy"),
)

tiles = dataclasses.replace(
    small,
    model=VisionSpec(
        layers=6, width=128, heads=4, image=(64, 64), patch=(8, 8), head=PredictionHead(6)
    ),
    data=LabelledImageData(path=TILES, image=(64, 64), holdout=0.2, classes=GRADES),
    tasks=("ebhi_grade", "retina_hrf", "vqa_rad_organ"),
)

variants = {
    "small": small,
    "tiles": tiles,
    "smoke": dataclasses.replace(
        small,
        model=dataclasses.replace(small.model, layers=2, width=32, heads=2),
        optimizer=OptimizerSpec(warmup=2),
        loop=LoopSpec(steps=2, batch_size=8, log_every=1, checkpoint_every=2),
    ),
}
