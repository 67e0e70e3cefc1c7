"""Two towers with a decoder on top that writes the caption of the image (CoCa, CONCH)."""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from biofm_jax.array_types import Hidden, PyTree, Tokens
from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models.api import Model, Outputs, gather
from biofm_jax.models.cross_attention import BACKENDS, Source
from biofm_jax.models.dual_encoder import DualEncoderSpec
from biofm_jax.models.flops import cross_flops
from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.positions import NoPositions, Rotary
from biofm_jax.models.query_pooling import QueryPooling
from biofm_jax.models.stack import apply_stack, init_stack, stack_axes
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.models.vision import VisionSpec


@dataclasses.dataclass(frozen=True)
class CaptionerSpec(DualEncoderSpec):
    """Towers of images and of texts, and a decoder that reads both (CoCa, Yu et al. 2022,
    arXiv:2205.01917, section 3.2; in pathology CONCH, Lu et al. 2024, doi
    10.1038/s41591-024-02856-4).

    The text's tower is the lower half of a causal decoder: it sees no image, and its last token
    (eos, which stands for CoCa's cls behind the text) is the vector of the text. The upper half,
    `decoder`, goes on from its hidden states with cross attention to the image, of which learned
    queries have made a few vectors. The image's own vector is as its tower pools it: by a query
    with `pooling="attention"`, as in CoCa. The token embeddings are the decoder's output weights,
    too.

    Attributes:
        decoder: the upper half; without positions, which the lower half has given.
        queries: vectors that the decoder reads of an image (256 in CoCa).
    """

    decoder: TransformerSpec = dataclasses.field(
        default_factory=lambda: TransformerSpec(causal=True, positions=NoPositions())
    )
    queries: int = 256

    @property
    def layers(self) -> int:
        """Blocks of both towers and of the decoder."""
        return self.first.layers + self.second.layers + self.decoder.layers

    def replaced(self, **changes) -> "CaptionerSpec":
        """With some fields changed in both towers and in the decoder."""
        stacks = {
            name: dataclasses.replace(getattr(self, name), **changes)
            for name in ("first", "second", "decoder")
        }
        return dataclasses.replace(self, **stacks)

    def train_flops(self, attended, predicted=0.0, pooled=0.0) -> float:
        """See `DualEncoderSpec`; every token is written."""
        written = self.decoder.train_flops(attended, 1.0)
        return (
            super().train_flops(attended, predicted, pooled)
            + written
            + cross_flops(self.decoder, self.queries)
        )

    def build(self) -> Model:
        """The model's pure functions.

        Parameters are those of `DualEncoderSpec` with `{"pooling", "decoder"}`. `Outputs` is that
        of the towers; `caption` (b, t, v) float32 are the logits of each next token of the text.

        Raises:
            UserError: as `DualEncoderSpec.build`; stacks that do not go together.
        """
        check_captioner(self)
        towers = super().build()
        self.decoder.build()
        boxes, of_pooling = _boxes(self), _pooling_axes(self)

        def init(rng, batch):
            """Float32 parameters; of `batch` nothing is read, all shapes are in the specs."""
            keys = jax.random.split(jax.random.fold_in(rng, 2))
            decoder = init_stack(self.decoder, keys[0], self.decoder.width)
            del decoder["embed"]
            own = {"decoder": decoder, "pooling": nn.unbox(boxes(keys[1]))}
            return towers.init(rng, batch) | own

        def apply(params, batch, *, rngs=None, train=False, **options):
            out = towers.apply(_towers_of(params), batch, rngs=rngs, train=train, **options)
            written = write(
                self,
                params,
                batch.pair,
                out.pair.hidden,
                read_image(self, params, batch.segment_ids, out.hidden),
                rngs=None if rngs is None else jax.random.fold_in(rngs, 2),
                train=train,
            )
            return dataclasses.replace(out, caption=written.logits)

        def axes(params):
            of_decoder = {name: part for name, part in stack_axes(self.decoder, True).items()
                          if name != "embed"}  # fmt: skip
            of_decoder = jax.tree.map(lambda _, leaf: leaf, params["decoder"], of_decoder)
            return towers.axes(_towers_of(params)) | {"decoder": of_decoder, "pooling": of_pooling}

        return Model(init, apply, axes, self)


