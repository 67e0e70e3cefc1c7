r"""Which objective? The survey's three ways to pretrain, on one backbone, data set and budget.

    biofm sweep experiments/ablations/objective.py --over variant=masked,next_token,contrastive \
        --seeds 3 --task bbbp esol lipophilicity --out runs/objective

Masked, next-token and contrastive pretraining (two random SMILES of one molecule) of the same
3-layer transformer on the same 33,326 ChEMBL molecules and the same budget of 1 million tokens,
then a linear probe on mean-pooled states. Masked and next-token runs take 500 steps of 16 rows
of 128 tokens; the contrastive one 125 steps of 32 rows in two views, because its negatives are
the rest of the batch. `biofm train experiments/ablations/objective.py:contrastive` runs one cell.

    biofm sweep experiments/ablations/objective.py --over variant=masked,next_token,contrastive \
        --over loop.steps=400 --match tokens --seeds 2 --task bbbp esol \
        --fraction 3 10 30 100 --out runs/objective_labels

asks the same of few labels: a curve over their share for each task (labels_bbbp.png, ...), at 0.8
million tokens, in about 80 seconds a cell on two cores. Few labels bring out no gain either.

The nine cells of the first take 13 minutes 34 seconds on two cores. Found: no objective is better
than its own random-initialised control on any of the three tasks; table and plot in
experiments/README.md.
"""

import dataclasses

from biofm_jax.data.molecule import MoleculeData
from biofm_jax.data.smiles import SmilesTokenizer
from biofm_jax.experiment import Experiment
from biofm_jax.models.heads import ProjectionHead
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.objectives.contrastive import Contrastive
from biofm_jax.objectives.masked import MaskedLM
from biofm_jax.objectives.next_token import NextToken
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.optimizer import OptimizerSpec

vocabulary = SmilesTokenizer().vocabulary

experiment = Experiment(
    model=TransformerSpec(
        vocabulary=vocabulary.size, layers=3, width=128, heads=4, special=vocabulary.special
    ),
    data=MoleculeData(
        path="$BIOFM_DATA/drug/smiles_pretrain/chembl_sparse_ts_valid.csv.gz",
        max_tokens=128,
        segments=8,
        holdout=0.02,
    ),
    objective=MaskedLM(rate=0.15),
    optimizer=OptimizerSpec(learning_rate=2e-3, warmup=50),
    loop=LoopSpec(steps=500, batch_size=16, eval_every=250, checkpoint_every=250),
    tasks=("bbbp", "esol", "lipophilicity"),
)


def next_token(base: Experiment) -> Experiment:
    """The same run, causal."""
    return dataclasses.replace(
        base, model=dataclasses.replace(base.model, causal=True), objective=NextToken()
    )


def contrastive(base: Experiment) -> Experiment:
    """The same tokens in pairs of views: twice the rows, two views each, a quarter of the steps."""
    loop = base.loop
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, head=ProjectionHead(width=128)),
        data=dataclasses.replace(base.data, views=8),
        objective=Contrastive(temperature=0.1),
        optimizer=dataclasses.replace(base.optimizer, warmup=base.optimizer.warmup // 4),
        loop=dataclasses.replace(
            loop, batch_size=2 * loop.batch_size, steps=max(2, loop.steps // 4), eval_every=0
        ),
    )


def smoke(base: Experiment) -> Experiment:
    """A shrunk run on molecules that ship with rdkit."""
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, layers=2, width=32, heads=2),
        data=MoleculeData(max_tokens=64, segments=4, holdout=0.1, tolerance=0.01),
        optimizer=OptimizerSpec(warmup=2),
        loop=LoopSpec(steps=2, batch_size=16, log_every=1, checkpoint_every=2),
    )


variants = {
    "masked": lambda base: base,
    "next_token": next_token,
    "contrastive": contrastive,
    "smoke": smoke,
    "smoke_contrastive": lambda base: contrastive(smoke(base)),
}
