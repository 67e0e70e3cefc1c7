"""HINT in three steps: words of criteria, labels of molecules, then outcomes of trials."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from scipy.special import expit

from biofm_jax.adapt.labelled import Adapter, Labelled
from biofm_jax.adapt.probe import FEWEST_VALIDATION_LABELS
from biofm_jax.data.admet import AdmetMolecules
from biofm_jax.data.icd10 import Hierarchy
from biofm_jax.data.in_memory import example_batches
from biofm_jax.data.molecule_graph import AtomTokenizer
from biofm_jax.data.trial import Trial
from biofm_jax.data.trial_batches import TrialData, TrialStore
from biofm_jax.errors import UserError
from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.interaction_graph import ADMET
from biofm_jax.models.trial_outcome import TrialOutcomeSpec
from biofm_jax.objectives.masked import MaskedLM
from biofm_jax.objectives.supervised import Supervised
from biofm_jax.train.lock import locked
from biofm_jax.train.loop import Fit, LoopSpec, fit
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.optimizer import OptimizerSpec

BATCH = 32  # trials predicted at a time
MOLECULES = 24  # in a row of atoms, at most


@dataclasses.dataclass(frozen=True)
class Step:
    """How one of the two pretrainings is run.

    Attributes:
        optimizer: optimizer and schedule.
        loop: length; batch_size is in rows of packed sentences or molecules.
    """

    optimizer: OptimizerSpec = OptimizerSpec(learning_rate=2e-3, warmup=50)
    loop: LoopSpec = LoopSpec(steps=200, batch_size=16, checkpoint_every=100)


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """How outcomes are learned.

    Attributes:
        model: HINT.
        data: the shapes of a batch.
        optimizer: optimizer and schedule.
        loop: length; batch_size is in trials. Of the points where the held-out loss is measured
            the best is kept.
    """

    model: TrialOutcomeSpec
    data: TrialData
    optimizer: OptimizerSpec
    loop: LoopSpec


@dataclasses.dataclass(frozen=True)
class TrialModel:
    """A model that predicts.

    Attributes:
        outcomes: what it is.
        hierarchy: the ICD-10 codes that it knows.
        params: of the model.
    """

    outcomes: Outcomes
    hierarchy: Hierarchy
    params: Any

    def predict(self, trials: Sequence[Trial]) -> Float[np.ndarray, " n"]:
        """The probability that each trial succeeds."""
        if not trials:
            return np.zeros(0)
        return self.predict_store(self.outcomes.data.store(trials, self.hierarchy))

    def predict_store(self, store: TrialStore) -> Float[np.ndarray, " n"]:
        """The same of a store's trials."""
        apply, found = _predictor(self.outcomes.model), []
        for start in range(0, len(store), BATCH):
            index = np.arange(start, start + BATCH)
            batch = store.take(np.where(index < len(store), index, -1))
            found.append(np.asarray(apply(self.params, batch))[:, 0])
        return expit(np.concatenate(found)[: len(store)].astype(np.float64))


_PREDICTORS: dict[TrialOutcomeSpec, Callable] = {}


def _predictor(spec: TrialOutcomeSpec) -> Callable:
    """(params, batch) -> (b, 1) logits, compiled once for each model."""
    if spec not in _PREDICTORS:
        model = spec.build()
        _PREDICTORS[spec] = jax.jit(lambda params, batch: model.apply(params, batch).logits)
    return _PREDICTORS[spec]


def _run(model, objective, batches, step: Step, workdir, title: str, **more) -> Fit:
    with locked(workdir):
        return fit(
            model,
            objective,
            batches,
            optimizer=step.optimizer,
            mesh=MeshSpec(data=1).build(jax.devices()[:1]),
            loop=step.loop,
            workdir=workdir,
            title=title,
            **{"unit": "words", **more},
        )


def pretrain_criteria(
    outcomes: Outcomes,
    step: Step,
    trials: Sequence[Trial],
    workdir: Path | None = None,
    show: bool = True,
) -> Any:
    """The parameters of the criteria's encoder after masked language modelling of sentences.

    Args:
        outcomes: names encoder and tokenizer.
        step: how to.
        trials: whose sentences are read, each once: the training trials.
        workdir: of the run, which goes on where it stopped.
        show: progress.
    """
    words, data = outcomes.data.tokenizer(), outcomes.data
    sides = ((trial.criteria.inclusion, trial.criteria.exclusion) for trial in trials)
    texts = list(dict.fromkeys(text for pair in sides for side in pair for text in side))
    if not texts:
        raise UserError("the training trials have no criteria to learn words from")
    flat, offsets = words.encode_many(texts)
    sentences = [flat[a:b][: data.sentence] for a, b in itertools.pairwise(offsets)]
    model = dataclasses.replace(outcomes.model.criteria, head=LanguageHead()).build()
    batches = example_batches(
        sentences,
        words.vocabulary,
        max_tokens=data.max_tokens,
        segments=data.segments,
        batch_size=step.loop.batch_size,
        seed=step.loop.seed,
    )
    objective = MaskedLM().build(words.vocabulary)
    done = _run(model, objective, batches, step, workdir, "words of criteria", show=show)
    return {k: v for k, v in jax.device_get(done.state.params).items() if k != "head"}


