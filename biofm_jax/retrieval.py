"""Retrieval of one view by the other among the held-out records of a contrastive run."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.data.batch import Batch
from biofm_jax.data.image_store import ImageStore
from biofm_jax.errors import UserError
from biofm_jax.evaluate.bootstrap import interval, resampled_counts
from biofm_jax.evaluate.metrics_number import weighted_mean
from biofm_jax.evaluate.metrics_retrieval import recall_at_k
from biofm_jax.experiment import EXPERIMENT, Experiment, load_encoder, load_experiment
from biofm_jax.objectives.api import Objective
from biofm_jax.starting import started
from biofm_jax.zoo.store import is_stored

ROWS = 16  # rows of a batch


@dataclasses.dataclass(frozen=True)
class Retrieve:
    """Find one view of a held-out record by the other, among those of all held-out records.

    Attributes:
        model: folder of a run whose objective compares two views (its last checkpoint;
            FOLDER@best for the best one), or random:EXPERIMENT.py for an untrained control.
        experiment: for the folder of an import, which has no records of its own: the experiment
            whose held-out records are searched.
        k: the share of queries whose own record is among so many best.
        candidates: at most so many held-out records; the first ones of the data.
        seed: of random views and of the control's parameters.
        json: print JSON instead of a table.
    """

    model: tyro.conf.Positional[str]
    experiment: str = ""
    k: tuple[int, ...] = (1, 5, 10)
    candidates: int = 1000
    seed: int = 0
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


@dataclasses.dataclass(frozen=True)
class Views:
    """Both views of n records in one space.

    Attributes:
        first: (n, d) float32 of length 1.
        second: (n, d).
        batches: what was read; `examples` are numbers of records.
        records: (n,) the record of each row, ascending.
        same: (n,) a number that equal records share; of images with captions, equal images.
        distinct: (m,) rows with first views of their own: an image with many captions is one.
    """

    first: np.ndarray
    second: np.ndarray
    batches: list[Batch]
    records: np.ndarray
    same: np.ndarray
    distinct: np.ndarray


def retrieve(options: Retrieve, progress: Callable[[str], None]) -> list[dict]:
    """Recall in both directions, beside the untrained model's and what chance gives.

    Args:
        options: of the command.
        progress: takes a line before each piece of work.

    Returns:
        A row for each direction and k: `recall` with its 95 % interval over queries that are
        drawn again, `untrained` (None where the model itself is), `token_counts` (views compared
        by how often each token that both vocabularies have occurs; None where the views share
        fewer than two), `chance`, `ceiling` (the best there is: more right ones than k cannot be
        among k, and a text that several images have fits each), and the numbers of `queries` and
        `candidates`. An image with several captions is one query, and one candidate.

    Raises:
        UserError: no run, an objective that compares no views, no held-out records, k below 1.
    """
    if options.candidates < 2 or not options.k or min(options.k) < 1:
        raise UserError("--candidates must be 2 or more, and --k 1 or more")
    encoder, experiment = searched(options.model, options.experiment)
    objective = experiment.objective.built_for(experiment.model, experiment.data)
    if objective.embed is None:
        raise UserError(
            f"{options.model} was trained by {type(experiment.objective).__name__}, which compares "
            "no views; retrieval is of contrastive runs"
        )
    if not experiment.data.holdout:
        raise UserError(f"{options.model} held no records out (data.holdout is 0)")
    progress(f"{encoder.name}: held-out records in both views")
    found = views(encoder, experiment, objective, options)
    untrained = None
    if encoder.params is not None:
        progress("the untrained model on the same records")
        untrained = views(encoder.control(), experiment, objective, options)
    counts, once = token_counts(found, experiment), found.distinct
    perfect = oracle(found)
    rows = []
    for direction in ("first->second", "second->first"):
        forth = direction == "first->second"
        relevant = found.same[once][:, None] == found.same
        relevant = relevant if forth else relevant.T

        def recalls(pair, k, forth=forth, relevant=relevant):
            one, other = (pair[0][once], pair[1]) if forth else (pair[1], pair[0][once])
            return recall_at_k(relevant, similarity(one, other), k)

        for k in options.k:
            values = recalls((found.first, found.second), k)
            low, high = interval(resampled_counts(partial(weighted_mean, values), len(values)))
            best = relevant.astype(float) if forth else perfect
            rows.append(
                {
                    "direction": direction,
                    "k": k,
                    "recall": float(values.mean()),
                    "low": low,
                    "high": high,
                    "untrained": None
                    if untrained is None
                    else float(recalls((untrained.first, untrained.second), k).mean()),
                    "token_counts": None if counts is None else float(recalls(counts, k).mean()),
                    "chance": min(1.0, k / relevant.shape[1]),
                    "ceiling": float(recall_at_k(relevant, best, k).mean()),
                    "queries": relevant.shape[0],
                    "candidates": relevant.shape[1],
                }
            )
    return rows


def oracle(found: Views) -> np.ndarray:
    """(n, m) the best score of a first view for a second one: how often they belong together.

    A caption that several images have ("is this a ct? yes") cannot tell which one is meant.
    """
    keys: dict[bytes, int] = {}
    text = found.same
    place = {record: row for row, record in enumerate(found.records.tolist())}
    view = found.batches[0].pair
    if view is not None and view.images is None and view.graph is None:
        text = np.zeros(len(found.records), int)
        for batch in found.batches:
            for r, s in np.argwhere(batch.examples >= 0):
                if (row := place.get(int(batch.examples[r, s]))) is not None:
                    key = batch.pair.tokens[r, batch.pair.segment_ids[r] == s + 1].tobytes()
                    text[row] = keys.setdefault(key, len(keys))
    counts = np.zeros((text.max() + 1, found.same.max() + 1))
    np.add.at(counts, (text, found.same), 1)
    return counts[text][:, found.same[found.distinct]]


def searched(model: str, experiment: str) -> tuple[Encoder, Experiment]:
    """A model, and the experiment whose records are searched with it.

    Args:
        model: as `load_encoder` reads it.
        experiment: of an import; else empty.

    Raises:
        UserError: an import without an experiment, or a run with one; as `started`.
    """
    if is_stored(Path(model)):
        if not experiment:
            raise UserError(
                f"{model} is an import and has no records of its own; name an experiment whose "
                "held-out records are searched: --experiment "
                "experiments/medical_imaging/clip_contrastive.py"
            )
        found, encoder = started(load_experiment(experiment), model)
        return encoder, found
    if experiment:
        raise UserError(
            f"{model} is a run, whose own records are searched; --experiment is of imports"
        )
    return load_encoder(model), experiment_of(model)


def experiment_of(model: str) -> Experiment:
    """The experiment of a run or of a control, named as `load_encoder` reads it."""
    if model.startswith("random:"):
        return load_experiment(model.removeprefix("random:"))
    return load_experiment(f"{model.partition('@')[0]}/{EXPERIMENT}")


def similarity(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """(q, c) negative squared distances; of vectors of length 1 these rank as cosines do."""
    squares = (candidates**2).sum(1)
    return 2 * queries.astype(np.float64) @ candidates.T - squares - (queries**2).sum(1)[:, None]


def views(
    encoder: Encoder, experiment: Experiment, objective: Objective, options: Retrieve
) -> Views:
    """Both views of the first held-out records, as the objective embeds them.

    Raises:
        UserError: no record is held out.
    """
    data = experiment.data
    store = data.open()
    held = store.split(data.holdout, held=True)[: options.candidates]
    model, params = encoder.spec.build(), encoder.params_for(options.seed)

    @jax.jit
    def embed(params, batch):
        return objective.embed(model.apply, params, batch, jax.random.key(options.seed))[:2]

    wanted = np.full(len(store), -1)
    wanted[held] = np.arange(len(held))
    vectors, batches, missing = None, [], len(held)
    for batch in data.batches(store, batch_size=ROWS, seed=options.seed, epochs=1, holdout=True):
        place = np.where(batch.examples < 0, -1, wanted[batch.examples])
        if not (place >= 0).any():
            continue
        pair = [np.asarray(view) for view in embed(params, batch)]
        if vectors is None:
            vectors = [np.zeros((len(held), view.shape[-1]), np.float32) for view in pair]
        for into, view in zip(vectors, pair, strict=True):
            into[place[place >= 0]] = view[place >= 0]
        batches.append(batch)
        missing -= int((place >= 0).sum())
        if not missing:
            break
    if vectors is None:
        raise UserError(f"{data.path}: no record is held out; raise --data.holdout and train again")
    images = getattr(store, "first", None)
    if not isinstance(images, ImageStore):
        same = np.unique(store.hashes[held], return_inverse=True)[1]
        return Views(*vectors, batches, held, same, np.arange(len(held)))
    number = images.image[held]
    same = np.unique(images.contents[number], return_inverse=True)[1]
    return Views(*vectors, batches, held, same, np.sort(np.unique(same, return_index=True)[1]))


def token_counts(found: Views, experiment: Experiment) -> tuple[np.ndarray, np.ndarray] | None:
    """(n, v) of both views: how often each token occurs that both vocabularies have.

    The case of letters is ignored, so that of a SMILES and a graph these are about the numbers of
    atoms of each element: a simple method that knows nothing of bonds. None where the views are
    not of two vocabularies.
    """
    data = experiment.data
    if not hasattr(data, "pair_vocabulary") or found.batches[0].pair is None:
        return None
    if data.vocabulary is None or data.pair_vocabulary is None:  # images
        return None
    one, other = data.vocabulary, data.pair_vocabulary
    names = [
        [token.casefold() if i in set(v.regular) else "" for i, token in enumerate(v.tokens)]
        for v in (one, other)
    ]
    shared = sorted((set(names[0]) & set(names[1])) - {""})
    if len(shared) < 2:
        return None
    column = {name: i for i, name in enumerate(shared)}
    row = {record: i for i, record in enumerate(found.records.tolist())}
    counts = [np.zeros((len(row), len(shared))) for _ in range(2)]
    for batch in found.batches:
        for into, view, of_view in zip(counts, (batch, batch.pair), names, strict=True):
            columns = np.array([column.get(name, -1) for name in of_view])[view.tokens]
            inside = (view.segment_ids > 0) & (columns >= 0)
            r, t = np.nonzero(inside)
            record = view.examples[r, view.segment_ids[r, t] - 1]
            kept = np.array([row.get(number, -1) for number in record.tolist()], int)
            np.add.at(into, (kept[kept >= 0], columns[r, t][kept >= 0]), 1)
    return counts[0], counts[1]
