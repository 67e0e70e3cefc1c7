"""What generation starts from and ends at: texts as ids of prompts and sources, stop tokens."""

import re
from collections.abc import Sequence

import numpy as np

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.sampling import Sampling
from biofm_jax.data.tokenizers import Tokenizer, Vocabulary
from biofm_jax.errors import UserError
from biofm_jax.models.encoder_decoder import EncoderDecoderSpec


def read_prompts(encoder: Encoder, texts: Sequence[str]) -> list[np.ndarray]:
    """Ids of the beginnings of sequences: with what is put before a text, without what is behind.

    A beginning need be no valid text of its modality (half a SMILES is none), so it is not
    cleaned, only read. A decoder beside an encoder whose tokenizer puts nothing before a text
    begins at the padding token, as T5 does (Raffel et al. 2020).

    Raises:
        UserError: a text that the tokenizer cannot read, or an empty one where nothing is put
            before a text to begin with.
    """
    tokenizer = encoder.data.tokenizer()
    vocabulary, behind = tokenizer.vocabulary, len(_ending(tokenizer))
    start = []
    if isinstance(encoder.spec, EncoderDecoderSpec) and vocabulary.cls < 0:
        start = [vocabulary.pad]
    prompts = []
    for number, text in enumerate(texts, 1):
        # A tokenizer of conditions would compute those that a beginning leaves open.
        tokens = tokenizer.encode(getattr(tokenizer, "beginning", str)(text))
        tokens = np.concatenate([start, tokens[: len(tokens) - behind]]).astype(np.int32)
        if not len(tokens):
            raise UserError(
                f"prompt {number} is empty, and the vocabulary of {encoder.name} has no cls token "
                "to begin with; give at least one token"
            )
        _demand_known(encoder, vocabulary, tokens, f"prompt {number}", text)
        prompts.append(tokens)
    return prompts


def read_sources(encoder: Encoder, texts: Sequence[str]) -> list[np.ndarray]:
    """Ids that the encoder of an encoder-decoder reads, framed as in training.

    A text is cleaned as in training. One that names special tokens, such as <mask> or
    <extra_id_0> for what is hidden, is read as it is, around them.

    Raises:
        UserError: a text that the modality cannot read, or with no token in it; letters around
            special tokens that the tokenizer does not know.
    """
    tokenizer = encoder.data.tokenizer()
    vocabulary, ending = tokenizer.vocabulary, _ending(tokenizer)
    framing = {vocabulary.cls, vocabulary.pad, vocabulary.eos, *ending}
    marks = {vocabulary.tokens[i]: i for i in vocabulary.special
             if i not in framing | {vocabulary.unk}}  # fmt: skip
    pattern = "|".join(re.escape(mark) for mark in sorted(marks, key=len, reverse=True))
    sources = []
    for number, text in enumerate(texts, 1):
        parts = re.split(f"({pattern})", text) if pattern else [text]
        if len(parts) == 1:
            (source,) = encoder.tokenize([text])
        else:
            ids = [[vocabulary.cls] * (vocabulary.cls >= 0)]
            for part in parts:
                if part in marks:
                    ids.append([marks[part]])
                elif part.strip():
                    bare = tokenizer.encode(part)
                    ids.append(bare[int(vocabulary.cls >= 0) : len(bare) - len(ending)])
            source = np.concatenate([*ids, ending]).astype(np.int32)
            _demand_known(encoder, vocabulary, source, f"source {number}", text)
        if not set(source.tolist()) - framing:
            raise UserError(f"source {number}, {text[:60]!r}, is empty; give at least one token")
        sources.append(source)
    return sources


def _demand_known(
    encoder: Encoder, vocabulary: Vocabulary, tokens: np.ndarray, what: str, text: str
) -> None:
    if vocabulary.unk >= 0 and (tokens == vocabulary.unk).any():
        at = int(np.argmax(tokens == vocabulary.unk))
        raise UserError(
            f"{what}, {text[:60]!r}: token {at} is unknown to the tokenizer of "
            f"{encoder.name} ({encoder.data.kind}); correct it"
        )


def _ending(tokenizer: Tokenizer) -> list[int]:
    """Ids that the tokenizer puts behind every text: eos, ProGen2's "2", or nothing (GPT-2)."""
    one, other = (tokenizer.encode(letter * 8).tolist() for letter in "CN")
    behind = 0
    while behind < min(len(one), len(other)) and one[-1 - behind] == other[-1 - behind]:
        behind += 1
    return one[len(one) - behind :]


def rules(encoder: Encoder, stop: Sequence[str] = (), **options) -> Sampling:
    """`Sampling` for a model's vocabulary: ends at eos, chooses no other special token.

    What the tokenizer puts behind every text ends one as eos does.

    Args:
        encoder: the model.
        stop: texts of further tokens that end a sequence.
        **options: fields of `Sampling`.

    Raises:
        UserError: no such token, or a field out of its range.
    """
    tokenizer = encoder.data.tokenizer()
    vocabulary = tokenizer.vocabulary
    ids = {token: number for number, token in enumerate(vocabulary.tokens)}
    if unknown := [token for token in stop if token not in ids]:
        raise UserError(
            f"stop {unknown[0]!r} is not one token of {encoder.name}; its tokens are "
            f"{' '.join(vocabulary.tokens[i] for i in vocabulary.regular[:30])} ..."
        )
    ends = {vocabulary.eos, *_ending(tokenizer)[:1]} - {-1} | {ids[token] for token in stop}
    banned = set(vocabulary.special) - ends
    return Sampling(stop=tuple(sorted(ends)), banned=tuple(sorted(banned)), **options)
