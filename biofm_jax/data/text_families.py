"""How each family's published files become a `tokenizers.Tokenizer`."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from biofm_jax.data.special_tokens import SpecialTokens, read_json, read_text
from biofm_jax.data.text_tokenizer import TextTokenizer, finish
from biofm_jax.errors import UserError

BERT = {name: (f"[{name.upper()}]",) for name in ("unk", "sep", "pad", "cls", "mask")}
ROBERTA = {
    **{name: (f"<{name}>",) for name in ("unk", "pad", "mask")},
    **{name: ("<s>",) for name in ("bos", "cls")},
    **{name: ("</s>",) for name in ("eos", "sep")},
}
GPT2 = {name: ("<|endoftext|>",) for name in ("unk", "bos", "eos")}


def read_tokenizer_json(path: Path, specials: SpecialTokens) -> TextTokenizer:
    """A whole tokenizer in one file; truncation and padding set in it are switched off.

    Its own framing stands, whatever `add_bos_token` and `add_eos_token` of the configuration say,
    as in transformers 5.

    Raises:
        UserError: the file is no tokenizer.
    """
    read_json(path)
    try:
        backend = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain `Exception`
        raise UserError(f"{path}: no tokenizer ({error}); fetch the published file again") from None
    return finish(backend, specials)


def read_wordpiece(path: Path, specials: SpecialTokens) -> TextTokenizer:
    """BERT's WordPiece from `vocab.txt`, one token a line, id by line.

    `do_lower_case` (default: true), `strip_accents` (default: as `do_lower_case`) and
    `tokenize_chinese_chars` (default: true) are read from the configuration. Without one, a
    vocabulary that has no lower-case letter (ProtBERT, DNABERT) is read case-sensitively, since
    else every word were unknown.

    Raises:
        UserError: the file lacks the unknown token.
    """
    lines = read_text(path).split("\n")
    ids = {line: i for i, line in enumerate(lines if lines[-1] else lines[:-1])}
    unk = specials.name("unk", BERT["unk"], ids)
    if unk not in ids:
        raise UserError(f"{path}: no {unk or '[UNK]'} among its tokens; is it BERT's vocab.txt?")
    config = specials.config
    cased = not any(token.lower() == token and token.isalpha() for token in ids)
    backend = Tokenizer(models.WordPiece(ids, unk_token=unk))
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
        strip_accents=config.get("strip_accents"),
        lowercase=config.get("do_lower_case", not cased),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    made = finish(backend, specials, BERT)
    cls, sep = made.named.get("cls"), made.named.get("sep")
    if cls is None or sep is None:
        raise UserError(f"{path}: no [CLS] or [SEP] among its tokens; is it BERT's vocab.txt?")
    frame = [(token, backend.token_to_id(token)) for token in (cls, sep)]
    backend.post_processor = processors.TemplateProcessing([cls, "$A", sep], None, frame)
    return made


def read_byte_level_bpe(
    vocabulary: Path, merges: Path, specials: SpecialTokens, roberta: bool
) -> TextTokenizer:
    """Byte-level BPE from `vocab.json` and `merges.txt`.

    Args:
        vocabulary: token text to id.
        merges: pairs in order of rank.
        specials: roles; `add_prefix_space` of its configuration (default: false) is honoured.
        roberta: frame texts by <s> and </s>; GPT-2 frames none.

    Raises:
        UserError: the files do not fit each other.
    """
    ids = read_json(vocabulary)
    backend = Tokenizer(read_bpe(vocabulary, merges, ids, merge_pairs(merges)))
    space = bool(specials.config.get("add_prefix_space", False))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    backend.decoder = decoders.ByteLevel()
    made = finish(backend, specials, ROBERTA if roberta else GPT2)
    if roberta:
        cls, sep = made.named.get("cls"), made.named.get("sep")
        if cls is None or sep is None:
            raise UserError(f"{vocabulary}: {len(ids)} tokens without <s> and </s>; not RoBERTa's")
        ends = [(token, backend.token_to_id(token)) for token in (sep, cls)]
        backend.post_processor = processors.RobertaProcessing(*ends, True, space)
    else:
        add_frame(made, specials, bos=False, eos=False)
    return made


def merge_pairs(merges: Path) -> list[tuple[str, ...]]:
    """The pairs of `merges.txt`, in order of rank."""
    lines = read_text(merges).split("\n")
    return [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]


def add_frame(made: TextTokenizer, specials: SpecialTokens, bos: bool, eos: bool) -> None:
    """Put bos before and eos behind a text, where the configuration or else the default says so.

    Args:
        made: gets the frame.
        specials: `add_bos_token` and `add_eos_token` of its configuration.
        bos: the default for the one.
        eos: the default for the other.
    """
    config = specials.config
    before = made.named.get("bos") if config.get("add_bos_token", bos) else None
    after = made.named.get("eos") if config.get("add_eos_token", eos) else None
    frame = [(token, made.backend.token_to_id(token)) for token in (before, after) if token]
    single = [token for token in (before, "$A", after) if token]
    made.backend.post_processor = processors.TemplateProcessing(single, None, frame)


def read_bpe(
    vocabulary: Path,
    merges: Path,
    ids: dict,
    pairs: list[tuple[str, ...]],
    fuse_unk: bool = False,
    **options: Any,
) -> models.BPE:
    """A BPE model of what two files hold.

    Raises:
        UserError: a merge makes a token that the vocabulary lacks.
    """
    try:
        return models.BPE(ids, pairs, fuse_unk=fuse_unk, **options)
    except Exception as error:  # the library raises plain `Exception`
        raise UserError(
            f"{merges}: does not fit {vocabulary.name} ({error}); both belong to one model"
        ) from None
