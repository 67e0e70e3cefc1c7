"""Embeddings of any number of tokenized sequences, in their order."""

import collections
import dataclasses
import time
from collections.abc import Callable

import jax
import numpy as np

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.layer_states import Pooling, layer_states
from biofm_jax.data.batch import Batch
from biofm_jax.data.bucketing import RowBatch, fill_batch, plan_batches, row_lengths
from biofm_jax.data.graphs import GraphExample, GraphRows, GraphStore
from biofm_jax.models.positions import Learned

# Tokens of a batch. A CPU is fastest while a batch stays in its cache (ESM-2 8M, rows of 512:
# 273 us a token in batches of 512 tokens, 300 in those of 1,024, 327 in those of 2,048, of which
# 155 are the dense layers at the peak of the core); an accelerator wants more.
TOKENS = {"cpu": 1 << 9}
TOKENS_ELSEWHERE = 1 << 15
AHEAD = 2  # batches on the way to the device while the results of an older one are fetched


@dataclasses.dataclass(frozen=True)
class Sequences:
    """Tokenized texts.

    Attributes:
        ids: (m,) token ids of all sequences one behind the other, any integer type.
        offsets: (n + 1,) int64 where each starts.
    """

    ids: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lengths(self) -> np.ndarray:
        """(n,) int64 tokens of each."""
        return np.diff(self.offsets)


@dataclasses.dataclass(frozen=True)
class Graphs(Sequences):
    """Texts as graphs, whose atoms are the tokens.

    Attributes:
        graphs: (n,) of them.
    """

    graphs: tuple[GraphExample, ...]


@dataclasses.dataclass(frozen=True)
class Windows:
    """The pieces that a model reads, in the order of their sequences.

    Attributes:
        owners: (w,) int64 the sequence of each.
        starts: (w,) int64 where it starts in `Sequences.ids`.
        lengths: (w,) int64 its tokens.
    """

    owners: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray


