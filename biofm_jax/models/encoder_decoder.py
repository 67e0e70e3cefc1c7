"""An encoder that reads an input and a decoder that writes from it (T5, Raffel et al. 1910.10683).

Both are stacks of `TransformerSpec`; the decoder's blocks have a branch of cross attention to the
encoder's last hidden states, and both sides share one table of token embeddings.
"""

import dataclasses

import jax

from biofm_jax.array_types import Hidden, PyTree
from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models.api import Model, Outputs
from biofm_jax.models.attention_cached import Cache
from biofm_jax.models.cross_attention import BACKENDS, Source
from biofm_jax.models.flops import cross_flops
from biofm_jax.models.heads import Head, LanguageHead
from biofm_jax.models.positions import Positions
from biofm_jax.models.spec import ModelSpec, check_tokens
from biofm_jax.models.stack import apply_stack, init_stack, stack_axes
from biofm_jax.models.transformer import TransformerSpec


@dataclasses.dataclass(frozen=True)
class EncoderDecoderSpec(ModelSpec):
    """An encoder and a decoder of one vocabulary and width.

    Attributes:
        encoder: sees its whole input; no head.
        decoder: causal; its head makes the logits.
    """

    encoder: TransformerSpec = dataclasses.field(default_factory=lambda: TransformerSpec(head=None))
    decoder: TransformerSpec = dataclasses.field(
        default_factory=lambda: TransformerSpec(causal=True)
    )

    reads_source = True
    writer = "model.decoder"
    vocabulary_paths = ("model.encoder.vocabulary", "model.decoder.vocabulary")

    @property
    def vocabulary(self) -> int:
        """Number of token ids, on both sides."""
        return self.decoder.vocabulary

    @property
    def layers(self) -> int:
        """Blocks of both stacks."""
        return self.encoder.layers + self.decoder.layers

    @property
    def width(self) -> int:
        """Of the residual stream, on both sides."""
        return self.decoder.width

    @property
    def heads(self) -> int:
        """Query heads of the decoder."""
        return self.decoder.heads

    @property
    def causal(self) -> bool:
        """Whether it writes from left to right, as every decoder."""
        return self.decoder.causal

    @property
    def positions(self) -> Positions:
        """Of the decoder."""
        return self.decoder.positions

    @property
    def head(self) -> Head:
        """Of the decoder."""
        return self.decoder.head

    @property
    def token_dropout(self) -> None:
        """None: neither stack may have it."""
        return None

    def check(self, data, mesh) -> None:
        """See `ModelSpec`."""
        check_tokens(self, data, mesh)

    def reader(self, params):
        """The encoder."""
        return self.encoder, None if params is None else _of_stack(params, "encoder")

    def stacks(self):
        """See `ModelSpec`."""
        return {"encoder": self.encoder, "decoder": self.decoder}

    def writers(self):
        """See `ModelSpec`: the decoder."""
        return (self.decoder,)

    def train_flops(self, attended, predicted=0.0, pooled=0.0) -> float:
        """See `ModelSpec`: for a token that is read and one that is written.

        The sources are as long as what is written from them.
        """
        stacks = (
            self.encoder.train_flops(attended),
            self.decoder.train_flops(attended, predicted, pooled),
        )
        return sum(stacks) + cross_flops(self.decoder, attended)

    def build(self) -> Model:
        """The model's pure functions.

        Parameters are `{"embed": {"tokens"}, "encoder": ..., "decoder": ...}`: the shared table,
        and what else either stack has. `apply` takes a batch of the decoder's tokens whose
        `source` is the encoder's input, or with `past` the tokens alone; `embedded` stands in for
        the decoder's embeddings, and `Outputs.source` is what the encoder returned.

        Raises:
            UserError: fields that do not go together; the message names them.
        """
        check_pair(self)
        self.encoder.build()
        self.decoder.build()

        def init(rng, batch):
            """Float32 parameters; of `batch` nothing is read, all shapes are in the spec."""
            first, second = jax.random.split(rng)
            encoder = init_stack(self.encoder, first)
            return _joined(encoder, init_stack(self.decoder, second, self.encoder.width))

        def apply(params, batch, **options):
            return apply_pair(self, params, batch, **options)

        def axes(params):
            names = _joined(stack_axes(self.encoder), stack_axes(self.decoder, True))
            return jax.tree.map(lambda _, leaf: leaf, params, names)

        return Model(init, apply, axes, self)


