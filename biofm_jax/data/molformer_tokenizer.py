"""MoLFormer's tokens of SMILES, where its list of tokens comes without a whole tokenizer.

Source: Ross et al. 2022, doi 10.1038/s42256-022-00580-7; `vocab.json` of the published model and
`bert_vocab.txt` of the authors' repository (github.com/IBM/molformer), which lack the other's file
format and have the same tokens: bracket atoms, two-letter elements and ring closures of two digits
are one token each (the expression of Schwaller et al. 2019, doi 10.1021/acscentsci.9b00576).
"""

from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from biofm_jax.data.special_tokens import SpecialTokens, read_json, read_text
from biofm_jax.data.text_tokenizer import TextTokenizer, finish
from biofm_jax.errors import UserError

ROLES = {
    "bos": ("<bos>",),
    "cls": ("<bos>",),
    "eos": ("<eos>",),
    "sep": ("<eos>",),
    "pad": ("<pad>",),
    "mask": ("<mask>",),
    "unk": ("<unk>", "<pad>"),  # the authors' own list has none: the unknown is padding there
}
TOKEN = r"\[[^\]]+\]|%\d\d|Br|Cl|[BCNOSPFIbcnosp]|[-.=#+\\/:~@?>*$()0-9]"


def read_molformer(path: Path, specials: SpecialTokens) -> TextTokenizer:
    """The tokenizer of a list: `vocab.json`, ids by token, or a text with one token a line.

    What is no token of SMILES, or none of the list, is <unk>. A molecule stands between <bos> and
    <eos>.

    Args:
        path: of the list.
        specials: what the files beside it say.

    Raises:
        UserError: the ids are no numbers from 0 on, or one of the special tokens is missing.
    """
    if path.suffix == ".json":
        ids = read_json(path)
    else:
        lines = read_text(path).split("\n")
        ids = {line: i for i, line in enumerate(lines if lines[-1] else lines[:-1])}
    if sorted(map(str, ids.values())) != sorted(map(str, range(len(ids)))):
        raise UserError(f"{path}: its ids are not 0 to {len(ids) - 1}; fetch the published file")
    named = {role: specials.name(role, usual, ids) for role, usual in ROLES.items()}
    missing = [ROLES[role][0] for role, token in named.items() if token not in ids]
    if missing:
        raise UserError(f"{path}: no {' and '.join(dict.fromkeys(missing))} among its tokens")
    backend = Tokenizer(models.WordLevel(ids, named["unk"]))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(TOKEN), behavior="isolated")
    backend.decoder = decoders.Fuse()
    made = finish(backend, specials, ROLES)
    frame = [(named[role], ids[named[role]]) for role in ("bos", "eos")]
    backend.post_processor = processors.TemplateProcessing(
        [named["bos"], "$A", named["eos"]], None, frame
    )
    return made
