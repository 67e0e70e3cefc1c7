"""What `biofm generate` writes from: prompts, and sources or images behind which they stand."""

import collections
import dataclasses
import functools
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.prompts import read_prompts, read_sources
from biofm_jax.data.api import ExampleData
from biofm_jax.data.bad_records import BadRecords
from biofm_jax.data.readers import read_records
from biofm_jax.errors import UserError
from biofm_jax.generation_images import HeldOut, Repeated, captions_of, read_images
from biofm_jax.models.caption_writer import CaptionWriterSpec

log = logging.getLogger("biofm_jax")


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What sequences are made of.

    Attributes:
        names: of each prompt, source or image.
        prompts: ids of the beginning of each.
        sources: what an encoder reads of each: ids or an `ImageExample`; None: there is none.
        kind: "prompt", "source" or "image".
        longest: tokens of the longest source, or vectors that are read of an image.
        known: gives the texts that are not novel; None: those of the experiment's data.
        judge: {image: texts} -> how like their captions these are; None: they have none.
    """

    names: list[str]
    prompts: list[np.ndarray]
    sources: Sequence | None = None
    kind: str = "prompt"
    longest: int = 0
    known: Callable[[], Iterator[str]] | None = None
    judge: Callable[[dict[str, list[str]]], dict] | None = None

    @property
    def longest_name(self) -> str:
        """What `longest` is, for a table."""
        return "vectors_of_an_image" if self.kind == "image" else "longest_source"

    def times(self, copies: int) -> tuple[list[str], list[np.ndarray], Sequence | None]:
        """Names, prompts and sources, each so many times."""
        several = [Repeated(each, copies) for each in (self.names, self.prompts)]
        sources = None if self.sources is None else Repeated(self.sources, copies)
        return *map(list, several), sources

    def digest(self, copies: int) -> str:
        """16 hex digits of the sources, each so many times."""
        own = getattr(self.sources, "digest", None)  # of images, which are not read for it again
        return own or hash_of(Repeated(self.sources, copies))

    def scored(self, rows: list[dict]) -> dict:
        """How like the captions of their images the texts of rows are; empty without captions."""
        if self.judge is None:
            return {}
        written = collections.defaultdict(list)
        for row in rows:
            written[row["image"]].append(row["text"])
        return self.judge(written)


def hash_of(sequences: Sequence[np.ndarray]) -> str:
    """16 hex digits of ids."""
    return hashlib.sha256(b"|".join(each.tobytes() for each in sequences)).hexdigest()[:16]


def read_inputs(options: Any, encoder: Encoder, data: ExampleData) -> Inputs:
    """What the options name and the model needs.

    Args:
        options: of the command.
        encoder: the model as it writes.
        data: of its experiment.

    Raises:
        UserError: options that do not go together or with the model, or a bad prompt or source.
    """
    for name in ("prompt", "source"):
        if getattr(options, name) and getattr(options, f"{name}s"):
            raise UserError(f"give --{name} TEXT or --{name}s FILE, not both")
    sources = bool(options.source or options.sources)
    captions = isinstance(encoder.spec, CaptionWriterSpec)
    if options.images and not captions:
        raise UserError(
            f"{encoder.name} writes from no image; a model of coca_captioning.py does (CoCa)"
        )
    if sources and captions:
        raise UserError(f"{encoder.name} writes from images: give --images FOLDER, or nothing")
    if sources and not encoder.spec.reads_source:
        raise UserError(
            f"{encoder.name} has no encoder to read sources; how a sequence begins is "
            "told by --prompt TEXT or --prompts FILE"
        )
    if captions:
        return _images(options, encoder, data)
    if sources:
        return _sources(options, encoder)
    if encoder.spec.reads_source:
        raise UserError(
            f"{encoder.name} is an encoder-decoder, which writes from a source: give --source "
            "TEXT or --sources FILE"
        )
    names, texts = _named(encoder, "prompt", options.prompt or ("",), options.prompts)
    return Inputs(names, read_prompts(encoder, texts))


def _sources(options: Any, encoder: Encoder) -> Inputs:
    """Sources, and the one prompt as often."""
    prompt = _one_prompt(options, encoder, "source")
    names, texts = _named(encoder, "source", options.source, options.sources)
    sources = read_sources(encoder, texts)
    longest, trained = max(map(len, sources)), encoder.data.max_tokens
    if longest > trained:
        log.warning(
            f"a source has {longest} tokens; {encoder.name} was trained on rows of {trained}"
        )
    return Inputs(names, prompt * len(names), sources, "source", longest)


def _images(options: Any, encoder: Encoder, data: ExampleData) -> Inputs:
    """Images, and the one prompt as often."""
    prompt = _one_prompt(options, encoder, "image")
    if options.images:
        shown, judge = read_images(data, options.images), None
    else:
        held = HeldOut(data, encoder.name)
        shown, judge = held.shown, held.scored
    return Inputs(
        shown.names,
        prompt * len(shown),
        shown,
        "image",
        encoder.spec.captioner.queries,
        known=functools.partial(captions_of, data),
        judge=judge,
    )


def _one_prompt(options: Any, encoder: Encoder, kind: str) -> list[np.ndarray]:
    if options.prompts or len(options.prompt) > 1:
        raise UserError(
            f"what is written from each {kind} begins alike: give one --prompt, or none"
        )
    return read_prompts(encoder, options.prompt or ("",))


def _named(
    encoder: Encoder, kind: str, texts: tuple[str, ...], file: Path | None
) -> tuple[list[str], list[str]]:
    """Names and texts, of the command line or of a file's records."""
    if file is None:
        return [f"{kind}{number}" for number in range(1, len(texts) + 1)], list(texts)
    bad = BadRecords(str(file))
    records = list(read_records(file, encoder.data.kind, bad))
    bad.check(len(records), 0.0, None)
    if not records:
        raise UserError(f"{file} holds no {kind}s")
    return [record.id for record in records], [record.text for record in records]
