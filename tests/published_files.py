"""Small generated folders in the layouts of published tokenizers, and texts to try them on."""

import itertools
import json
import random
import struct
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

ESM2 = [*["<cls>", "<pad>", "<eos>", "<unk>"], *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>"]
PROTT5 = [("<pad>", 0.0, 3), ("</s>", 0.0, 3), ("<unk>", 0.0, 2)]
PROTT5 += [(f"▁{letter}", -2.0 - i / 8, 1) for i, letter in enumerate("ALGVSREDTIPKFQNYMHWCXBOUZ")]
NT_HEAD = ["<unk>", "<pad>", "<mask>", "<cls>"]
PROTBERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"LAGVESIKRDTPNQFYMHCWXUBZO"]
BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXT = """
the patient was given 5 mg of aspirin daily denies chest pain, résumé naïve; fever (38.5 °C)
Hypertension diabetes mellitus TYPE-2 COVID-19 IL-6 TNF-alpha β-blocker 心臓 ﬁbrosis Ångström
"""
WORDS = TEXT.split()
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>"]
MASK = {"content": "<mask>", "lstrip": True, "rstrip": False, "normalized": False}


def write(folder: Path, **files: str | bytes | dict) -> Path:
    """Write files whose names are given with `__` for the dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if isinstance(content, dict):
            content = json.dumps(content, ensure_ascii=False)
        if isinstance(content, str):
            content = content.encode()
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


def kmers(k: int) -> list[str]:
    """All k-mers in the order of the published vocabularies: A, T, C, G."""
    return ["".join(letters) for letters in itertools.product("ATCG", repeat=k)]


def nucleotide_transformer(version: int) -> list[str]:
    """The 4105 tokens of version 1, or the 4107 of version 2."""
    return NT_HEAD + kmers(6) + list("ATCGN") + ["<eos>", "<bos>"] * (version == 2)


def sentencepiece(pieces: list[tuple[str, float, int]], unknown: int, kind: int = 1) -> bytes:
    """A sentencepiece model: (piece, score, type), id of the unknown piece, model type."""

    def number(value: int) -> bytes:
        out = b""
        while value > 127:
            out += bytes([value & 127 | 128])
            value >>= 7
        return out + bytes([value])

    def field(key: int, content: bytes) -> bytes:
        return number(key << 3 | 2) + number(len(content)) + content

    body = b""
    for text, score, sort in pieces:
        inner = field(1, text.encode()) + number(2 << 3 | 5) + struct.pack("<f", score)
        body += field(1, inner + number(3 << 3) + number(sort))
    trainer = number(3 << 3) + number(kind) + number(40 << 3) + number(unknown)
    return body + field(2, trainer) + field(3, field(1, b"identity"))


def letters(alphabet: str, count: int, longest: int, seed: int = 0) -> list[str]:
    """Random texts over an alphabet, the empty one among them."""
    draw = random.Random(seed)
    return [
        "",
        *("".join(draw.choices(alphabet, k=draw.randint(1, longest))) for _ in range(count)),
    ]


def prose(count: int, seed: int = 0) -> list[str]:
    """Random clinical-looking texts with accents, punctuation, controls, CJK and emoji."""
    draw = random.Random(seed)
    odd = [
        " ",
        "  ",
        "\n",
        "\t",
        "\u00a0",
        "\u200b",
        "\x00",
        "😀",
        "e\u0301",
        "．",
        "--",
        "'s",
        "İ",
    ]
    texts = []
    for _ in range(count):
        parts = [draw.choice(WORDS) for _ in range(draw.randint(0, 12))]
        parts = [part.upper() if draw.random() < 0.1 else part for part in parts]
        text = " ".join(parts)
        for _ in range(draw.randint(0, 3)):
            at = draw.randint(0, len(text))
            text = text[:at] + draw.choice(odd) + text[at:]
        texts.append(text)
    return ["", " ", *texts]


def with_specials(vocabulary: dict, front: list[str], back: list[str]) -> dict:
    tokens = [*front, *sorted(vocabulary, key=vocabulary.get), *back]
    return {token: i for i, token in enumerate(tokens)}


def byte_level_bpe(folder: Path) -> tuple[dict, bytes]:
    """vocab.json and merges.txt of a byte-level BPE trained on the words, without specials."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=380, initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator([" ".join(WORDS)] * 3, trainer)
    trained.model.save(str(folder))
    return json.loads((folder / "vocab.json").read_text()), (folder / "merges.txt").read_bytes()
