"""A probe of every residue: labels along a sequence, read off the states of its letters.

The labels of such a task (`kind` "residue") are one row an item, (n, k): at place j the class
number of letter j of the text, nan beyond its end and where nothing is known.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import Float, Int

from biofm_jax.adapt.encoder import ROWS, Encoder, cut_above
from biofm_jax.adapt.fractions import Limited
from biofm_jax.adapt.labelled import Adapter, Labelled
from biofm_jax.adapt.probe import probe
from biofm_jax.data.in_memory import pack_examples
from biofm_jax.errors import UserError

Residues = Callable[[Sequence[str]], list[np.ndarray]]

# Residues of whole sequences that a probe is fitted to and chosen on: many times the weights of a
# linear probe, while a large set would take hours to embed.
FITTED, CHOSEN_ON = 20_000, 5_000


def residue_probe_adapter(residues_for_seed: Callable[[int], Residues]) -> Adapter:
    """A logistic probe of single residues, as an adapter of a model.

    Sequences of the training and of the validation part are taken in an order drawn from seed 0,
    each whole, until they have `FITTED` and `CHOSEN_ON` labelled residues; the penalty is chosen
    as `probe` does. A text is embedded once.

    Args:
        residues_for_seed: seed -> a function from m texts to m arrays (letters, d).
    """
    known: dict[Residues, dict[str, np.ndarray]] = {}

    def adapt(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
        residues = residues_for_seed(seed)
        seen = known.setdefault(residues, {})

        def states(part: Labelled) -> list[np.ndarray]:
            new = list(dict.fromkeys(text for text in part.texts if text not in seen))
            if new:
                seen.update(zip(new, residues(new), strict=True))
            return [seen[text] for text in part.texts]

        rows = []
        for part in (train, valid):
            rows += labelled_residues(states(part), part.targets)
        found = states(test)
        guess = iter(probe(*_same_width(rows), np.concatenate(found), "class")[:, 0])
        return in_rows([[next(guess) for _ in state] for state in found], test.targets.shape[1])

    def limit(train: Labelled, valid: Labelled, seed: int) -> tuple[Labelled, Labelled]:
        return train.at(enough_items(train, FITTED)), valid.at(enough_items(valid, CHOSEN_ON))

    return Limited(adapt, limit)


def enough_items(part: Labelled, most: int) -> Int[np.ndarray, " m"]:
    """The items, ascending, that hold so many labelled residues; all where there are fewer.

    Taken whole in an order drawn from seed 0, until there are enough.
    """
    order = np.random.default_rng(0).permutation(len(part))
    total = np.cumsum((~np.isnan(part.targets[order])).sum(1))
    return np.sort(order[: np.searchsorted(total, most) + 1])


def labelled_residues(
    states: Sequence[np.ndarray], targets: Float[np.ndarray, "n k"]
) -> tuple[np.ndarray, np.ndarray]:
    """What stands at the labelled places of n items, one row each, and (m, 1) labels.

    Args:
        states: n arrays (letters, ...).
        targets: class numbers, nan = missing; places beyond a text's end are none.
    """
    chosen, labels = [], []
    for state, row in zip(states, targets):
        row = row[: len(state)]
        have = np.flatnonzero(~np.isnan(row))
        chosen.append(state[have])
        labels.append(row[have])
    if not chosen:
        return np.zeros((0, 0)), np.zeros((0, 1))
    return np.concatenate(chosen), np.concatenate(labels)[:, None]


def in_rows(guesses: Sequence[Sequence[float]], places: int) -> Float[np.ndarray, "n k"]:
    """Predictions of single residues as one row an item; 0 beyond the end of a text."""
    rows = np.zeros((len(guesses), places))
    for row, guess in zip(rows, guesses):
        row[: len(guess)] = guess[:places]
    return rows


def residues_for_seeds(encoder: Encoder, layer: int | None = None) -> Callable[[int], Residues]:
    """`residue_states` by seed; a trained model has the same ones for every seed."""
    if encoder.params is None:
        return functools.cache(lambda seed: residue_states(encoder, seed, layer))
    fixed = residue_states(encoder, 0, layer)
    return lambda seed: fixed


def residue_states(encoder: Encoder, seed: int, layer: int | None = None) -> Residues:
    """A function from texts to the frozen model's float32 states of their letters, (letters, d).

    A text longer than a row is read in windows of a row, one behind the other, the last one moved
    back to be full: no letter goes without a state.

    Args:
        encoder: the model; its tokens are letters.
        seed: of random parameters.
        layer: as of `Encoder.features`.

    Raises:
        UserError: the model has no such layer.
    """
    spec, params = cut_above(encoder.spec, encoder.params_for(seed), layer)
    model = spec.build()
    vocabulary = encoder.data.tokenizer().vocabulary
    special = np.array([vocabulary.cls, vocabulary.eos, vocabulary.pad])

    @jax.jit
    def hidden(params, batch):
        if layer == 0:
            return model.apply(params, batch, collect=("layers",)).layers[0]
        return model.apply(params, batch).hidden

    def embed(texts: Sequence[str]) -> list[np.ndarray]:
        if not len(texts):
            return []
        whole = encoder.tokenize(texts)
        for text, ids in zip(texts, whole):
            if np.count_nonzero(~np.isin(ids, special)) != len(text):
                raise UserError(
                    f"{encoder.name} does not read {text[:20]!r}... letter by letter: it has no "
                    "state of each residue"
                )
        window = encoder.data.max_tokens - np.count_nonzero(np.isin(whole[0], special))
        pieces = [
            (i, max(0, min(start, len(text) - window)))
            for i, text in enumerate(texts)
            for start in range(0, len(text), window)
        ]
        sequences = encoder.tokenize([texts[i][at : at + window] for i, at in pieces])
        packed = pack_examples(
            sequences,
            vocabulary,
            max_tokens=encoder.row_tokens(sequences),
            segments=encoder.data.segments,
            batch_size=ROWS,
        )
        states = [np.zeros((len(text), spec.width), np.float32) for text in texts]
        places = np.stack([packed.row, packed.segment], axis=1)
        for number, batch in enumerate(packed.batches):
            found = np.asarray(hidden(params, batch), np.float32)
            for piece in np.flatnonzero(packed.batch == number):
                row, segment = places[piece]
                own = (batch.segment_ids[row] == segment + 1) & ~np.isin(batch.tokens[row], special)
                item, start = pieces[piece]
                states[item][start : start + window] = found[row, own]
        return states

    return embed


def _same_width(rows: list[np.ndarray]) -> list[np.ndarray]:
    """Training and validation features and labels, an empty validation part (0, d)."""
    x, y, x_valid, y_valid = rows
    return [x, y, x_valid if len(x_valid) else np.zeros((0, x.shape[1]), x.dtype), y_valid]
