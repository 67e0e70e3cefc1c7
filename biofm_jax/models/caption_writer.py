"""A captioner (CoCa) that writes: its images are a source, its caption comes token by token."""

import dataclasses
import functools

import jax.numpy as jnp

from biofm_jax.array_types import PyTree
from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models.api import Model, Outputs
from biofm_jax.models.attention_cached import Cache
from biofm_jax.models.captioner import CaptionerSpec, read_image, write
from biofm_jax.models.heads import Head
from biofm_jax.models.positions import Positions
from biofm_jax.models.spec import ModelSpec
from biofm_jax.models.stack import apply_stack
from biofm_jax.models.transformer import TransformerSpec


@dataclasses.dataclass(frozen=True)
class CaptionWriterSpec(ModelSpec):
    """A `CaptionerSpec` as a model of its captions behind images, as `models/cache.py` runs it.

    The layers of the text's tower and those of the decoder are one stack of so many layers, of
    which the upper ones read the image.

    Attributes:
        captioner: whose parameters these are.
    """

    captioner: CaptionerSpec

    causal = True
    reads_source = True
    token_dropout = None

    @property
    def vocabulary(self) -> int:
        """Number of token ids of a caption."""
        return self.captioner.decoder.vocabulary

    @property
    def head(self) -> Head:
        """Of the decoder."""
        return self.captioner.decoder.head

    @property
    def positions(self) -> Positions:
        """Of the tower of texts."""
        return self.captioner.second.positions

    def stacks(self):
        """See `ModelSpec`."""
        return {"captioner": self.captioner}

    def writers(self) -> tuple[TransformerSpec, ...]:
        """See `ModelSpec`: the tower of texts and the decoder."""
        return self.captioner.second, self.captioner.decoder

    def build(self) -> Model:
        """The model's pure functions.

        Parameters are those of the captioner. `apply` takes captions whose batch has the images in
        its `source`, row by row, or with `past` the tokens alone; `logits` are of the next tokens.

        Raises:
            UserError: as `CaptionerSpec.build`; halves whose keys and values differ in shape.
        """
        spec, captioner = self.captioner, self.captioner.build()
        for name in ("key_heads", "head_size"):
            lower, upper = (getattr(half, name) for half in self.writers())
            if lower != upper:
                raise UserError(
                    f"the decoder's {name} is {upper} and the second tower's {lower}: token by "
                    "token only captioners run in which both are alike"
                )
        return Model(captioner.init, functools.partial(_apply, spec), captioner.axes, self)


def _apply(
    spec: CaptionerSpec,
    params: PyTree,
    batch: Batch,
    *,
    collect: tuple[str, ...] = (),
    past: Cache | None = None,
) -> Outputs:
    """Both halves on some tokens; of `collect` "keys_values" is known."""
    lower, layers = dataclasses.replace(spec.second, head=None), spec.second.layers
    pasts = (None, None)
    if past is None:
        if batch.source is None or batch.source.images is None:
            raise UserError("a captioner writes from images, and this batch has none as its source")
        seen = spec.first.build().apply(params["first"], batch.source)
        source = read_image(spec, params, batch.source.segment_ids, seen.hidden)
    else:
        source = past.source
        cuts = (slice(None, layers), slice(layers, None))
        pasts = [Cache(past.keys[cut], past.values[cut], past.lengths) for cut in cuts]
    batch = batch.replace(source=None)
    text = {name: part for name, part in params["second"].items() if name != "head"}
    said = apply_stack(lower, text, batch, collect=collect, past=pasts[0])
    written = write(spec, params, batch, said.hidden, source, collect=collect, past=pasts[1])
    if "keys_values" not in collect:
        return written
    both = zip(said.keys_values, written.keys_values, strict=True)
    return dataclasses.replace(
        written, keys_values=tuple(jnp.concatenate(halves) for halves in both)
    )
