"""Evaluation of a run: the model, its control and the baselines on some tasks."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

import tyro

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.features import Remembered
from biofm_jax.adapt.finetune import FinetuneSpec
from biofm_jax.adapt.fractions import limited_adapter, method_name, read_method, read_options
from biofm_jax.adapt.knn import knn_adapter
from biofm_jax.adapt.labelled import Adapter
from biofm_jax.adapt.lora_tuning import LoraSpec
from biofm_jax.adapt.methods import Tuning
from biofm_jax.adapt.pair_probe import PairEncoder, PairFeatures, pair_probe_adapter
from biofm_jax.adapt.pair_tuning import tuned_pair_adapter
from biofm_jax.adapt.probe import Kind, ProbeSpec, probe_adapter
from biofm_jax.adapt.prompt_classes import METHOD as PROMPTS
from biofm_jax.adapt.prompt_classes import prompts_adapter
from biofm_jax.adapt.prototypes import prototypes_adapter
from biofm_jax.adapt.residues import residue_probe_adapter, residues_for_seeds
from biofm_jax.adapt.tuning import tuned_adapter
from biofm_jax.adapt.zero_shot import Score, zero_shot_adapter
from biofm_jax.errors import UserError
from biofm_jax.evaluate.class_prompts import prompts_of
from biofm_jax.evaluate.floors import baseline_results
from biofm_jax.evaluate.grouping import read_groups, with_groups
from biofm_jax.evaluate.provenance import code_commit
from biofm_jax.evaluate.results import BASELINE
from biofm_jax.evaluate.run import Contender, rows_beside_baselines
from biofm_jax.evaluate.table import Row, aggregate
from biofm_jax.evaluate.task import Dataset, Task, matching_tasks
from biofm_jax.experiment import load_encoder

Method = Literal["probe", "knn", "prototypes", "finetune", "lora", "zero_shot_prompts"]
ZERO_SHOT = get_args(Score)
OF_ORDER = ("spearman", "auroc", "auprc")
BASELINES = "baselines"  # in the place of a model
PAIRED = "affinity"  # the modality whose items are read by two models
Reader = Encoder | PairEncoder
TUNED = tuple(field.name for field in dataclasses.fields(Tuning))
FROZEN = {"probe": probe_adapter, "knn": knn_adapter, "prototypes": prototypes_adapter}


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Adapt a model to tasks and score it beside its control and the tasks' baselines.

    Attributes:
        model: folder of a finished run (its last checkpoint; FOLDER@best for the best one), or
            random:EXPERIMENT.py for an untrained control; or the word baselines for the simple
            methods of the tasks alone, whatever their modality.
        partner: for tasks of two models, such as affinity/davis: the model of the protein, named as
            `model`, which reads the drug.
        task: names of `biofm list tasks`; a pattern such as flip_gb1/* takes several.
        method: on frozen features probe (linear model), knn (nearest neighbours) and prototypes
            (class centroids; no numbers); finetune (all parameters) and lora (adapters); without
            labels masked_marginal and wild_type_marginal (variants of a wild type),
            pseudo_perplexity and next_token, for metrics of order such as Spearman;
            zero_shot_prompts (a model of images and texts, classes in words).
        fraction: shares of the labels in %, such as 1 3 10 30 100 for a curve.
        shots: numbers of labels of each class instead (or of all, for numbers), such as 4 16.
        shuffle_labels: run everything once more with labels that belong to other items, the
            control that should find nothing.
        seeds: number of seeds, from 0: each is one adaptation and one control.
        out: folder of the result files; baselines there are computed once.
        groups: CSV file with a column id and any others, such as sex or site: the metric is given
            within each of their groups too. A number with many values is cut into three bands.
        apart: columns whose groups belong on one side of the split, such as patient: the leak
            report says whether they are.
        probe: what the probe reads.
        finetune: how to fine-tune.
        lora: how to tune adapters.
        dry_run: show what would run.
        json: print JSON instead of a table.
    """

    model: tyro.conf.Positional[str]
    task: tuple[str, ...]
    method: tuple[Method | Score, ...] = ("probe",)
    fraction: tuple[float, ...] = ()
    shots: tuple[int, ...] = ()
    shuffle_labels: bool = False
    seeds: int = 3
    partner: str = ""
    out: Path = Path("results")
    groups: Path | None = None
    apart: tuple[str, ...] = ()
    probe: ProbeSpec = ProbeSpec()
    finetune: FinetuneSpec = FinetuneSpec()
    lora: LoraSpec = LoraSpec()
    dry_run: bool = False
    json: bool = False


def methods(options: Evaluate) -> list[str]:
    """The names of the methods that are asked for, with their options and limits.

    Raises:
        UserError: as `limited`, or a layer below 0.
    """
    named = [BASELINE] if options.model == BASELINES else list(options.method)
    pooling, layer = options.probe.pooling, options.probe.layer
    if layer is not None and layer < 0:
        raise UserError(f"--probe.layer is {layer}; 0 is the embeddings, 1 the first block")
    probe = method_name("probe", pooling=None if pooling == "own" else pooling, layer=layer)
    named = [probe if name == "probe" else name for name in named]
    return limited(named, options.fraction, options.shots, options.shuffle_labels)


