"""T5: ProtT5 and SciFive; and the encoder of ProtT5 alone, which embeds proteins.

Sources: Raffel et al. 2020, arXiv 1910.10683 (T5; the version with gated feed-forwards and output
weights of its own is its release 1.1); Elnaggar et al. 2022, doi 10.1109/TPAMI.2021.3095381
(ProtT5); Phan et al. 2021, arXiv 2106.03598 (SciFive). Tensor names and `config.json` are those
of transformers' `t5`.
"""

from collections.abc import Iterator

from biofm_jax.errors import UserError
from biofm_jax.models.encoder_decoder import EncoderDecoderSpec
from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.positions import Relative
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.zoo.config import activation, published_activation, refuse_other
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.llama import NO_BIASES
from biofm_jax.zoo.tensors import Flat, Tensor, dense, norm

ENCODER_ARCHITECTURE = "T5EncoderModel"


def _stack(name: str, root: str, spec: TransformerSpec, with_source: bool) -> Iterator[Tensor]:
    """One stack; of the relative positions the first block has the table that all read.

    Args:
        name: published, "encoder" or "decoder".
        root: of our paths, with a slash at its end, or nothing.
        spec: of the stack.
        with_source: whether its blocks have cross attention.
    """
    blocks, layer = f"{root}blocks", f"{name}.block.{{i}}.layer"
    attention = f"{layer}.0.SelfAttention"
    for place, share in enumerate("qkv"):
        path = f"{blocks}/attention/qkv"
        yield from dense(f"{attention}.{share}", path, bias=False, part=(None, place))
    yield from dense(f"{attention}.o", f"{blocks}/attention/out", 2, bias=False)
    yield from norm(f"{layer}.0.layer_norm", f"{blocks}/attention_norm", bias=False)
    table = f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    yield Tensor(table, f"{root}relative", Flat(1))
    if with_source:
        cross, path = f"{layer}.1.EncDecAttention", f"{blocks}/cross_attention"
        yield from dense(f"{cross}.q", f"{path}/q", bias=False)
        for place, share in enumerate("kv"):
            yield from dense(f"{cross}.{share}", f"{path}/kv", bias=False, part=(None, place))
        yield from dense(f"{cross}.o", f"{path}/out", 2, bias=False)
        yield from norm(f"{layer}.1.layer_norm", f"{blocks}/cross_attention_norm", bias=False)
    number = 2 if with_source else 1
    feed = f"{layer}.{number}.DenseReluDense"
    for place, share in enumerate(("wi_0", "wi_1") if spec.gated else ("wi",)):
        part = (None, place) if spec.gated else ()
        yield from dense(f"{feed}.{share}", f"{blocks}/feedforward/up", bias=False, part=part)
    yield from dense(f"{feed}.wo", f"{blocks}/feedforward/down", bias=False)
    yield from norm(f"{layer}.{number}.layer_norm", f"{blocks}/feedforward_norm", bias=False)
    yield from norm(f"{name}.final_layer_norm", f"{root}final_norm", bias=False)


def tensors(spec: EncoderDecoderSpec) -> list[Tensor]:
    """The table of `T5ForConditionalGeneration`."""
    found = [
        Tensor("shared.weight", "embed/tokens", Flat(1)),
        *_stack("encoder", "encoder/", spec.encoder, with_source=False),
        *_stack("decoder", "decoder/", spec.decoder, with_source=True),
    ]
    if spec.head is not None and not spec.head.tied:
        found.append(Tensor("lm_head.weight", "decoder/head/tokens", Flat(1)))
    return found


def encoder_tensors(spec: TransformerSpec) -> list[Tensor]:
    """The table of `T5EncoderModel`."""
    shared = Tensor("shared.weight", "embed/tokens", Flat(1))
    return [shared, *_stack("encoder", "", spec, with_source=False)]


def _stack_of(config: dict, layers: int, **more) -> TransformerSpec:
    refuse_other(config, is_decoder=(False, None), tie_encoder_decoder=(False, None))
    width, head = config["d_model"], config["d_kv"]
    gate, _, name = config.get("feed_forward_proj", "relu").rpartition("-")
    refuse_other({"gate": gate}, gate=("", "gated"))
    # "gated-gelu" is by its own rule the one with tanh.
    name = "gelu_new" if (gate, name) == ("gated", "gelu") else name
    dropout = config.get("dropout_rate", 0.1)
    return TransformerSpec(
        vocabulary=config["vocab_size"],
        layers=layers,
        width=width,
        heads=config["num_heads"],
        head_width=head,
        feedforward=config["d_ff"],
        norm="rms",
        norm_epsilon=config.get("layer_norm_epsilon", 1e-6),
        activation=activation(name),
        gated=gate == "gated",
        biases=NO_BIASES,
        positions=Relative(
            buckets=config.get("relative_attention_num_buckets", 32),
            distance=config.get("relative_attention_max_distance", 128),
        ),
        attention_scale=1.0,
        dropout=dropout,
        attention_dropout=dropout,
        # The mean of an embedding is over residues, without padding and the end.
        special=(config.get("pad_token_id", 0), config.get("eos_token_id", 1)),
        # Attention logits, which nothing scales, start with variance 1.
        init_std=(width * head**0.5) ** -0.5,
        **more,
    )


