"""Small CLIP, SigLIP and BiomedCLIP with random weights, written as they are published."""

import csv
import gzip
import json
from pathlib import Path

import torch
import transformers
from published_files import BERT_SPECIALS, write
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from biofm_jax.data.clip_tokenizer import WORD
from biofm_jax.parity.biomedclip import BiomedClip

SIZES = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2)
IMAGE = SIZES | dict(image_size=16, patch_size=8)
FAMILIES = ("clip", "siglip", "biomedclip")
SHORT = {"clip": 20, "siglip": 16, "biomedclip": 24}  # positions of the text towers


def captions(root: Path, count: int = 1500) -> list[str]:
    """Questions with their answers of VQA-RAD."""
    with gzip.open(
        root / "imaging/vqa_rad/qa.csv.gz", "rt", encoding="utf-8", errors="replace"
    ) as f:
        return [
            f"{row['question']} {row['answer']}" for row, _ in zip(csv.DictReader(f), range(count))
        ]


def clip_files(folder: Path, texts: list[str]) -> Path:
    """vocab.json and merges.txt of a BPE with ends of words, trained on texts."""
    backend = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    from tokenizers import Regex

    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    backend.model.save(str(folder))
    learned = json.loads((folder / "vocab.json").read_text())
    tokens = [*letters, *(f"{c}</w>" for c in letters)]
    tokens += [t for t in sorted(learned, key=learned.get) if t not in set(tokens)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return write(folder, vocab__json={token: i for i, token in enumerate(tokens)})


def siglip_files(folder: Path, texts: list[str]) -> Path:
    """spiece.model of unigram pieces, and the file that names its class."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(folder / "spiece"),
        model_type="unigram",
        vocab_size=400,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "spiece.vocab").unlink()
    return write(
        folder,
        tokenizer_config__json={
            "tokenizer_class": "SiglipTokenizer",
            "pad_token": "</s>",
            "do_lower_case": True,
        },
    )


def bert_files(folder: Path, texts: list[str]) -> Path:
    """vocab.txt of words and their pieces."""
    words = sorted({word for text in texts for word in text.lower().split() if word.isalpha()})
    letters = [chr(i) for i in range(33, 127) if not chr(i).isupper()]
    pieces = [*letters, *(f"##{letter}" for letter in letters), *words[:400]]
    vocabulary = [*BERT_SPECIALS, *dict.fromkeys(pieces)]
    return write(
        folder,
        vocab__txt="\n".join(vocabulary) + "\n",
        tokenizer_config__json={"tokenizer_class": "BertTokenizer", "do_lower_case": True},
    )


FILES = {"clip": clip_files, "siglip": siglip_files, "biomedclip": bert_files}
THEIRS = {"clip": "CLIPTokenizer", "siglip": "SiglipTokenizer", "biomedclip": "BertTokenizer"}


def published(folder: Path, family: str, texts: list[str]) -> tuple:
    """A folder as it is published; returns the model and the tokenizer that wrote it."""
    FILES[family](folder, texts)
    tokenizer = getattr(transformers, THEIRS[family]).from_pretrained(folder)
    words = SIZES | dict(vocab_size=len(tokenizer), max_position_embeddings=SHORT[family])
    torch.manual_seed(0)
    if family == "clip":
        ends = dict(bos_token_id=len(tokenizer) - 2, eos_token_id=len(tokenizer) - 1)
        config = transformers.CLIPConfig(
            vision_config=IMAGE, text_config=words | ends, projection_dim=12
        )
        model = transformers.CLIPModel(config)
    elif family == "siglip":
        model = transformers.SiglipModel(
            transformers.SiglipConfig(vision_config=IMAGE, text_config=words)
        )
    else:
        image = dict(
            timm_model_name="vit_base_patch16_224",
            timm_pool="",
            timm_proj="linear",
            image_size=16,
            timm_model_args=dict(patch_size=8, embed_dim=16, depth=1, num_heads=2),
        )
        text = dict(
            hf_model_config=words, hf_proj_type="mlp", hf_pooler_type="cls_last_hidden_state_pooler"
        )
        model = BiomedClip(dict(model_cfg=dict(embed_dim=12, vision_cfg=image, text_cfg=text)))
    model.eval().save_pretrained(folder)
    return model, tokenizer
