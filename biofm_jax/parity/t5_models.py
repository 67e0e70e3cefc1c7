"""Small T5 models: two head widths, tied and untied, and an encoder alone."""

from collections.abc import Callable
from typing import Any

from biofm_jax.parity.references import PAD, VOCABULARY, Reference, randomised
from biofm_jax.zoo.t5 import T5, T5_ENCODER

# Heads, their width and that of the stream: as in ProtT5 the heads together are wider than it.
SMALL = dict(num_heads=4, d_kv=16, d_model=48)
WIDE = dict(num_heads=2, d_kv=24, d_model=56)
SHARED = dict(
    vocab_size=VOCABULARY,
    pad_token_id=PAD,
    eos_token_id=2,
    decoder_start_token_id=PAD,
    d_ff=88,
    num_layers=3,
    dropout_rate=0.0,
    # Rows are longer than the distance up to which each has a bucket, and than the last one.
    relative_attention_num_buckets=16,
    relative_attention_max_distance=24,
)


def _build(model: str, tied: bool = True, **options) -> Callable[[], Any]:
    def build():
        import torch
        import transformers

        # The configuration is told that weights are tied by the word alone.
        untied = {} if tied else {"tie_word_embeddings": False}
        config = transformers.T5Config(**SHARED | options, **untied)
        made = getattr(transformers, model)(config)
        if not tied:
            made.lm_head.weight = torch.nn.Parameter(made.lm_head.weight.detach().clone())
        return randomised(made)

    return build


def t5_references() -> list[Reference]:
    """The references of the T5 families."""
    whole, encoder = "T5ForConditionalGeneration", "T5EncoderModel"
    gated = dict(feed_forward_proj="gated-gelu")
    return [
        Reference(T5, "4 heads of 16, relu", _build(whole, num_decoder_layers=2, **SMALL)),
        Reference(T5, "2 heads of 24, gated, untied head", _build(whole, False, **gated, **WIDE)),
        Reference(T5_ENCODER, "4 heads of 16, relu", _build(encoder, **SMALL)),
        Reference(T5_ENCODER, "2 heads of 24, gated", _build(encoder, **gated, **WIDE)),
    ]
