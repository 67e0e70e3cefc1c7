"""CLIP's byte-level BPE, whose words end in `</w>` (Radford et al. 2021, arXiv:2103.00020)."""

from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors

from biofm_jax.data.special_tokens import SpecialTokens, read_json
from biofm_jax.data.text_families import merge_pairs, read_bpe
from biofm_jax.data.text_tokenizer import TextTokenizer, finish
from biofm_jax.errors import UserError

START, END = "<|startoftext|>", "<|endoftext|>"
CLIP = {"bos": (START,), "eos": (END,), "unk": (END,), "pad": (END,)}
END_OF_WORD = "</w>"
# A special token, an English ending, letters, one digit, or what is none of these.
WORD = (
    r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"""
)


def read_clip(vocabulary: Path, merges: Path, specials: SpecialTokens) -> TextTokenizer:
    """The tokenizer of `vocab.json` and `merges.txt`: small letters, between start and end.

    Raises:
        UserError: the files do not fit each other, or lack the tokens of start and end.
    """
    ids = read_json(vocabulary)
    lacking = [token for token in (START, END) if token not in ids]
    if lacking:
        raise UserError(
            f"{vocabulary}: {len(ids)} tokens without {' and '.join(lacking)}; not CLIP's"
        )
    options = {"unk_token": END, "continuing_subword_prefix": "", "end_of_word_suffix": END_OF_WORD}
    backend = Tokenizer(read_bpe(vocabulary, merges, ids, merge_pairs(merges), **options))
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.ByteLevel(),
            decoders.Replace(END_OF_WORD, " "),
            decoders.Strip(content=" ", right=1),
        ]
    )
    made = finish(backend, specials, CLIP)
    ends = [(made.named[role], backend.token_to_id(made.named[role])) for role in ("eos", "bos")]
    backend.post_processor = processors.RobertaProcessing(*ends, False, False)
    return made
