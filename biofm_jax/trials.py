"""Outcomes of clinical trials: pretrain, learn, judge beside HINT and the floor, explain."""

import dataclasses
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from biofm_jax import specs
from biofm_jax.adapt.labelled import Adapter, Labelled
from biofm_jax.adapt.trial_outcome import (
    Outcomes,
    Step,
    TrialModel,
    pretrain_admet,
    pretrain_criteria,
    train_outcomes,
    trial_adapter,
)
from biofm_jax.adapt.trial_store import load_model, save_model
from biofm_jax.data.admet import read_admet
from biofm_jax.data.icd10 import Hierarchy
from biofm_jax.data.readers import file_ending
from biofm_jax.data.trial import Trial, read_top
from biofm_jax.data.trial_registry import Terms, read_registry
from biofm_jax.errors import UserError
from biofm_jax.evaluate.provenance import provenance
from biofm_jax.evaluate.results import is_baseline
from biofm_jax.evaluate.run import Contender, rows_beside_baselines
from biofm_jax.evaluate.selective import picture, risk_coverage
from biofm_jax.evaluate.table import Row
from biofm_jax.evaluate.task import data_file, get_task
from biofm_jax.evaluate.tasks.trial import PARTS
from biofm_jax.evaluate.trial_scores import released_predictions, success_scores
from biofm_jax.experiment import Experiment, load_experiment
from biofm_jax.files import write_whole
from biofm_jax.interpret.trial_occlusion import Explained, explain
from biofm_jax.models.trial_outcome import TrialOutcomeSpec

RECORD, MODEL, SCORES, CURVE = "trial.json", "model.safetensors", "scores.json", "risk_coverage.png"
JSON_ENDINGS = (".json", ".jsonl", ".ndjson")


@dataclasses.dataclass(frozen=True)
class Trials:
    """Predict outcomes of clinical trials and say what moved each prediction, or judge the model.

    Attributes:
        experiment: such as experiments/drug_discovery/hint_supervised.py, with :variant.
        evaluate: score the tasks of the experiment beside TF-IDF, HINT's released predictions and
            a control that was not pretrained; draw risk by coverage.
        trials: file of trials to predict: CSV in TOP's layout, or JSON of ClinicalTrials.gov (its
            API, version 2); by default TOP's test part.
        trial: numbers of trials among them, such as NCT01288573: which sentence, drug or code
            moved the prediction.
        criteria: masked language modelling of the training trials' sentences.
        admet: learning of molecules' labels, for the ADMET nodes.
        workdir: of pretraining and model, which go on where they stopped.
        top: lines of a table.
        out: JSON file for predictions and explanations, with all parts.
        tolerance: share of bad records of `trials` with which reading goes on.
        results: folder of the result files of `evaluate`.
        seeds: of `evaluate`, from 0.
        json: print JSON instead of tables.
    """

    experiment: tyro.conf.Positional[str]
    evaluate: bool = False
    trials: Path | None = None
    trial: tuple[str, ...] = ()
    criteria: Step = Step()
    admet: Step = Step()
    workdir: Path = Path("runs/trial")
    top: int = 12
    out: Path | None = None
    tolerance: float = 0.0
    results: Path = Path("results")
    seeds: int = 1
    json: bool = False


def load_trial_experiment(name: str) -> Experiment:
    """Read `file.py` or `file.py:variant`, an experiment on trials.

    Raises:
        UserError: no such file or variant, or an experiment of another modality.
    """
    experiment = load_experiment(name)
    if not isinstance(experiment.model, TrialOutcomeSpec):
        raise UserError(
            f"{name} is of {experiment.data.kind}, not of trials; see "
            "experiments/drug_discovery/hint_supervised.py"
        )
    experiment.check(devices=1)
    return experiment


