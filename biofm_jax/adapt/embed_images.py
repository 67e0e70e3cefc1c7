"""Embeddings of any number of images, in their order."""

import collections
import math
from collections.abc import Callable, Sequence

import jax
import numpy as np

from biofm_jax.adapt.embed_stream import AHEAD, TOKENS, TOKENS_ELSEWHERE
from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.layer_states import Pooling, layer_states
from biofm_jax.data.image_store import ImageExample
from biofm_jax.data.in_memory import pack_examples
from biofm_jax.models.vision import VisionSpec


class ImageEmbedder:
    """Embeds images with one frozen model; arguments as of `embed_stream.Embedder`.

    Raises:
        UserError: as `layer_states`.
    """

    room = 1  # an image a row

    def __init__(
        self,
        encoder: Encoder,
        *,
        pooling: Pooling = "mean",
        layers: tuple[int, ...] | None = None,
        dtype: str = "float32",
        batch_tokens: int | None = None,
        seed: int = 0,
    ):
        spec = encoder.spec
        self._pooling, self._dtype = pooling, np.dtype(dtype)
        parameters = encoder.params_for(seed)
        self._states, parts = layer_states(spec, parameters, layers, pooling, dtype)
        self._parts = jax.device_put(parts)
        tokens = jax.eval_shape(spec.rows, encoder.data.shapes(1)).tokens.shape[1]
        self._tokens = tokens
        # Class token and registers, which stand in front of the patches.
        self._front = tokens - math.prod(spec.image_grid) if isinstance(spec, VisionSpec) else 0
        self.batch_tokens = batch_tokens or TOKENS.get(jax.default_backend(), TOKENS_ELSEWHERE)
        self.rows = max(1, self.batch_tokens // tokens)
        self.width = spec.width

    def __call__(
        self, images: Sequence[ImageExample], advance: Callable[[int], None] = lambda count: None
    ) -> list[np.ndarray]:
        """Embeddings in the order of the images; one array for each layer.

        Args:
            images: at least one, all of the model's size.
            advance: told of the number of images of each batch as it is done.

        Returns:
            (n, d); with "tokens" the states of all patches (n * patches, d), without class token
            and registers.
        """
        packed = pack_examples(images, None, max_tokens=1, segments=1, batch_size=self.rows)
        found: list[list[np.ndarray]] = []
        waiting: collections.deque = collections.deque()

        def fetch():
            found.append(jax.device_get(waiting.popleft()))
            advance(min(self.rows, len(images) - self.rows * (len(found) - 1)))

        for batch in packed.batches:
            waiting.append(self._states(self._parts, batch))
            if len(waiting) > AHEAD:
                fetch()
        while waiting:
            fetch()
        made = []
        for states in zip(*found):
            if self._pooling == "tokens":
                whole = np.stack(states)[packed.batch, packed.row, self._front :]
                made.append(whole.reshape(-1, self.width).astype(self._dtype))
            else:
                made.append(packed.gather(states).astype(self._dtype))
        return made

    def kept(self, images: Sequence[ImageExample]) -> np.ndarray:
        """(n,) int64 patches of each image."""
        return np.full(len(images), self._tokens - self._front, np.int64)