def spec_of(config: dict) -> EncoderDecoderSpec:
    """The architecture that a `config.json` describes.

    Output weights of their own, `tie_word_embeddings` false, go without the scale of the tied ones
    (T5 1.1). transformers 5 writes that as `scale_decoder_outputs` false.

    Raises:
        UserError: it describes an encoder alone.
    """
    if config.get("architectures") == [ENCODER_ARCHITECTURE]:
        raise UserError(
            f"config.json: architectures is {ENCODER_ARCHITECTURE}, the encoder alone, without a "
            f"decoder; read it as the family {T5_ENCODER.name}"
        )
    tied = config.get("tie_word_embeddings", True) and config.get("scale_decoder_outputs", True)
    head = LanguageHead(
        transform=False, bias=False, tied=tied, scale=config["d_model"] ** -0.5 if tied else 1.0
    )
    layers = config["num_layers"]
    return EncoderDecoderSpec(
        encoder=_stack_of(config, layers, head=None),
        decoder=_stack_of(
            config, config.get("num_decoder_layers") or layers, causal=True, head=head
        ),
    )


def encoder_spec_of(config: dict) -> TransformerSpec:
    """The encoder of the architecture that a `config.json` describes."""
    return _stack_of(config, config["num_layers"], head=None)


def _config_of(spec: TransformerSpec, architecture: str, **more) -> dict:
    name = published_activation(spec.activation)
    if spec.gated and spec.activation == "gelu":
        raise UserError('T5 gates with "gelu_tanh", not "gelu"; set activation')
    # Of a model that was trained here, which of its special tokens are these is not known.
    pad, end = spec.special if len(spec.special) == 2 else (0, 1)
    return {
        "model_type": "t5",
        "architectures": [architecture],
        "vocab_size": spec.vocabulary,
        "d_model": spec.width,
        "d_kv": spec.head_size,
        "d_ff": spec.hidden_width,
        "num_layers": spec.layers,
        "num_heads": spec.heads,
        "relative_attention_num_buckets": spec.positions.buckets,
        "relative_attention_max_distance": spec.positions.distance,
        "dropout_rate": spec.dropout,
        "layer_norm_epsilon": spec.norm_epsilon,
        "feed_forward_proj": (
            "gated-gelu" if spec.gated and name == "gelu_new" else
            f"gated-{name}" if spec.gated else name
        ),
        "pad_token_id": pad,
        "eos_token_id": end,
        "decoder_start_token_id": pad,
        "initializer_factor": 1.0,
        "is_encoder_decoder": True,
        **more,
    }  # fmt: skip


def config_of(spec: EncoderDecoderSpec) -> dict:
    """The `config.json` of an architecture."""
    return _config_of(
        spec.encoder,
        "T5ForConditionalGeneration",
        num_decoder_layers=spec.decoder.layers,
        tie_word_embeddings=spec.head is None or spec.head.tied,
    )


def encoder_config_of(spec: TransformerSpec) -> dict:
    """The `config.json` of an encoder."""
    return _config_of(spec, ENCODER_ARCHITECTURE, is_encoder_decoder=False)


COPIES = {
    f"{name}.weight": "shared.weight"
    for name in ("encoder.embed_tokens", "decoder.embed_tokens", "lm_head")
}
T5 = Family(
    name="t5",
    tensors=tensors,
    spec_of=spec_of,
    config_of=config_of,
    prefix="",
    head=("lm_head.",),
    copies=COPIES,
    # Cross attention has no positions; early checkpoints hold a table that is not read.
    left_out=(r"EncDecAttention\.relative_attention_bias\.weight$",),
    reference="transformers T5ForConditionalGeneration",
)
T5_ENCODER = Family(
    name="t5_encoder",
    tensors=encoder_tensors,
    spec_of=encoder_spec_of,
    config_of=encoder_config_of,
    prefix="",
    head=(),
    copies={"encoder.embed_tokens.weight": "shared.weight"},
    ignored=(r"^decoder\.", r"^lm_head\."),
    model_type="t5",
    reference="transformers T5EncoderModel",
)