def benchmark(root: Path | None = None) -> dict[str, tuple[Trial, ...]]:
    """TOP's phase I trials by part: train, valid, test."""
    folder = "drug/trial_outcome_phase1"
    return {part: read_top(data_file(root, f"{folder}/phase_I_{part}.csv.gz"))[0] for part in PARTS}


class TrialRun:
    """An experiment in its workdir: what is there already is not made again.

    Raises:
        UserError: the workdir belongs to another experiment, or data are missing.
    """

    def __init__(self, options: Trials):
        self.options, self.workdir, self.show = options, options.workdir, not options.json
        experiment = load_trial_experiment(options.experiment)
        self.outcomes = Outcomes(
            experiment.model, experiment.data, experiment.optimizer, experiment.loop
        )
        self.tasks = experiment.tasks
        self.parts = benchmark()
        steps = (self.outcomes, options.criteria, options.admet)
        self._own = [specs.encode(part) for part in steps]
        record = self.workdir / RECORD
        if record.exists() and _steps(record) != self._own:
            raise UserError(
                f"{self.workdir} belongs to another experiment; choose another --workdir, or give "
                "the same options to go on with that one"
            )
        self._pretrained: Mapping[str, Any] | None = None

    def pretrained(self) -> Mapping[str, Any]:
        """Parts of the model that learned words and labels of molecules."""
        if self._pretrained is None:
            given, folder, outcomes = self.options, self.workdir, self.outcomes
            claim = {"steps": self._own, **provenance()}
            write_whole(folder / RECORD, json.dumps(claim, indent=1) + "\n")
            molecules = read_admet(data_file(None, "drug/moleculenet/esol.csv.gz").parent)
            words = pretrain_criteria(
                outcomes, given.criteria, self.parts["train"], folder / "criteria", self.show
            )
            labels = pretrain_admet(outcomes, given.admet, molecules, folder / "admet", self.show)
            self._pretrained = {"criteria": words, **labels}
        return self._pretrained

    def model(self) -> TrialModel:
        """The model of seed 0, learned from the training part and chosen on the validation part."""
        path = self.workdir / MODEL
        if not path.exists():
            train, data = self.parts["train"], self.outcomes.data
            codes = Hierarchy.of(code for trial in train for code in trial.codes)
            stores = [data.store(self.parts[part], codes) for part in ("train", "valid")]
            made = train_outcomes(
                self.outcomes, stores[0], 0, self.pretrained(), stores[1], self.show
            )
            save_model(path, made)
        return load_model(path)


def _steps(record: Path) -> Any:
    """What a workdir was begun with; None: the file is another's."""
    try:
        found = json.loads(record.read_text())
    except ValueError:
        return None
    return found.get("steps") if isinstance(found, dict) else None


def judged(run: TrialRun, progress: Callable[[str], None]) -> list[Row]:
    """The rows of every task: the model, its control, the floor; the model of seed 0 is kept."""
    records = {trial.id: trial for part in run.parts.values() for trial in part}

    def keep(model: TrialModel, seed: int) -> None:
        # The first adaptation is that on all training trials; the second one calibrates.
        if seed == 0 and not (run.workdir / MODEL).exists():
            save_model(run.workdir / MODEL, model)

    tuned = trial_adapter(run.outcomes, records, lambda seed: run.pretrained(), keep, run.show)
    control = trial_adapter(run.outcomes, records, lambda seed: None, show=run.show)
    contender = Contender(run.workdir.name, "tuned", _remembered(tuned), _remembered(control))
    rows = []
    for task in run.tasks:
        rows += rows_beside_baselines(
            get_task(task),
            contender,
            seeds=range(run.options.seeds),
            out=run.options.results,
            progress=progress,
        )
    return rows


