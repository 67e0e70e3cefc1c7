"""Uni-Mol: masked and moved atoms of molecules in space, by attention that carries every pair.

    biofm train experiments/drug_discovery/unimol_masked.py --data.path molecules.csv

Model and objective as in Zhou et al. 2023 (ChemRxiv 10.26434/chemrxiv-2022-jjm0j-v4): 15 % of the
atoms hidden and moved by up to 1 angstrom along each axis; elements, coordinates and distances
restored with weights 1, 5 and 10. One conformer of each molecule, by rdkit's ETKDG without a force
field, where the authors draw one of ten and a flat one in each epoch; a molecule for which there is
none is flat, as theirs. The variant `base` has the published size, that of `biofm import
unimol_no_h`. Without --data.path it reads the NCI molecules in rdkit's wheel (8 of 4,999 do not
parse, hence the tolerance), which are embedded once, in 90 seconds of one core; `smoke` reads the
11 of one of its examples.
"""

import dataclasses

from biofm_jax.data.molecule_conformer import ConformerData
from biofm_jax.experiment import Experiment
from biofm_jax.models.pair_transformer import PairTransformerSpec
from biofm_jax.objectives.unimol import UniMol
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.optimizer import OptimizerSpec

data = ConformerData(max_tokens=128, segments=6, holdout=0.05, tolerance=0.01, flat=True)

experiment = Experiment(
    model=PairTransformerSpec(layers=6, width=128, heads=8, kernels=32),
    data=data,
    objective=UniMol(),
    optimizer=OptimizerSpec(
        learning_rate=5e-4, schedule="linear", warmup=200, b2=0.99, weight_decay=1e-4
    ),
    loop=LoopSpec(steps=5000, batch_size=16, eval_every=500, checkpoint_every=500),
    tasks=("bbbp", "bace", "esol", "freesolv", "lipophilicity"),
)

variants = {
    "base": dataclasses.replace(
        experiment,
        model=PairTransformerSpec(remat="full"),
        optimizer=dataclasses.replace(experiment.optimizer, learning_rate=1e-4, warmup=10_000),
        loop=LoopSpec(steps=1_000_000, batch_size=64, eval_every=5000, checkpoint_every=5000),
    ),
    "small": dataclasses.replace(
        experiment,
        model=PairTransformerSpec(layers=4, width=64, heads=4, kernels=16),
        optimizer=dataclasses.replace(experiment.optimizer, learning_rate=1e-3, warmup=100),
        loop=LoopSpec(steps=2000, batch_size=8, eval_every=250, checkpoint_every=500),
    ),
    "smoke": dataclasses.replace(
        experiment,
        model=PairTransformerSpec(layers=2, width=16, heads=2, kernels=4),
        data=ConformerData(
            path="rdkit:../Contrib/mmpa/data/sample.smi", max_tokens=64, segments=2, holdout=0.0
        ),
        optimizer=OptimizerSpec(warmup=2),
        loop=LoopSpec(steps=2, batch_size=8, log_every=1, checkpoint_every=2),
    ),
}
