"""Small encoder-decoders and batches of theirs that several tests share."""

import jax
import jax.numpy as jnp
import numpy as np
from transformer_examples import pack, variant

from biofm_jax.data.batch import Batch
from biofm_jax.models.encoder_decoder import EncoderDecoderSpec
from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.positions import Learned, Relative
from biofm_jax.models.transformer import Biases


def pair(layers=(2, 3), head=None, **changes) -> EncoderDecoderSpec:
    """Two stacks alike but for their number of layers."""
    plain = dict(token_dropout=None, special=(), **changes)
    head = LanguageHead(transform=False, bias=False, scale=0.25) if head is None else head
    return EncoderDecoderSpec(
        encoder=variant(layers=layers[0], head=None, **plain),
        decoder=variant(layers=layers[1], causal=True, head=head, **plain),
    )


NO_BIASES = Biases(qkv=False, out=False, up=False, down=False, norm=False, final_norm=False)
T5_LIKE = dict(
    norm="rms",
    biases=NO_BIASES,
    positions=Relative(buckets=8, distance=16),
    attention_scale=1.0,
    head_width=6,
    activation="relu",
)
# What T5 is not: all that the branch of cross attention has in common with its block.
OTHER = dict(
    norm_position="post",
    positions=Learned(maximum=64, offset=2),
    kv_heads=2,
    layer_scale=0.5,
    residual_scale=0.7,
    embedding_norm=True,
)
KINDS = {"t5": T5_LIKE, "other": OTHER}


def parameters(spec):
    """Random parameters with norms away from 1 and biases from 0."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        offset = float(path[-1].key == "scale")
        return jnp.asarray(offset + 0.3 * rng.normal(size=leaf.shape), jnp.float32)

    shapes = jax.eval_shape(lambda: spec.build().init(jax.random.key(0), None))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def texts(lengths, seed=0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(4, 16, length).astype(np.int32) for length in lengths]


def packed_pair(sources, targets, sizes=(36, 30), slots=3) -> Batch:
    """Rows of examples on both sides; `sources` and `targets` are lists of rows."""
    return pack(targets, sizes[1], slots).replace(source=pack(sources, sizes[0], slots))
