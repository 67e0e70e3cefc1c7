"""A captioner as the writer of its captions."""

import dataclasses

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.data.notes import NotesData
from biofm_jax.models.caption_writer import CaptionWriterSpec


def caption_writer(encoder: Encoder) -> Encoder:
    """The same model, whose texts are captions; `adapt.generate` gives it images as sources.

    Args:
        encoder: a `CaptionerSpec` with its `ImageCaptionData`.
    """
    data = encoder.data
    notes = NotesData(
        max_tokens=data.pair_tokens,
        tokenizer_path=data.tokenizer_path,
        tokenizer_family=data.tokenizer_family,
    )
    return dataclasses.replace(encoder, spec=CaptionWriterSpec(encoder.spec), data=notes)