def pretrain_admet(
    outcomes: Outcomes,
    step: Step,
    molecules: AdmetMolecules,
    workdir: Path | None = None,
    show: bool = True,
) -> dict[str, Any]:
    """The parameters of the molecules' encoder and the ADMET nodes, after learning their labels.

    Molecules larger than a row are left out.

    Args:
        outcomes: names the model.
        step: how to.
        molecules: with labels in the order of the model's ADMET heads.
        workdir: of the run, which goes on where it stopped.
        show: progress.
    """
    if molecules.labels.shape[1] != sum(outcomes.model.admet):
        raise UserError(
            f"model.admet {outcomes.model.admet} are {sum(outcomes.model.admet)} labels, and the "
            f"molecules have {molecules.labels.shape[1]}"
        )
    fits = np.array([len(graph) <= outcomes.data.atoms for graph in molecules.graphs])
    batches = example_batches(
        [graph for graph, small in zip(molecules.graphs, fits) if small],
        AtomTokenizer().vocabulary,
        max_tokens=outcomes.data.atoms,
        segments=MOLECULES,
        batch_size=step.loop.batch_size,
        seed=step.loop.seed,
        labels=molecules.labels[fits].astype(np.float32),
    )
    objective = Supervised("binary").build(AtomTokenizer().vocabulary)
    model = outcomes.model.build()
    done = _run(
        model, objective, batches, step, workdir, "labels of molecules", show=show, unit="atoms"
    )
    return admet_part(jax.device_get(done.state.params))


def admet_part(params: Any) -> dict[str, Any]:
    """What molecules alone train: their encoder, its node and the ADMET nodes with their heads."""
    nodes = {name: params["nodes"][name] for name in ("molecule", *ADMET)}
    return {"molecule": params["molecule"], "admet": params["admet"], "nodes": nodes}


def grafted(params: Any, pretrained: Mapping[str, Any]) -> Any:
    """Parameters with those of a pretraining in their place.

    Args:
        params: of the whole model.
        pretrained: parts of that tree.

    Raises:
        UserError: a part has another shape: it was pretrained with another model.
    """
    out = dict(params)
    for name, part in pretrained.items():
        if name == "nodes":
            out[name] = grafted(params[name], part)
            continue
        shapes = [jax.tree.map(np.shape, tree) for tree in (params[name], part)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"the pretrained {name} does not fit the model: it was pretrained with other "
                "sizes; choose another --workdir"
            )
        out[name] = part
    return out


def train_outcomes(
    outcomes: Outcomes,
    train: TrialStore,
    seed: int,
    pretrained: Mapping[str, Any] | None = None,
    valid: TrialStore | None = None,
    show: bool = False,
) -> TrialModel:
    """Learn outcomes, from pretrained parts or from random ones.

    Args:
        outcomes: how to.
        train: trials to learn from; their hierarchy is the model's.
        seed: of parameters, order and dropout.
        pretrained: parts of the parameters, as of `grafted`; None: all are random.
        valid: trials to choose the point to stop at on; None or too few: the last one.
        show: progress.
    """
    outcomes.model.check_opened(train)
    model = outcomes.model.build()
    params = jax.jit(model.init)(jax.random.key(seed), None)
    if pretrained is not None:
        params = grafted(params, pretrained)
    size = min(outcomes.loop.batch_size, len(train))
    known = 0 if valid is None else int(valid.arrays.weights.sum())
    choosing = known >= FEWEST_VALIDATION_LABELS and outcomes.loop.eval_every > 0
    loop = dataclasses.replace(
        outcomes.loop,
        batch_size=size,
        seed=seed,
        eval_every=outcomes.loop.eval_every if choosing else 0,
    )

    def held_out():
        for start in range(0, len(valid), size):
            index = np.arange(start, start + size)
            yield valid.take(np.where(index < len(valid), index, -1))

    done = _run(
        model,
        Supervised("binary").build(outcomes.data.vocabulary),
        outcomes.data.batches(train, batch_size=size, seed=seed),
        Step(outcomes.optimizer, loop),
        None,
        "outcomes",
        params=params,
        held_out=held_out if choosing else None,
        keep_best=choosing,
        show=show,
    )
    best = done.best if choosing else done.state.params
    return TrialModel(outcomes, train.hierarchy, jax.device_get(best))


def trial_adapter(
    outcomes: Outcomes,
    records: Mapping[str, Trial],
    pretrained: Callable[[int], Mapping[str, Any] | None],
    keep: Callable[[TrialModel, int], None] = lambda model, seed: None,
    show: bool = False,
) -> Adapter:
    """An `Adapter` whose items are trials, by their number in the registry.

    Args:
        outcomes: how outcomes are learned.
        records: number -> trial; its own label is not looked at.
        pretrained: seed -> pretrained parts, None for the control.
        keep: is given each model and its seed.
        show: progress.
    """

    def adapt(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
        parts = [[records[name] for name in part.ids] for part in (train, valid, test)]
        hierarchy = Hierarchy.of(code for trial in parts[0] for code in trial.codes)
        stores = [
            outcomes.data.store(trials, hierarchy).with_targets(part.targets) if trials else None
            for trials, part in zip(parts, (train, valid, test))
        ]
        given = pretrained(seed)
        model = train_outcomes(outcomes, stores[0], seed, given, stores[1], show)
        keep(model, seed)
        return model.predict_store(stores[2])[:, None]

    return adapt