def limited(
    methods: Sequence[str],
    fraction: Sequence[float] = (),
    shots: Sequence[int] = (),
    shuffle_labels: bool = False,
) -> list[str]:
    """The names of methods with each limit to their labels, as `fractions.method_name` writes them.

    Args:
        methods: without limits.
        fraction: shares of the labels in %; neither these nor shots stands for all labels.
        shots: numbers of labels.
        shuffle_labels: whether each comes a second time with shuffled labels.

    Raises:
        UserError: a share that is none, no shots.
    """
    for share in fraction:
        if not 0 < share <= 100:
            raise UserError(f"--fraction {share:g} is no share in %: above 0, at most 100")
    for count in shots:
        if count < 1:
            raise UserError(f"--shots is {count}; it must be 1 or more")
    limits = [{"share": share / 100} for share in fraction] + [{"shots": n} for n in shots]
    mixed = (False, True) if shuffle_labels else (False,)
    return [
        method_name(method, **limit, shuffled=shuffled)
        for method in methods
        for limit in limits or [{}]
        for shuffled in mixed
    ]


def plan(patterns: Sequence[str], methods: Sequence[str], seeds: int) -> list[tuple[Task, str]]:
    """The (task, method) pairs of an evaluation, in order.

    Args:
        patterns: names of tasks, `*` stands for any part.
        methods: as `limited` names them.
        seeds: number of seeds.

    Raises:
        UserError: an unknown task, no seed, or a method that the task's labels do not fit.
    """
    if seeds < 1:
        raise UserError(f"--seeds is {seeds}; it must be 1 or more")
    pairs = [(task, method) for task in matching_tasks(patterns) for method in methods]
    for task, method in pairs:
        if read_method(method)[0] == "prototypes" and task.kind == "number":
            raise UserError(f"prototypes are of classes, and {task.name} has numbers: use knn")
        base, pooling, _ = read_options(read_method(method)[0])
        if task.modality == PAIRED and base not in ("probe", "finetune", BASELINE):
            raise UserError(
                f"{task.name} is of pairs, a text for each of two models, and of the methods only "
                f"probe (a head on both) and finetune read pairs: not {method}"
            )
        if task.kind == "residue" and (base not in ("probe", BASELINE) or pooling):
            raise UserError(
                f"{task.name} has a label for every residue, and of the methods only the probe, "
                f"without pooling, reads single residues: not {method}"
            )
        if read_method(method)[0] == PROMPTS and task.kind not in ("binary", "class"):
            raise UserError(f"{method} tells classes apart, and {task.name} has none")
        if read_method(method)[0] in ZERO_SHOT and task.metric not in OF_ORDER:
            raise UserError(
                f"{method} gives scores without a unit, and {task.name} is judged by "
                f"{task.metric}: use probe, knn, finetune or lora"
            )
    return pairs


def run(
    model: str,
    pairs: Sequence[tuple[Task, str]],
    seeds: int,
    tuning: Tuning,
    out: Path,
    progress: Callable[[str], None],
    groups: Path | None = None,
    apart: Sequence[str] = (),
    partner: str = "",
) -> list[Row]:
    """Evaluate a model on (task, method) pairs.

    Args:
        model: as `load_encoder` reads it, or `BASELINES`.
        pairs: from `plan`.
        seeds: number of seeds.
        tuning: how to fine-tune and to tune adapters.
        out: folder of the result files.
        progress: takes a line before each piece of work.
        groups: CSV file of more grouping columns; see `grouping.read_groups`.
        apart: grouping columns whose groups belong on one side of the split.
        partner: as `load_encoder` reads it, of tasks of two models; else empty.

    Returns:
        One row per pair, then one for each baseline with as few labels; those with all labels
        stand in the other rows, or are the rows where the baselines are the model.

    Raises:
        UserError: the model's modality is not a task's, or its data is missing.
    """
    code_commit()  # of the code that runs, which results will name
    columns = {} if groups is None else read_groups(groups)

    @functools.lru_cache(maxsize=1)
    def data(task: Task) -> Dataset:
        progress(f"{task.name}: reading")
        return with_groups(task.data(None), columns, apart)

    if model == BASELINES:
        given = {"seeds": range(seeds), "progress": progress}
        return [
            row
            for task, method in pairs
            for row in aggregate(baseline_results(task, data(task), out, method=method, **given))
        ]
    encoder = load_models(model, partner, [task for task, _ in pairs])
    adapters = Adapters(tuning)
    control = None if encoder.params is None else encoder.control()
    rows: dict[tuple[str, str, str], Row] = {}
    for task, method in pairs:
        dataset = data(task)

        def adapter(of: Reader, task=task, method=method, dataset=dataset) -> Adapter:
            prompts = prompts_for(method, task, dataset)
            return adapters.of(of, method, task.kind, dataset.wild_type, prompts)

        contender = Contender(
            model=encoder.name,
            method=method,
            adapter=adapter(encoder),
            control=None if control is None else adapter(control),
        )
        for row in rows_beside_baselines(
            task, contender, seeds=range(seeds), out=out, dataset=dataset, progress=progress
        ):
            if row.method != BASELINE:
                rows[row.task, row.method, row.model] = row
    return list(rows.values())


