"""Find, load and copy the tokenizer files of a published model."""

import functools
import os
import shutil
from pathlib import Path

from biofm_jax.data.clip_tokenizer import START, read_clip
from biofm_jax.data.esm_tokenizer import read_esm_tokenizer
from biofm_jax.data.molformer_tokenizer import read_molformer
from biofm_jax.data.molgpt_tokenizer import read_molgpt
from biofm_jax.data.sentencepiece_text import read_pieces
from biofm_jax.data.siglip_tokenizer import read_siglip
from biofm_jax.data.special_tokens import (
    ADDED,
    CONFIG,
    MAP,
    read_json,
    read_special_tokens,
    read_text,
)
from biofm_jax.data.spellings import SpelledTokenizer, spelling_of
from biofm_jax.data.text_families import (
    read_byte_level_bpe,
    read_tokenizer_json,
    read_wordpiece,
)
from biofm_jax.data.tokenizers import Tokenizer
from biofm_jax.errors import UserError

WHOLE, WORDS, BPE = "tokenizer.json", "vocab.txt", ("vocab.json", "merges.txt")
PIECES, MODEL = ("spiece.model", "tokenizer.model"), "config.json"
STOI = ("moses2_stoi.json", "guacamol2_stoi.json")
MOLFORMER = "bert_vocab.txt"
# What belongs to a tokenizer; `config.json` belongs to the model, and is only looked at.
FILES = (WHOLE, WORDS, *BPE, *PIECES, *STOI, MOLFORMER, CONFIG, MAP, ADDED)


def load_tokenizer(folder: str | Path, family: str | None = None) -> Tokenizer:
    """The tokenizer of a folder with published files.

    Which algorithm: `tokenizer_class` of tokenizer_config.json or `model_type` of config.json
    where they name ESM, BioGPT, MoLFormer, CLIP, SigLIP or RoBERTa; then tokenizer.json, vocab.txt
    (ESM's if it has <cls>, else BERT's), vocab.json with merges.txt (CLIP's if it has
    <|startoftext|>, RoBERTa's if it has <s>, else GPT-2's), spiece.model or tokenizer.model (T5's
    unigram or LLaMA's BPE), one of MolGPT's two lists, MoLFormer's. The same unchanged folder gives
    the same object.

    Args:
        folder: holds the files.
        family: how sequences are written for it, a key of `spellings.SPELLINGS`; None looks at
            the vocabulary, "plain" takes text as it is.

    Raises:
        UserError: no such folder, a missing or damaged file, or an unknown family.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the one with the tokenizer's files")
    stamps = []
    for name in (*FILES, MODEL):
        if (folder / name).is_file():
            stat = os.stat(folder / name)
            stamps.append((name, stat.st_size, stat.st_mtime_ns))
    return _load(folder.resolve(), family, tuple(stamps))


@functools.lru_cache(maxsize=16)
def _load(folder: Path, family: str | None, stamps: tuple) -> Tokenizer:
    """`stamps` is there so that changed files are read again."""
    found = _read(folder, {name for name, *_ in stamps})
    family = family or spelling_of(found.vocabulary)
    return found if family == "plain" else SpelledTokenizer(found, family)


def _read(folder: Path, names: set[str]) -> Tokenizer:
    specials = read_special_tokens(folder)
    kind = str(specials.config.get("tokenizer_class") or "")
    model = str(read_json(folder / MODEL).get("model_type") or "") if MODEL in names else ""
    if kind.startswith("Esm") or (model == "esm" and WORDS in names) or _has_cls(folder, names):
        _need(folder, names, WORDS)
        return read_esm_tokenizer(folder / WORDS, specials)
    if kind.startswith("BioGpt") or model == "biogpt":
        from biofm_jax.data.biogpt_tokenizer import read_biogpt

        _need(folder, names, *BPE)
        return read_biogpt(folder / BPE[0], folder / BPE[1], specials)
    molformer = kind.startswith("Molformer") or model == "molformer"
    if WHOLE not in names and (molformer or MOLFORMER in names):
        _need(folder, names, listed := BPE[0] if BPE[0] in names else MOLFORMER)
        return read_molformer(folder / listed, specials)
    if WHOLE in names:
        return read_tokenizer_json(folder / WHOLE, specials)
    if WORDS in names:
        return read_wordpiece(folder / WORDS, specials)
    if names & set(BPE):
        _need(folder, names, *BPE)
        if kind.startswith("CLIP") or model == "clip" or START in read_json(folder / BPE[0]):
            return read_clip(folder / BPE[0], folder / BPE[1], specials)
        roberta = kind.startswith("Roberta") or model == "roberta"
        if not kind and not model:
            roberta = "<s>" in read_json(folder / BPE[0])
        return read_byte_level_bpe(folder / BPE[0], folder / BPE[1], specials, roberta)
    for name in PIECES:
        if name in names:
            if model == "siglip":  # config.json does not go with the tokenizer; this file does
                _need(folder, names, CONFIG)
            read = read_siglip if kind.startswith("Siglip") else read_pieces
            return read(folder / name, specials)
    if lists := [name for name in STOI if name in names]:
        if len(lists) > 1:
            raise UserError(f"{folder}: holds {' and '.join(lists)}; name a folder with one")
        return read_molgpt(folder / lists[0])
    raise UserError(
        f"{folder}: no tokenizer; copy {WHOLE}, or {WORDS}, or {' and '.join(BPE)}, or {PIECES[0]} "
        "of the published model there"
    )


def _has_cls(folder: Path, names: set[str]) -> bool:
    """The words are those of ESM or the Nucleotide Transformer."""
    if WHOLE in names or WORDS not in names:
        return False
    return "<cls>" in read_text(folder / WORDS).split()


def _need(folder: Path, names: set[str], *needed: str) -> None:
    for name in needed:
        if name not in names:
            raise UserError(f"{folder / name}: missing; copy the published file there")


def copy_tokenizer(source: str | Path, target: str | Path) -> tuple[str, ...]:
    """Copy the tokenizer files of a folder, byte for byte, into another.

    Args:
        source: as `load_tokenizer`.
        target: made if needed; files of the same names are replaced, each whole or not at all.

    Returns:
        The names copied, in the order of `FILES`.

    Raises:
        UserError: `source` holds no tokenizer that can be loaded.
    """
    load_tokenizer(source)
    source, target = Path(source), Path(target)
    target.mkdir(parents=True, exist_ok=True)
    names = tuple(name for name in FILES if (source / name).is_file())
    for name in names:
        temporary = target / f".{name}.{os.getpid()}.tmp"
        shutil.copyfile(source / name, temporary)
        os.replace(temporary, target / name)
    return names
