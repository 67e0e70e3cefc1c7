"""Which tokens of a published tokenizer are special, from the files beside it."""

import dataclasses
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from biofm_jax.errors import UserError

CONFIG, MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
NAMES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
# What the published BERT, RoBERTa, GPT-2, T5, LLaMA and ESM vocabularies call each, for folders
# whose files name none.
USUAL = {
    "bos": ("<s>", "<bos>", "<|bos|>", "<|endoftext|>"),
    "eos": ("</s>", "<eos>", "<|eos|>", "<|endoftext|>"),
    "unk": ("<unk>", "[UNK]"),
    "sep": ("[SEP]",),
    "pad": ("<pad>", "[PAD]", "<|pad|>"),
    "cls": ("<cls>", "[CLS]"),
    "mask": ("<mask>", "[MASK]"),
}


@dataclasses.dataclass(frozen=True)
class Added:
    """A token that is found in the text before anything else.

    Attributes:
        text: how it is written.
        id: its id; -1 for the one it has in the vocabulary, or the next free one.
        options: of `tokenizers.AddedToken`: lstrip, rstrip, single_word, normalized, special.
    """

    text: str
    id: int
    options: dict[str, bool]


@dataclasses.dataclass(frozen=True)
class SpecialTokens:
    """What the files of a folder say about special tokens.

    Attributes:
        named: for "bos", "eos", "unk", "sep", "pad", "cls", "mask": the token, or None where a
            file says that there is none; a name that no file mentions is absent.
        added: tokens to be found in the text first, the named ones among them, in id order.
        config: all of `tokenizer_config.json`.
    """

    named: Mapping[str, str | None]
    added: tuple[Added, ...]
    config: Mapping[str, Any]

    def name(self, role: str, usual: Collection[str], vocabulary: Collection[str]) -> str | None:
        """The token of a role: as the files say, else the first usual one of the vocabulary.

        Args:
            role: "bos", "eos", "unk", "sep", "pad", "cls" or "mask".
            usual: what the family calls it.
            vocabulary: all tokens.
        """
        if role in self.named:
            return self.named[role]
        return next((token for token in usual if token in vocabulary), None)


def read_special_tokens(folder: Path) -> SpecialTokens:
    """Read `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`.

    They rank as in transformers 5: `added_tokens_decoder` of the configuration excludes the two
    other files; without it, the map overrides the configuration. All three may be absent.

    Raises:
        UserError: a file is no JSON object, or its tokens have another form.
    """
    try:
        return _read(folder)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{folder}: special tokens of an unknown form in {CONFIG}, {MAP} or {ADDED} "
            f"({type(error).__name__}: {error}); fetch the published files again"
        ) from None


def _read(folder: Path) -> SpecialTokens:
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    named = {name: config[f"{name}_token"] for name in NAMES if f"{name}_token" in config}
    extra = _extra(config)
    added: dict[str, Added] = {}
    if "added_tokens_decoder" in config:
        for number, value in sorted(config["added_tokens_decoder"].items(), key=_by_id):
            token = _added(value, int(number))
            added[token.text] = token
    else:
        listed = read_json(folder / MAP) if (folder / MAP).is_file() else {}
        named |= {name: listed[f"{name}_token"] for name in NAMES if f"{name}_token" in listed}
        extra += _extra(listed)
        ids = read_json(folder / ADDED) if (folder / ADDED).is_file() else {}
        special = {_text(value) for value in (*named.values(), *extra)}
        for text, number in sorted(ids.items(), key=lambda item: item[1]):
            options = {"special": text in special, "normalized": text not in special}
            added[text] = Added(text, number, options)
    for value in (*named.values(), *extra):
        if value is not None and _text(value) not in added:
            token = _added(value, -1)
            added[token.text] = dataclasses.replace(token, options=token.options | _SPECIAL)
    roles = {name: None if value is None else _text(value) for name, value in named.items()}
    return SpecialTokens(roles, tuple(added.values()), config)


_SPECIAL = {"special": True}


def _by_id(item: tuple[str, Any]) -> int:
    return int(item[0])


def _extra(config: Mapping[str, Any]) -> list[Any]:
    """Special tokens without a role."""
    found = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    return list(found.values() if isinstance(found, dict) else found)


def _text(value: Any) -> str | None:
    return value["content"] if isinstance(value, dict) else value


def _added(value: Any, number: int) -> Added:
    if not isinstance(value, dict):
        return Added(value, number, {"special": True, "normalized": False})
    known = ("lstrip", "rstrip", "single_word", "normalized", "special")
    return Added(value["content"], number, {key: value[key] for key in known if key in value})


def read_json(path: Path) -> dict:
    """A JSON object.

    Raises:
        UserError: the file is missing, or holds something else.
    """
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; copy the published file there") from None
    except ValueError as error:
        raise UserError(f"{path}: no JSON ({error}); fetch the published file again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds no JSON object; fetch the published file again")
    return value


def read_text(path: Path) -> str:
    """A UTF-8 text file, line ends as \\n.

    Raises:
        UserError: it is not UTF-8.
    """
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error}); fetch the published file again") from None
