"""Contrastive learning of radiology images and text by two towers (CLIP, CheXzero, BiomedCLIP).

    biofm train experiments/medical_imaging/clip_contrastive.py --workdir runs/clip
    biofm retrieve runs/clip
    biofm evaluate runs/clip --task vqa_rad_organ_unseen --method zero_shot_prompts probe

The loss, the shared space and the learned temperature are CLIP's (Radford et al. 2021,
arXiv:2103.00020), which PLIP (Huang et al. 2023, doi 10.1038/s41591-023-02504-3) took to pathology,
CheXzero (Tiu et al. 2022, doi 10.1038/s41551-022-00936-9) to chest X-rays and BiomedCLIP (Zhang et
al. 2023, arXiv:2303.00915) to figures of PubMed Central. They start from pretrained towers, this
from nothing, or with `--start models/biomedclip` from an import. It reads VQA-RAD (Lau et al. 2018,
doi 10.1038/sdata.2018.251, CC0): a question and its answer are a caption of the image, ten an
image. Captions of one image, and images with one caption, are no negatives of each other. One row
of the published file is not UTF-8, hence the tolerance. A fifth of the images is held out, whole
(`columns.group`), and none of the official test questions is read; all of their images are in
training questions, too. Captions are bytes; `--data.tokenizer-path FOLDER` takes a published
tokenizer (and `--model.second.vocabulary` its size).

The model is of a size for two cores, 600 steps in some ten minutes: the image of a held-out caption
is among the first ten of 63 with .249 (untrained .143), and the region of an unseen radiograph is
told without labels with .556 (.349; the commonest .270, pixels with labels .968). `base`
has ViT-B/16 and CLIP's text tower (86 and 38 million parameters) at 224 pixels, for data of that
size.
"""

import dataclasses

from biofm_jax.data.image_caption import ImageCaptionData
from biofm_jax.data.image_records import ImageColumns
from biofm_jax.data.notes import ByteTokenizer
from biofm_jax.experiment import Experiment
from biofm_jax.models.dual_encoder import DualEncoderSpec
from biofm_jax.models.heads import ProjectionHead
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.models.vision import VisionSpec
from biofm_jax.objectives.alignment import Alignment
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.optimizer import OptimizerSpec

text = ByteTokenizer().vocabulary


def towers(image: dict, words: dict, width: int) -> DualEncoderSpec:
    """Both towers with sizes of their own, and a space of that width; linear projections."""
    head = ProjectionHead(width, layers=1, bias=False)
    return DualEncoderSpec(
        first=VisionSpec(head=head, **image),
        second=TransformerSpec(
            vocabulary=text.size, special=text.special, activation="gelu", head=head, **words
        ),
    )


SMALL = {"layers": 3, "width": 128, "heads": 4}

experiment = Experiment(
    model=towers({"image": (96, 96), **SMALL}, SMALL, 128),
    data=ImageCaptionData(
        "$BIOFM_DATA/imaging/vqa_rad/qa.csv.gz",
        image=(96, 96),
        pair_tokens=96,
        columns=ImageColumns(caption="question+answer", group="image"),
        holdout=0.2,
        tolerance=0.001,
    ),
    objective=Alignment(),
    optimizer=OptimizerSpec(learning_rate=5e-4, warmup=50, weight_decay=0.1),
    loop=LoopSpec(steps=600, batch_size=64, eval_every=100, checkpoint_every=200),
    tasks=("vqa_rad_organ_unseen", "pneumoniamnist"),
)

variants = {
    "base": dataclasses.replace(
        experiment,
        model=towers(
            {"layers": 12, "width": 768, "heads": 12},
            {"layers": 12, "width": 512, "heads": 8},
            512,
        ),
        data=dataclasses.replace(experiment.data, image=(224, 224), pair_tokens=128),
        optimizer=OptimizerSpec(learning_rate=5e-4, warmup=500, weight_decay=0.2),
        loop=LoopSpec(steps=10000, batch_size=256, eval_every=500, checkpoint_every=500),
    ),
    "smoke": dataclasses.replace(
        experiment,
        model=towers(
            {"image": (32, 32), "layers": 1, "width": 32, "heads": 2},
            {"layers": 1, "width": 32, "heads": 2},
            16,
        ),
        data=dataclasses.replace(experiment.data, image=(32, 32), pair_tokens=64),
        optimizer=OptimizerSpec(warmup=2),
        loop=LoopSpec(steps=2, batch_size=8, log_every=1, checkpoint_every=2),
    ),
}
