"""Fine-tuning of two models, of a drug and of its target, together with a head on their pairs."""

import dataclasses
import math

import jax
import numpy as np

from biofm_jax.adapt.columns import FEWEST_VALIDATION_LABELS
from biofm_jax.adapt.encoder import ROWS, Encoder, cut_above
from biofm_jax.adapt.finetune import FinetuneSpec
from biofm_jax.adapt.labelled import Adapter, Labelled
from biofm_jax.adapt.pair_probe import PairEncoder, PairFeatures, numbered, remembered
from biofm_jax.adapt.tuning import FEWEST_STEPS
from biofm_jax.data.batch import Batch
from biofm_jax.data.graphs import GraphExample
from biofm_jax.data.in_memory import example_rows
from biofm_jax.data.pair_batches import Pairs
from biofm_jax.data.pair_blocks import PairBlocks, ShuffledBlocks
from biofm_jax.data.pipeline import RowBuilder
from biofm_jax.errors import UserError
from biofm_jax.models.pair_head import PairHeadSpec, PairTowersSpec
from biofm_jax.objectives.supervised import Supervised
from biofm_jax.train.loop import LoopSpec, fit
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.optimizer import OptimizerSpec

DRUGS = 4  # of a block, for each target: their texts are shorter
LOOKS, LOOKED = 10, 16  # measurements of the validation error in a run; blocks of one


def tuned_pair_adapter(
    pair: PairEncoder, features: PairFeatures, spec: FinetuneSpec, show: bool = True
) -> Adapter:
    """An adapter that trains both models and the head on the training pairs.

    A batch is a block of `spec.rows` targets and four times as many drugs, with all their training
    pairs; an epoch is as many blocks as would hold all pairs if they were full.

    Args:
        pair: where it starts.
        features: of the same models: pooled states are standardised as the probe's.
        spec: what is trained, how long and how fast; its `freeze` names paths that begin with
            `first/`, `second/` or `head/`.
        show: whether to show progress.

    Raises:
        UserError: a layer decay: the two models may have other numbers of layers; flips or crops.
    """
    if spec.layer_decay != 1:
        raise UserError("finetune.layer_decay is of one model's layers; for pairs it must be 1")
    if spec.augments:
        raise UserError("finetune.flips and finetune.crop are of images; leave them out for pairs")
    encoders = (pair.drug.reader(), pair.target.reader())
    both = (features.drug, features.target)

    def adapt(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
        parts = (train, valid, test)
        texts, numbers = zip(*(numbered(parts, side) for side in (0, 1)))
        builders = [
            _rows(encoder, of, size)
            for encoder, of, size in zip(encoders, texts, (DRUGS * spec.rows, spec.rows))
        ]
        scales = [_scale(of(seed, t), n[0]) for of, t, n in zip(both, texts, numbers)]
        specs, starts = zip(*(cut_above(e.spec, e.params_for(seed), None) for e in encoders))
        first, second = (dataclasses.replace(s, dropout=spec.dropout) for s in specs)
        outputs = train.targets.shape[1]
        model = PairTowersSpec(
            first,
            second,
            PairHeadSpec(first.width, second.width, outputs=outputs, dropout=spec.dropout),
            *zip(*scales),
        ).build()
        fresh = jax.jit(model.init)(jax.random.key(seed), None)
        tuned = spec.cut(model, fresh | dict(zip(("first", "second"), starts)), seed)
        centre, spread = np.nanmean(train.targets, 0), np.nanstd(train.targets, 0)
        spread = np.where(spread > 0, spread, 1.0)
        learned, held = (
            PairBlocks(*builders, _table(part, numbers, i, texts, centre, spread))
            for i, part in enumerate(parts[:2])
        )
        size = DRUGS * spec.rows**2
        steps = max(FEWEST_STEPS, spec.epochs * math.ceil(len(train) / size))
        choosing = np.isfinite(valid.targets).sum() >= FEWEST_VALIDATION_LABELS
        looked = held.fullest(LOOKED) if choosing else []
        result = fit(
            tuned.model,
            Supervised("squared").build(encoders[0].data.vocabulary),
            ShuffledBlocks(learned, seed),
            optimizer=OptimizerSpec(
                learning_rate=spec.learning_rate,
                warmup=math.ceil(steps / 10),
                weight_decay=spec.weight_decay,
                b2=0.999,
            ),
            mesh=MeshSpec(data=1).build(jax.devices()[:1]),
            loop=LoopSpec(
                steps=steps,
                batch_size=DRUGS * spec.rows,
                seed=seed,
                eval_every=max(1, steps // LOOKS) if choosing else 0,
                log_every=10,
            ),
            held_out=(lambda: iter(looked)) if choosing else None,
            params=tuned.params,
            base=tuned.base,
            title=f"tune {pair.name}",
            show=show,
            keep_best=choosing,
        )
        params = result.best if choosing else result.state.params
        if tuned.base is not None:
            params = tuned.base.join(tuned.base.params, params)
        asked = np.stack([n[2] for n in numbers], 1).astype(np.int32)
        return _predicted(model, params, builders, asked, outputs) * spread + centre

    return remembered(adapt)


def _rows(encoder: Encoder, texts: list[str], size: int) -> RowBuilder:
    """What builds rows of one text each, as long as the longest; longer ones lose their tail."""
    examples = encoder.tokenize(texts)
    tokens = encoder.row_tokens(examples)
    heads = [e if isinstance(e, GraphExample) else e[:tokens] for e in examples]
    return example_rows(heads, encoder.data.vocabulary, tokens, 1, size)


def _scale(states: np.ndarray, seen: np.ndarray) -> tuple[tuple, tuple]:
    """Mean and deviation of the pooled states of the things that training pairs have."""
    known = states[np.unique(seen)]
    spread = known.std(0)
    return tuple(known.mean(0).tolist()), tuple(np.where(spread > 1e-6, spread, 1.0).tolist())


def _table(part: Labelled, numbers, number: int, texts, centre, spread) -> np.ndarray:
    """(m, n, k) labels of a part's pairs; of one pair twice the last."""
    table = np.full((len(texts[0]), len(texts[1]), len(centre)), np.nan, np.float32)
    table[numbers[0][number], numbers[1][number]] = (part.targets - centre) / spread
    return table


def _predicted(model, params, builders, asked: np.ndarray, outputs: int) -> np.ndarray:
    """(n, k) outputs for pairs: each thing is read once."""

    @jax.jit
    def read(params, batch: Batch):
        out = model.apply(params, batch)
        return out.pooled[:, 0], out.pair.pooled[:, 0]

    tables = []
    for side, builder in enumerate(builders):
        found, count = [], len(builder.store)
        for start in range(0, count, builder.batch_size):
            rows = [[i] for i in range(start, min(start + builder.batch_size, count))]
            views = [b.batch([[0]]) if n != side else b.batch(rows) for n, b in enumerate(builders)]
            found.append(np.asarray(read(params, views[0].replace(pair=views[1]))[side]))
        tables.append(np.concatenate(found)[:count])
    top = model.spec.head.build()
    params = {"head": params["head"], "tables": dict(zip(("first", "second"), tables))}
    score = jax.jit(lambda params, batch: top.apply(params, batch).logits[:, 0])
    pairs = Pairs(asked, np.zeros((len(asked), outputs), np.float32))
    size = 64 * ROWS
    found = [np.asarray(score(params, batch)) for batch in pairs.once(size)]
    return np.concatenate(found)[: len(asked)].astype(np.float64)
