"""ESM C's tokenizer, which its authors publish as code instead of a file."""

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, processors

from biofm_jax.files import write_whole

# The order is that of the embedding's rows (EvolutionaryScale 2024, ESM Cambrian); it differs
# from ESM-2's by the chain break | in the place of <null_1>. The embedding has 64 rows.
LETTERS = "LAGVSERTIDPKQNFYMHWCXBUZO.-|"
TOKENS = ("<cls>", "<pad>", "<eos>", "<unk>", *LETTERS, "<mask>")
SPECIALS = ("<cls>", "<pad>", "<eos>", "<unk>", "|", "<mask>")


def write_esmc_tokenizer(folder: str | Path) -> None:
    """Write ESM C's tokenizer as `tokenizer.json` for `published_tokenizers.load_tokenizer`.

    One token a character between <cls> and <eos>; any other character, lower case and white space
    among them, is one <unk> each, unlike in ESM-2, whose <unk> is one per stretch.

    Args:
        folder: made if needed; a file of that name is replaced.
    """
    ids = {token: i for i, token in enumerate(TOKENS)}
    backend = Tokenizer(models.BPE(ids, [], unk_token="<unk>"))
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIALS])
    backend.decoder = decoders.Fuse()
    backend.post_processor = processors.TemplateProcessing(
        ["<cls>", "$A", "<eos>"], None, [("<cls>", ids["<cls>"]), ("<eos>", ids["<eos>"])]
    )
    write_whole(Path(folder) / "tokenizer.json", backend.to_str(pretty=True))