def load_models(model: str, partner: str, tasks: Sequence[Task]) -> Reader:
    """The model of an evaluation, or the two models of tasks of pairs.

    Args:
        model: as `load_encoder` reads it; of pairs the one that reads drugs.
        partner: the one that reads proteins; else empty.
        tasks: what they are evaluated on.

    Raises:
        UserError: there is no such model, or a task is of another modality.
    """
    encoder = load_encoder(model)
    kind, also = encoder.data.kind, ""
    if partner:
        other = load_encoder(partner)
        if (kind, other.data.kind) != ("molecule", "protein"):
            raise UserError(
                f"{model} reads {kind} and --partner {partner} {other.data.kind}; of a pair the "
                "model reads molecules and its partner proteins"
            )
        encoder, kind, also = PairEncoder(encoder, other), PAIRED, f" and {partner} proteins"
    for task in tasks:
        if task.modality == kind:
            continue
        if task.modality == PAIRED:
            raise UserError(
                f"{task.name} is a task of two models: beside {model}, which reads {kind}, name "
                "one that reads proteins with --partner"
            )
        read = encoder.drug.data.kind if partner else kind
        raise UserError(
            f"{task.name} is a task of {task.modality} models; {model} reads {read}{also}"
        )
    return encoder


def prompts_for(method: str, task: Task, dataset: Dataset) -> tuple[tuple[str, ...], ...]:
    """The prompts of a task's classes where a method reads some, else none."""
    return prompts_of(task, dataset) if read_method(method)[0] == PROMPTS else ()


class Adapters:
    """Adapters by model, method and kind of label, kept: each text is embedded only once."""

    def __init__(self, tuning: Tuning):
        self._tuning = tuning
        self._features: dict[tuple, Remembered | PairFeatures] = {}
        self._kept: dict[tuple, Adapter] = {}

    def of(
        self,
        encoder: Reader,
        method: str,
        kind: Kind,
        wild_type: str | None,
        prompts: tuple[tuple[str, ...], ...] = (),
    ) -> Adapter:
        """The adapter of a model by the name of a method, with its limits.

        Args:
            encoder: the model.
            method: as `limited` names it.
            kind: as `Task.kind`.
            wild_type: as of `Dataset`.
            prompts: of each class, of `zero_shot_prompts`.
        """
        # What looks at no label is shared by all tasks of one wild type.
        blind = read_method(method)[0] in ZERO_SHOT
        key = encoder.name, method, None if blind else kind, wild_type, prompts
        if key not in self._kept:
            if read_method(method)[0] == PROMPTS:
                self._kept[key] = prompts_adapter(encoder, prompts, kind)
            else:
                self._kept[key] = self._make(encoder, method, kind, wild_type)
        return self._kept[key]

    def _make(self, encoder: Reader, method: str, kind: Kind, wild_type) -> Adapter:
        base, pooling, layer = read_options(read_method(method)[0])
        if isinstance(encoder, PairEncoder):
            read = encoder.name, pooling, layer
            if read not in self._features:
                self._features[read] = encoder.features(pooling, layer)
            adapter = pair_probe_adapter(self._features[read])
            if base == "finetune":
                tuning = self._tuning.finetune
                adapter = tuned_pair_adapter(encoder, self._features[read], tuning)
            return limited_adapter(adapter, method, kind)
        if base in ZERO_SHOT:
            return zero_shot_adapter(encoder, base, wild_type)
        _check_length(encoder, base, wild_type)
        if base in TUNED:
            adapter = tuned_adapter(encoder, getattr(self._tuning, base), kind, show=True)
        elif kind == "residue":
            adapter = residue_probe_adapter(residues_for_seeds(encoder, layer))
        else:
            read = encoder.name, pooling, layer
            if read not in self._features:
                found = Remembered(functools.cache(encoder.features_for_seeds(pooling, layer)))
                self._features[read] = found
            adapter = FROZEN[base](self._features[read], kind)
        return limited_adapter(adapter, method, kind)


def _check_length(encoder: Encoder, method: str, wild_type: str | None) -> None:
    """Refuse variants of which the model would read only the start: most would look alike."""
    tokens = 0 if wild_type is None else len(encoder.tokenize([wild_type])[0])
    if tokens > encoder.data.max_tokens:
        raise UserError(
            f"the variants have {tokens:,} tokens, and {method} reads the first "
            f"{encoder.data.max_tokens:,}, a row of {encoder.name}: take a model of longer rows "
            "(--data.max_tokens), or masked_marginal, which reads a window around each mutation"
        )