def apply_pair(
    spec: EncoderDecoderSpec,
    params: PyTree,
    batch: Batch,
    *,
    rngs: jax.Array | None = None,
    train: bool = False,
    collect: tuple[str, ...] = (),
    embedded: Hidden | None = None,
    past: Cache | None = None,
) -> Outputs:
    """Run the encoder on `batch.source` and the decoder on the batch.

    Args:
        spec: the model's spec.
        params: as `EncoderDecoderSpec.build` describes them.
        batch: the decoder's tokens; `source` (rows the same, b) the encoder's.
        rngs: as of `apply_stack`.
        train: dropout is on.
        collect: as of `apply_stack`, from both stacks; of "keys_values" those of the decoder, of
            its own tokens and of the source.
        embedded: (b, t, d) in the place of the embeddings of the decoder's tokens.
        past: what `models/cache.py` kept, the source's keys and values among it; the encoder does
            not run.

    Raises:
        UserError: a batch without a source; or as `apply_stack`.
    """
    encoded, source = None, None if past is None else past.source
    if source is None:
        if batch.source is None:
            raise UserError(
                "an encoder-decoder reads batch.source and writes batch.tokens, and this batch "
                "has no source; give one, such as the Denoising objective makes"
            )
        encoded = apply_stack(
            spec.encoder,
            _of_stack(params, "encoder"),
            batch.source,
            rngs=None if rngs is None else jax.random.fold_in(rngs, 1),
            train=train,
            collect=tuple(name for name in collect if name != "keys_values"),
        )
        source = Source(batch.source.segment_ids, encoded.hidden)
    out = apply_stack(
        spec.decoder,
        _of_stack(params, "decoder"),
        batch.replace(source=None),
        rngs=rngs,
        train=train,
        collect=collect,
        embedded=embedded,
        past=past,
        source=source,
    )
    return dataclasses.replace(out, source=encoded)


def _joined(encoder: PyTree, decoder: PyTree) -> PyTree:
    """The two trees of stacks as one; the table of tokens is the encoder's."""

    def without_table(stack):
        others = {name: leaf for name, leaf in stack["embed"].items() if name != "tokens"}
        stack = {name: part for name, part in stack.items() if name != "embed"}
        return {**stack, "embed": others} if others else stack

    table = {"tokens": encoder["embed"]["tokens"]}
    return {
        "embed": table, "encoder": without_table(encoder), "decoder": without_table(decoder)
    }  # fmt: skip


def _of_stack(params: PyTree, name: str) -> PyTree:
    """The tree of one stack, the shared table in its place."""
    stack = params[name]
    return {**stack, "embed": {**params["embed"], **stack.get("embed", {})}}


def check_pair(spec: EncoderDecoderSpec) -> None:
    """Refuse two stacks that do not go together.

    Raises:
        UserError: names the field, its value and the values that would do.
    """
    encoder, decoder = spec.encoder, spec.decoder
    for field in ("vocabulary", "width", "dtype"):
        value, need = getattr(encoder, field), f"{getattr(decoder, field)!r}, as of the decoder"
        _demand(value == getattr(decoder, field), f"encoder.{field}", value, need)
    _demand(not encoder.causal, "encoder.causal", True, "False: it sees its whole input")
    _demand(encoder.head is None, "encoder.head", encoder.head, "None")
    _demand(decoder.causal, "decoder.causal", False, "True")
    head = decoder.head
    need = "LanguageHead or None"
    _demand(head is None or isinstance(head, LanguageHead), "decoder.head", head, need)
    for field, plain in (("parallel", "none"), ("qk_norm", "none"), ("attention_by_depth", False)):
        value = getattr(decoder, field)
        need = f"{plain!r}: its cross attention knows no other"
        _demand(value == plain, f"decoder.{field}", value, need)
    for name, stack in (("encoder", encoder), ("decoder", decoder)):
        need = "None in an encoder-decoder"
        _demand(stack.token_dropout is None, f"{name}.token_dropout", stack.token_dropout, need)
    need = " or ".join(f'"{name}"' for name in BACKENDS) + ", which have cross attention"
    _demand(decoder.backend in BACKENDS, "decoder.backend", decoder.backend, need)


def _demand(holds: bool, field: str, value, need: str) -> None:
    if not holds:
        raise UserError(f"EncoderDecoderSpec.{field} is {value!r}; it must be {need}")