def _remembered(adapter: Adapter) -> Adapter:
    """The same adapter: what it said of the same items once, it says again without learning."""
    kept: dict[tuple, np.ndarray] = {}

    def adapt(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
        labels = (part.targets.tobytes() for part in (train, valid))
        key = (train.ids, valid.ids, test.ids, *labels, seed)
        if key not in kept:
            kept[key] = adapter(train, valid, test, seed)
        return kept[key]

    return adapt


def scored(rows: Sequence[Row], task: str, workdir: Path) -> list[dict]:
    """All scores of all methods on the same trials, the mean over seeds; written with a picture.

    Args:
        rows: of `judged`.
        task: one of the experiment's.
        workdir: gets `scores.json` and `risk_coverage.png`.
    """
    data = get_task(task).data(None)
    truth = data.tested.targets[:, 0]
    guesses: dict[str, list[np.ndarray]] = {}
    for row in rows:
        if row.task != task:
            continue
        kept = [result.predictions for result in row.results]
        guesses[row.model] = [each.predicted[:, 0] for each in kept]
        if not is_baseline(row.method):
            guesses["control, not pretrained"] = [each.control[:, 0] for each in kept]
    guesses["HINT, released"] = [released_predictions(None, data)]
    table = []
    for name, each in guesses.items():
        found = [success_scores(truth, guess) for guess in each]
        means = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
        table.append({"method": name, "seeds": len(each), **means})
    write_whole(workdir / SCORES, json.dumps(table, indent=1) + "\n")
    # Of several seeds the first, as everywhere where one model stands for all.
    curves = {name: risk_coverage(truth, each[0]) for name, each in guesses.items()}
    image = io.BytesIO()
    picture(curves).savefig(image, format="png", dpi=180)
    write_whole(workdir / CURVE, image.getvalue())
    return table


def asked_trials(run: TrialRun) -> tuple[Trial, ...]:
    """The trials to predict.

    Raises:
        UserError: as the readers, or a number that is not among the trials.
    """
    found, options = run.parts["test"], run.options
    if options.trials is not None:
        given = {"tolerance": options.tolerance}
        if file_ending(options.trials) in JSON_ENDINGS:
            found, bad = read_registry(options.trials, Terms.of(run.parts["train"]), **given)
        else:
            found, bad = read_top(options.trials, **given)
        if bad.records:
            bad.write(run.workdir / "bad_records.jsonl")
    names = {trial.id for trial in found}
    if missing := [name for name in options.trial if name not in names]:
        raise UserError(f"there is no trial {missing[0]} among the {len(found)} read")
    return found


def predictions(model: TrialModel, trials: Sequence[Trial]) -> list[dict]:
    """The probability of success of each trial, with what the model could read of it."""
    store = model.outcomes.data.store(trials, model.hierarchy)
    arrays = store.arrays
    known = arrays.codes[:, :, 0] >= 0
    return [
        {
            "trial": trial.id,
            "success": float(chance),
            "label": None if math.isnan(trial.label) else int(trial.label),
            "molecules": int((arrays.molecules.examples[i] >= 0).sum()),
            "codes": int(known[i].sum()),
            "sentences": int((arrays.sides[i] > 0).sum()),
        }
        for i, (trial, chance) in enumerate(zip(trials, model.predict_store(store)))
    ]


def explanations(
    model: TrialModel, trials: Sequence[Trial], names: Sequence[str]
) -> list[Explained]:
    """What moved the predictions of the named trials."""
    by_name = {trial.id: trial for trial in trials}
    return [explain(model, by_name[name]) for name in names]


def explained_rows(found: Explained) -> list[dict]:
    """The parts of a trial as lines of a table; effect None: not read, for want of room."""
    drugs = set(found.trial.drugs)
    named = f"{found.trial.drugs[0]}: " if len(drugs) == len(found.trial.smiles) == 1 else ""
    return [
        {
            "kind": moved.kind,
            "effect": None if math.isnan(moved.effect) else moved.effect,
            "success without": moved.without,
            "part": f"{named if moved.kind == 'drug' else ''}{moved.part}",
        }
        for moved in found.moved
    ]
