"""A trained (or random) model with its tokenizer: what adaptation starts from."""

import dataclasses
import functools
from collections.abc import Callable, Sequence, Sized
from typing import Any, Literal

import jax
import numpy as np

from biofm_jax.adapt.features import Features
from biofm_jax.data.api import ExampleData
from biofm_jax.data.bad_records import BadText
from biofm_jax.data.in_memory import pack_examples
from biofm_jax.errors import UserError
from biofm_jax.models.graph import GraphSpec
from biofm_jax.models.grover import GroverSpec
from biofm_jax.models.heads import pool as pool_hidden
from biofm_jax.models.pair_transformer import PairTransformerSpec
from biofm_jax.models.spec import ModelSpec
from biofm_jax.models.transformer import TransformerSpec

ROWS = 16  # rows of an embedding batch
IMAGES = 512  # whose pixels are in memory at a time
Pooling = Literal["mean", "cls"]


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A model and how an item (a sequence, a SMILES, a picture) becomes its input.

    Attributes:
        name: as printed in tables.
        spec: the architecture.
        data: cleans and tokenizes texts, and says how long a row may be.
        params: the trained parameters; None for random ones, drawn from each seed.
    """

    name: str
    spec: ModelSpec
    data: ExampleData
    params: Any = None

    @property
    def reads_graphs(self) -> bool:
        """Whether a text becomes a graph, which cannot be cut, rather than a row of tokens."""
        return self.data.shapes(1).graph is not None

    @property
    def reads_images(self) -> bool:
        """Whether an item becomes an image."""
        return self.data.shapes(1).images is not None

    def control(self) -> "Encoder":
        """The same model with parameters nobody trained: the control of every comparison."""
        return dataclasses.replace(self, name="random", params=None)

    def params_for(self, seed: int) -> Any:
        """The trained parameters whatever the seed, or random ones drawn from it."""
        if self.params is not None:
            return self.params
        return _initialiser(self.spec)(jax.random.key(seed))

    def reader(self) -> "Encoder":
        """The stack that reads texts: an encoder-decoder's encoder, the first of two towers."""
        spec, params = self.spec.reader(self.params)
        return self if spec is self.spec else dataclasses.replace(self, spec=spec, params=params)

    def features_for_seeds(
        self, pooling: Pooling | None = None, layer: int | None = None
    ) -> Callable[[int], Features]:
        """`features` by seed; a trained model has the same ones for every seed."""
        if self.params is None:
            return lambda seed: self.features(seed, pooling, layer)
        fixed = self.features(0, pooling, layer)
        return lambda seed: fixed

    def tokenize(self, texts: Sequence[str]) -> list:
        """Ids of each text, with cls and eos, or its graph or image; cleaned as in pretraining.

        Raises:
            UserError: a text that the modality cannot read.
        """
        to_example = self.data.to_example()
        sequences = []
        for number, text in enumerate(texts, 1):
            try:
                sequences.append(to_example(self.data.clean(text)))
            except BadText as bad:
                name = text if self.reads_images else text[:60]
                raise UserError(f"text {number}, {name!r}: {bad.reason}; {bad.fix}") from None
        return sequences

    def row_tokens(self, sequences: Sequence[Sized]) -> int:
        """Row length for some sequences: a power of two, at most what the model can read.

        Short rows make attention cheap; few different lengths make few compilations.
        """
        longest = max(len(sequence) for sequence in sequences)
        return min(self.data.longest, max(64, 1 << (longest - 1).bit_length()))

    def features(
        self, seed: int, pooling: Pooling | None = None, layer: int | None = None
    ) -> Features:
        """A function from texts to (n, d) float32 pooled hidden states of the frozen model.

        Of an encoder-decoder those of its encoder, of two towers those of the first.

        Args:
            seed: of random parameters.
            pooling: the "mean" over tokens, or the first token's vector ("cls"); None: the
                model's own.
            layer: hidden states after this many blocks, before any final norm; 0 is the
                embeddings. None: the model's output.

        Raises:
            UserError: the model has no such layer.
        """
        spec, params = self.spec.reader(self.params_for(seed))
        spec, params = cut_above(spec, params, layer)
        if pooling is not None:
            spec = dataclasses.replace(spec, pooling={"mean": "mean", "cls": "first"}[pooling])
        if pooling is not None:
            params.pop("pool", None)
        model = spec.build()

        def vectors(params, batch):
            if layer == 0:
                embeddings = model.apply(params, batch, collect=("layers",)).layers[0]
                return pool_hidden(embeddings, spec.rows(batch), spec.pooling, spec.special)
            return model.apply(params, batch).pooled

        pool = jax.jit(vectors)

        def embed(texts: Sequence[str]) -> np.ndarray:
            if not len(texts):
                return np.zeros((0, getattr(spec, "pooled_width", spec.width)), np.float32)
            step = IMAGES if self.reads_images else len(texts)
            parts = [texts[start : start + step] for start in range(0, len(texts), step)]
            return np.concatenate([part_vectors(part) for part in parts])

        def part_vectors(texts: Sequence[str]) -> np.ndarray:
            sequences = self.tokenize(texts)
            packed = pack_examples(
                sequences,
                self.data.vocabulary,
                max_tokens=self.row_tokens(sequences),
                segments=self.data.segments,
                batch_size=ROWS,
            )
            return packed.gather([jax.device_get(pool(params, b)) for b in packed.batches])

        return embed


Stack = TransformerSpec | GraphSpec | GroverSpec | PairTransformerSpec


def cut_above(spec: Stack, params: Any, layer: int | None) -> tuple[Stack, Any]:
    """The model without its head and, if a layer is named, without what comes after it."""
    params = {name: part for name, part in params.items() if name != "head"}
    spec = dataclasses.replace(spec, head=None)
    if layer is None:
        return spec, params
    if not 0 <= layer <= spec.layers:
        raise UserError(
            f"layer {layer} is not in 0 (the embeddings) to {spec.layers} (the last block)"
        )
    blocks = max(layer, 1)  # no stack is empty
    params = {name: part for name, part in params.items() if name != "final_norm"}
    params["blocks"] = jax.tree.map(lambda stacked: stacked[:blocks], params["blocks"])
    spec = dataclasses.replace(spec, layers=blocks)
    if not isinstance(spec, GraphSpec):
        spec = dataclasses.replace(spec, final_norm=False)
    if params.pop("pool", None) is not None:  # it was trained on the last states alone
        spec = dataclasses.replace(spec, pooling="mean")
    return spec, params


@functools.lru_cache(maxsize=4)
def _initialiser(spec: ModelSpec) -> Callable:
    """Key -> random parameters, compiled once for all seeds."""
    model = spec.build()
    return jax.jit(lambda key: model.init(key, None))