def windows(sequences: Sequences, room: int, *, truncate: bool) -> Windows:
    """Cut what is longer than a row.

    A sequence of n > room tokens, cls and eos included, becomes the ceil(n / room) windows of
    equal length (to a token) that lie side by side: as in pretraining, a window that does not
    reach an end of the sequence has no cls or eos there.

    Args:
        sequences: tokenized texts.
        room: tokens of the longest row.
        truncate: keep the first `room` tokens instead.
    """
    lengths = sequences.lengths()
    if truncate:
        cut = np.minimum(lengths, room)
        return Windows(np.arange(len(lengths)), sequences.offsets[:-1], cut)
    counts = -(-lengths // room)
    owners = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    n, k = lengths[owners], counts[owners]
    first, last = number * n // k, (number + 1) * n // k
    return Windows(owners, sequences.offsets[owners] + first, last - first)


class Embedder:
    """Embeds sequences with one frozen model.

    Args:
        encoder: the model.
        pooling: "mean", "cls" or "tokens".
        layers: see `layer_states`.
        dtype: of the result, "float32" or "float16".
        truncate: read only the first tokens of a sequence longer than a row; by default it is
            read in windows.
        batch_tokens: of a batch on the device; None chooses by platform.
        seed: of the parameters of a model that has none.

    Raises:
        UserError: as `layer_states`.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        pooling: Pooling = "mean",
        layers: tuple[int, ...] | None = None,
        dtype: str = "float32",
        truncate: bool = False,
        batch_tokens: int | None = None,
        seed: int = 0,
    ):
        self._pooling, self._truncate, self._dtype = pooling, truncate, np.dtype(dtype)
        # Windows are added up before they are rounded.
        inner = dtype if pooling == "tokens" else "float32"
        parameters = encoder.params_for(seed)
        self._states, parts = layer_states(encoder.spec, parameters, layers, pooling, inner)
        self._parts = jax.device_put(parts)
        self._vocabulary = encoder.data.tokenizer().vocabulary
        self._special = np.asarray(encoder.spec.special, np.int64)
        self._slots = encoder.data.segments
        self._graphs = encoder.reads_graphs
        self._alone = encoder.tokenize(["C"])[0] if self._graphs else None  # one atom
        self.batch_tokens = batch_tokens or TOKENS.get(jax.default_backend(), TOKENS_ELSEWHERE)
        self.room = row_room(encoder)
        self.width = encoder.spec.width
        self.layers = 1 if layers is None else len(layers)

    def plan(self, pieces: Windows) -> list[RowBatch]:
        """The batches in which some windows are read."""
        multiple = 128 if jax.default_backend() == "tpu" else 64
        allowed = row_lengths(self.room, multiple)
        return plan_batches(pieces.lengths, allowed, self._slots, self.batch_tokens)

    def cut(self, sequences: Sequences) -> Windows:
        """See `windows`."""
        return windows(sequences, self.room, truncate=self._truncate)

    def __call__(
        self, sequences: Sequences, advance: Callable[[int], None] = lambda count: None
    ) -> list[np.ndarray]:
        """Embeddings in the order of the sequences; one array for each layer.

        Args:
            sequences: tokenized texts, of any length.
            advance: told of the number of sequences of each batch as it is done; one that is
                read in windows counts with its first.

        Returns:
            (n, d); with "tokens" the states of all tokens (m', d) one behind the other, without
            cls and eos: `kept` says how many of each sequence.
        """
        pieces = self.cut(sequences)
        made = self._empty(sequences, pieces)
        waiting: collections.deque = collections.deque()
        begins = pieces.starts == sequences.offsets[pieces.owners]

        def fetch():
            plan, states = waiting.popleft()
            self._place(plan, jax.device_get(states), made, pieces)
            advance(int(begins[plan.sequences].sum()))

        for plan in self.plan(pieces):
            batch = self._batch(plan, sequences, pieces)
            waiting.append((plan, self._states(self._parts, batch)))
            if len(waiting) > AHEAD:
                fetch()
        while waiting:
            fetch()
        return self._joined(sequences, pieces, made)

    def seconds(self, plan: RowBatch) -> float:
        """Wall time of one batch like `plan`, measured once it is compiled."""
        # What stands in a batch does not change its time: one token of each sequence will do.
        count = len(plan.sequences)
        plan = dataclasses.replace(plan, sequences=np.arange(count))
        zeros, ones = np.zeros(count, np.int64), np.ones(count, np.int64)
        sequences = Sequences(zeros, np.arange(count + 1))
        if self._graphs:
            sequences = Graphs(zeros, np.arange(count + 1), (self._alone,) * count)
        batch = self._batch(plan, sequences, Windows(zeros, zeros, ones))
        jax.block_until_ready(self._states(self._parts, batch))
        began = time.perf_counter()
        jax.block_until_ready(self._states(self._parts, batch))
        return time.perf_counter() - began

    def kept(self, sequences: Sequences) -> np.ndarray:
        """(n,) int64 tokens of each sequence that "tokens" gives: not cls, eos and a cut tail."""
        whole = sequences.lengths()
        lengths = np.minimum(whole, self.room) if self._truncate else whole
        ends = self._vocabulary.eos >= 0
        return lengths - int(self._vocabulary.cls >= 0) - (ends & (lengths == whole))

    def _batch(self, plan: RowBatch, sequences: Sequences, pieces: Windows) -> Batch:
        """The arrays of a planned batch."""
        if isinstance(sequences, Graphs):
            chosen = [sequences.graphs[i] for i in plan.sequences]
            store = GraphStore.from_examples(chosen, self._vocabulary)
            rows = [[] for _ in range(plan.rows)]
            for number, row in enumerate(plan.placement[:, 0].tolist()):
                rows[row].append(number)
            return GraphRows(store, plan.tokens, self._slots, plan.rows).batch(rows)
        return fill_batch(
            plan,
            sequences.ids,
            pieces.starts,
            pieces.lengths,
            self._slots,
            self._vocabulary.pad,
        )

    def _empty(self, sequences: Sequences, pieces: Windows) -> list[np.ndarray]:
        """Where results go: a vector of each window, or of each token of each window."""
        if self._pooling == "tokens":
            shape = (int(pieces.lengths.sum()), self.width)
            return [np.empty(shape, self._dtype) for _ in range(self.layers)]
        shape = (len(pieces.owners), self.width)
        return [np.empty(shape, np.float32) for _ in range(self.layers)]

    def _place(self, plan: RowBatch, states, made: list[np.ndarray], pieces: Windows) -> None:
        rows, slots = plan.placement.T
        if self._pooling != "tokens":
            for out, state in zip(made, states, strict=True):
                out[plan.sequences] = state[rows, slots]
            return
        lengths = pieces.lengths[plan.sequences]
        within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        first = (np.cumsum(pieces.lengths) - pieces.lengths)[plan.sequences]
        to = np.repeat(first, lengths) + within
        source = np.repeat(rows * plan.tokens + plan.columns, lengths) + within
        for out, state in zip(made, states, strict=True):
            out[to] = state.reshape(-1, self.width)[source]

    def _joined(self, sequences: Sequences, pieces: Windows, made: list[np.ndarray]):
        if self._pooling == "tokens":
            keep = np.ones(int(pieces.lengths.sum()), bool)
            ends = np.cumsum(np.bincount(pieces.owners, pieces.lengths, len(sequences)))
            ends = ends.astype(np.int64)
            if self._vocabulary.cls >= 0:
                keep[np.concatenate([[0], ends[:-1]])[: len(sequences)]] = False
            if self._vocabulary.eos >= 0:
                read = np.diff(ends, prepend=0)
                keep[ends[read == sequences.lengths()] - 1] = False
            return [states[keep] for states in made]
        first = np.searchsorted(pieces.owners, np.arange(len(sequences)))
        if self._pooling == "cls" or len(pieces.owners) == len(sequences):
            return [vectors[first].astype(self._dtype) for vectors in made]
        # The mean over a sequence is the mean over its windows, weighted by the tokens in each.
        counted = ~np.isin(sequences.ids, self._special)
        total = np.concatenate([[0], np.cumsum(counted)])
        weight = total[pieces.starts + pieces.lengths] - total[pieces.starts]
        whole = np.maximum(np.add.reduceat(weight, first), 1)
        share = (weight / whole[pieces.owners])[:, None]
        return [np.add.reduceat(v * share, first, axis=0).astype(self._dtype) for v in made]


def row_room(encoder: Encoder) -> int:
    """Tokens of the longest row that a model reads: as in pretraining, or as it has positions;
    a graph is never cut."""
    if encoder.reads_graphs:
        return encoder.data.longest
    positions = encoder.spec.positions
    room = encoder.data.max_tokens
    return min(room, positions.maximum) if isinstance(positions, Learned) else room