def read_image(spec: CaptionerSpec, params: PyTree, segment_ids: Tokens, hidden: Hidden) -> Source:
    """What the decoder reads of images.

    Args:
        spec: the model's spec.
        params: its parameters.
        segment_ids: (b, 1) int32 1, or 0 in an empty row.
        hidden: (b, u, e) what the tower of images made of them.

    Returns:
        Hidden states (b, q, d) of its queries.
    """
    rows, pooling = hidden.shape[0], QueryPooling(spec.decoder, spec.queries)
    seen = Source(jnp.broadcast_to(segment_ids, hidden.shape[:2]), hidden)
    queries = gather(params["pooling"], _pooling_axes(spec), spec.compute_dtype)
    read = pooling.apply({"params": queries}, seen)
    return Source(jnp.broadcast_to(segment_ids, (rows, spec.queries)), read)


def write(
    spec: CaptionerSpec, params: PyTree, batch: Batch, embedded: Hidden, source: Source, **options
) -> Outputs:
    """Run the decoder.

    Args:
        spec: the model's spec.
        params: its parameters.
        batch: of captions.
        embedded: (b, t, d) what the tower of texts made of them.
        source: of `read_image`.
        **options: of `apply_stack`.
    """
    decoder = {**params["decoder"], "embed": {"tokens": params["second"]["embed"]["tokens"]}}
    return apply_stack(spec.decoder, decoder, batch, embedded=embedded, source=source, **options)


def _boxes(spec: CaptionerSpec) -> Callable:
    """Key -> the parameters of the pooling, with the names of their axes."""
    pooling, row = QueryPooling(spec.decoder, spec.queries), jnp.zeros((1, 1), jnp.int32)
    hidden = jnp.zeros((1, 1, spec.first.width))
    return lambda rng: pooling.init(rng, Source(row, hidden))["params"]


@functools.lru_cache
def _pooling_axes(spec: CaptionerSpec) -> PyTree:
    boxed = jax.eval_shape(_boxes(spec), jax.random.key(0))
    return jax.tree.map(
        lambda box: box.names, boxed, is_leaf=lambda x: isinstance(x, nn.meta.AxisMetadata)
    )


def _towers_of(params):
    return {name: part for name, part in params.items() if name not in ("decoder", "pooling")}


def check_captioner(spec: CaptionerSpec) -> None:
    """Refuse stacks that do not go together.

    Raises:
        UserError: names the field, its value and the values that would do.
    """

    def demand(holds: bool, field: str, value, need: str) -> None:
        if not holds:
            raise UserError(f"CaptionerSpec.{field} is {value!r}; it must be {need}")

    first, second, decoder = spec.first, spec.second, spec.decoder
    demand(isinstance(first, VisionSpec), "first", type(first).__name__, "a VisionSpec")
    plain = type(second) is TransformerSpec
    demand(plain, "second", type(second).__name__, "a TransformerSpec")
    demand(second.causal, "second.causal", False, "True: it must not see what is to be written")
    need = "'last': no other token of a causal tower sees the whole text"
    demand(second.pooling == "last", "second.pooling", second.pooling, need)
    demand(decoder.causal, "decoder.causal", False, "True")
    for field in ("vocabulary", "width", "dtype"):
        value, need = getattr(decoder, field), f"{getattr(second, field)!r}, as of the second tower"
        demand(value == getattr(second, field), f"decoder.{field}", value, need)
    tied = isinstance(decoder.head, LanguageHead) and decoder.head.tied
    demand(tied, "decoder.head", decoder.head, "a LanguageHead with tied=True")
    need = "NoPositions() or Rotary(): it starts from hidden states"
    placed = isinstance(decoder.positions, NoPositions | Rotary)
    demand(placed, "decoder.positions", decoder.positions, need)
    for field, plain in (("token_types", 0), ("embedding_norm", False), ("token_dropout", None)):
        value, need = getattr(decoder, field), f"{plain!r}: it starts from hidden states"
        demand(value == plain, f"decoder.{field}", value, need)
    for field, plain in (("parallel", "none"), ("qk_norm", "none"), ("attention_by_depth", False)):
        value = getattr(decoder, field)
        need = f"{plain!r}: its cross attention knows no other"
        demand(value == plain, f"decoder.{field}", value, need)
    need = " or ".join(f'"{name}"' for name in BACKENDS) + ", which have cross attention"
    demand(decoder.backend in BACKENDS, "decoder.backend", decoder.backend, need)
    demand(spec.queries > 0, "queries", spec.queries, "1 or more")
