"""Tokenizers of sentencepiece files: T5's unigram pieces and LLaMA's BPE."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from biofm_jax.data.sentencepiece_model import SentencePieceModel, read_sentencepiece
from biofm_jax.data.special_tokens import USUAL, SpecialTokens
from biofm_jax.data.text_families import add_frame, read_bpe
from biofm_jax.data.text_tokenizer import TextTokenizer, finish
from biofm_jax.errors import UserError

LLAMA = {"bos": ("<s>",), "eos": ("</s>",), "unk": ("<unk>",)}


def read_pieces(path: Path, specials: SpecialTokens) -> TextTokenizer:
    """The tokenizer of `spiece.model` or `tokenizer.model`: what its training says it is.

    Raises:
        UserError: the file is damaged, or lacks the end-of-text token.
    """
    model = read_sentencepiece(path)
    if not 0 <= model.unknown < len(model.pieces):
        raise UserError(f"{path}: no piece has the unknown id {model.unknown}; fetch it again")
    made = unigram(path, model, specials) if model.unigram else bpe(path, model, specials)
    if made is None:
        raise UserError(f"{path}: no </s> among its pieces; is it T5's or LLaMA's?")
    return made


def unigram(path: Path, model: SentencePieceModel, specials: SpecialTokens) -> TextTokenizer | None:
    """T5's Unigram: ProtT5, SciFive. White space separates, </s> ends a text.

    Behind the pieces stand `extra_ids` (default: 100) sentinels <extra_id_N>, the last number
    first. None if there is no </s>.
    """
    extra_ids = int(specials.config.get("extra_ids", 100))
    sentinels = [f"<extra_id_{i}>" for i in range(extra_ids - 1, -1, -1)]
    scored = model.pieces + [(token, 0.0) for token in sentinels]
    backend = Tokenizer(models.Unigram(scored, unk_id=model.unknown, byte_fallback=False))
    if model.charsmap:
        try:
            backend.normalizer = normalizers.Precompiled(model.charsmap)
        except Exception as error:  # the library raises plain `Exception`
            raise UserError(f"{path}: damaged normalisation ({error}); fetch it again") from None
    metaspace: Mapping[str, Any] = {"replacement": "▁", "prepend_scheme": "always", "split": True}
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**metaspace)]
    )
    backend.decoder = decoders.Metaspace(**metaspace)
    backend.add_special_tokens(sentinels)
    made = finish(backend, specials, {name: USUAL[name] for name in ("eos", "unk", "pad")})
    eos = made.named.get("eos")
    if eos is None:
        return None
    backend.post_processor = processors.TemplateProcessing(
        ["$A", eos], None, [(eos, backend.token_to_id(eos))]
    )
    return made


def bpe(path: Path, model: SentencePieceModel, specials: SpecialTokens) -> TextTokenizer | None:
    """LLaMA's BPE: spaces are ▁, one is put before a text, unknown characters become bytes.

    A piece is merged from any two pieces that spell it, the piece of the lowest id first: in
    sentencepiece, ids of BPE pieces are in order of their scores. `add_bos_token` (default: true)
    and `add_eos_token` (default: false) of the configuration frame a text. None if there is no
    </s>.
    """
    ids = {piece: i for i, (piece, _) in enumerate(model.pieces)}
    ranked = []
    for piece, i in ids.items():
        pairs = [(piece[:at], piece[at:]) for at in range(1, len(piece))]
        ranked += [(i, len(a), (a, b)) for a, b in pairs if a in ids and b in ids]
    merges = [pair for _, _, pair in sorted(ranked)]
    options = {"unk_token": model.pieces[model.unknown][0], "byte_fallback": "<0x00>" in ids}
    backend = Tokenizer(read_bpe(path, path, ids, merges, fuse_unk=True, **options))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1),
        ]
    )
    made = finish(backend, specials, LLAMA)
    if "eos" not in made.named:
        return None
    add_frame(made, specials, bos=True, eos=False)
    return made
