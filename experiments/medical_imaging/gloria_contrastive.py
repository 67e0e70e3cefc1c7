"""Contrastive learning of radiology images and text, of words with regions too (GLoRIA).

    biofm train experiments/medical_imaging/gloria_contrastive.py --workdir runs/gloria
    biofm retrieve runs/gloria
    biofm evaluate runs/gloria --task vqa_rad_organ_unseen --method zero_shot_prompts probe

Huang et al. 2021, doi 10.1109/ICCV48922.2021.00391: beside the loss of the whole, each word attends
to the regions of an image, and what it sees there is compared with it; the three factors and the
fixed temperature of 0.1 are the published code's. Regions are the patches of a vision transformer,
where the authors took a layer of a ResNet-50, and the text's tower is not pretrained. `biofm
retrieve` compares the vectors of the whole. The data are those of clip_contrastive.py.
"""

import dataclasses
import runpy
from pathlib import Path

from biofm_jax.models.dual_encoder import SharedSpace
from biofm_jax.models.local_towers import LocalTowersSpec
from biofm_jax.objectives.local_alignment import LocalAlignment

clip = runpy.run_path(str(Path(__file__).with_name("clip_contrastive.py")))


def local(clip_like):
    """The same towers and data with words that attend to regions."""
    towers = clip_like.model
    space = SharedSpace(temperature=0.1, learned=False)
    return dataclasses.replace(
        clip_like,
        model=LocalTowersSpec(towers.first, towers.second, space),
        objective=LocalAlignment(longest=32),
    )


experiment = local(clip["experiment"])

variants = {"smoke": local(clip["variants"]["smoke"])}
