"""Masked language modelling of SMILES (ChemBERTa-style), on molecules that ship with rdkit.

    biofm train experiments/drug_discovery/smiles_masked.py --data.path molecules.smi

Without --data.path it reads the NCI molecules in rdkit's wheel (8 of 4,999 do not parse, hence
the tolerance). Objective as in ChemBERTa-2 (Ahmad et al. 2022, arXiv:2209.01712); rotary
positions in place of learned ones. `make quickstart` runs the variant `quickstart` (500
steps of 2,048 tokens) and evaluates it.
"""

import dataclasses

from biofm_jax.data.molecule import MoleculeData
from biofm_jax.data.smiles import SmilesTokenizer
from biofm_jax.experiment import Experiment
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.objectives.masked import MaskedLM
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.optimizer import OptimizerSpec

vocabulary = SmilesTokenizer().vocabulary

experiment = Experiment(
    model=TransformerSpec(
        vocabulary=vocabulary.size, layers=6, width=256, heads=8, special=vocabulary.special
    ),
    data=MoleculeData(max_tokens=256, segments=16, holdout=0.05, tolerance=0.01),
    objective=MaskedLM(rate=0.15),
    optimizer=OptimizerSpec(learning_rate=5e-4, warmup=200),
    loop=LoopSpec(steps=5000, batch_size=32, eval_every=500, checkpoint_every=500),
    tasks=("bbbp", "bace", "esol", "freesolv", "lipophilicity"),
)

variants = {
    "quickstart": dataclasses.replace(
        experiment,
        model=dataclasses.replace(experiment.model, layers=3, width=128, heads=4),
        data=MoleculeData(max_tokens=128, segments=12, holdout=0.05, tolerance=0.01),
        optimizer=OptimizerSpec(learning_rate=2e-3, warmup=50),
        loop=LoopSpec(steps=500, batch_size=16, eval_every=100, checkpoint_every=250),
        tasks=("quickstart/tpsa",),
    ),
    "smoke": dataclasses.replace(
        experiment,
        model=dataclasses.replace(experiment.model, layers=2, width=32, heads=2),
        data=MoleculeData(max_tokens=64, segments=4, holdout=0.1, tolerance=0.01),
        optimizer=OptimizerSpec(warmup=2),
        loop=LoopSpec(steps=2, batch_size=8, log_every=1, checkpoint_every=2),
    ),
}
