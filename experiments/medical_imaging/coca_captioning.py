"""Contrastive learning and captioning of radiology images in one model (CoCa, CONCH).

    biofm train experiments/medical_imaging/coca_captioning.py --workdir runs/coca
    biofm retrieve runs/coca
    biofm generate runs/coca captions.csv --temperature 0
    biofm evaluate runs/coca --task vqa_rad_organ_unseen --method zero_shot_prompts probe

Two towers, of which that of the text is causal, and a decoder that goes on from the text with cross
attention to a few vectors of the image (256 in the paper) and writes the text: CLIP's loss and
twice the next-token loss (Yu et al. 2022, arXiv:2205.01917, section 3.2). CONCH (Lu et al. 2024,
doi 10.1038/s41591-024-02856-4) is trained so on pathology. The data are those of
clip_contrastive.py: captions are questions with their answers, so the decoder learns to answer,
too; `caption_loss` is in nats a byte. `biofm generate` writes a caption of each held-out image and
compares it with the image's own (ROUGE-L), beside the commonest training caption and the captions
of the nearest training image in pixels; `--images scans/ --prompt "is this a ct?"` asks of others.
"""

import dataclasses
import runpy
from pathlib import Path

from biofm_jax.models.captioner import CaptionerSpec
from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.positions import NoPositions
from biofm_jax.objectives.captioning import ContrastiveCaptioning

clip = runpy.run_path(str(Path(__file__).with_name("clip_contrastive.py")))


def captioning(clip_like, queries: int):
    """The same towers and data with a decoder as deep as the text's tower."""
    towers = clip_like.model
    head = LanguageHead(transform=False, bias=False)
    second = dataclasses.replace(towers.second, causal=True, pooling="last")
    model = CaptionerSpec(
        dataclasses.replace(towers.first, pooling="attention"),
        second,
        towers.head,
        dataclasses.replace(second, positions=NoPositions(), head=head),
        queries,
    )
    return dataclasses.replace(clip_like, model=model, objective=ContrastiveCaptioning())


experiment = captioning(clip["experiment"], queries=16)

variants = {"smoke": captioning(clip["variants"]["smoke"], queries=4)}
