"""Image-text learning where each pair is judged alone (SigLIP, MedSigLIP), on radiology images.

    biofm train experiments/medical_imaging/siglip_contrastive.py --workdir runs/siglip
    biofm retrieve runs/siglip
    biofm evaluate runs/siglip --task vqa_rad_organ_unseen --method zero_shot_prompts probe

The sigmoid loss with a learned temperature, which starts at 0.1, and a learned bias, which starts
at -10, and a query that pools the patches (Zhai et al. 2023, arXiv:2303.15343); MedSigLIP
(Sellergren et al. 2025, arXiv:2507.05201) goes on from such a model. The data are those of
clip_contrastive.py. With as many pairs the model starts at the same loss as CLIP's only in small
batches: the bias has to come down first, which the small variant's higher learning rate is for.
"""

import dataclasses
import runpy
from pathlib import Path

from biofm_jax.models.dual_encoder import SharedSpace
from biofm_jax.objectives.alignment import Alignment

clip = runpy.run_path(str(Path(__file__).with_name("clip_contrastive.py")))


def sigmoid(clip_like):
    """The same towers and data with SigLIP's loss, space and pooling."""
    first = dataclasses.replace(
        clip_like.model.first, pooling="attention", class_token=False, class_position=False
    )
    space = SharedSpace(temperature=0.1, bias=-10.0)
    return dataclasses.replace(
        clip_like,
        model=dataclasses.replace(clip_like.model, first=first, head=space),
        objective=Alignment("sigmoid"),
    )


experiment = sigmoid(clip["experiment"])

variants = {"smoke": sigmoid(clip["variants"]["smoke"])}
