"""Read `spiece.model` without sentencepiece or a generated parser.

The file is a protocol buffer; only the fields below are looked at, nothing is executed, and every
length is checked against what is there. Field numbers: sentencepiece's `sentencepiece_model.proto`
(Kudo and Richardson 2018).
"""

import dataclasses
import struct
from collections.abc import Iterator
from pathlib import Path

from biofm_jax.errors import UserError

PIECES, TRAINER, NORMALIZER = 1, 2, 3  # of ModelProto
UNIGRAM = 1  # of TrainerSpec.ModelType


@dataclasses.dataclass(frozen=True)
class SentencePieceModel:
    """What a tokenizer needs of the file.

    Attributes:
        pieces: (text, log-probability) by id.
        unknown: id of the unknown piece.
        unigram: the pieces are those of a unigram model, not of BPE.
        charsmap: precompiled normalisation; empty for none.
    """

    pieces: list[tuple[str, float]]
    unknown: int
    unigram: bool
    charsmap: bytes


def read_sentencepiece(path: Path) -> SentencePieceModel:
    """Pieces, scores and normalisation of a sentencepiece model.

    Raises:
        UserError: the file is cut short or no sentencepiece model.
    """
    data = path.read_bytes()
    pieces, unknown, kind, charsmap = [], 0, UNIGRAM, b""
    seen = set()
    try:
        for field, value in _fields(data):
            seen.add(field)
            if field == PIECES:
                piece = dict(_fields(value))
                score = struct.unpack("<f", piece.get(2, bytes(4)))[0]
                pieces.append((piece[1].decode(), score))
            elif field == TRAINER:
                trainer = dict(_fields(value))
                kind, unknown = trainer.get(3, UNIGRAM), trainer.get(40, 0)
            elif field == NORMALIZER:
                charsmap = dict(_fields(value)).get(2, b"")
    except (ValueError, LookupError, TypeError, AttributeError, struct.error):
        pieces = []
    if not pieces or not {TRAINER, NORMALIZER} <= seen:  # they follow the pieces
        raise UserError(f"{path}: no sentencepiece model, or cut short; fetch it again")
    return SentencePieceModel(pieces, unknown, kind == UNIGRAM, charsmap)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field number and value of each field: whole number, 4 or 8 raw bytes, or bytes."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        wire = key & 7
        if wire == 0:
            value, place = _varint(data, place)
            yield key >> 3, value
            continue
        if wire == 2:
            size, place = _varint(data, place)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError("unknown wire type")
        if place + size > len(data):
            raise ValueError("cut short")
        yield key >> 3, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A base-128 number, at most 64 bits, and the place behind it."""
    number = 0
    for shift in range(0, 70, 7):
        byte = data[place]  # past the end: IndexError, a LookupError
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
    raise ValueError("number too long")
