"""GROVER: what stands around hidden atoms, and the functional groups of the molecule.

    biofm train experiments/drug_discovery/grover_masked.py --data.path molecules.smi

A transformer over atoms whose queries, keys and values are made by message passing of random
depth (Rong et al. 2020, arXiv:2007.02835); one view and a quarter of the width of its base model.
`:base` has the published width of 800. The chosen atoms are hidden; `--objective.mask 0` is the
published code, which hides none. Without --data.path it reads the NCI molecules in rdkit's wheel
(8 of 4,999 do not parse and 2 are cages with too many bonds, hence the tolerance).
"""

import dataclasses

from biofm_jax.data.molecule_graph import ATOM_FEATURES, BOND_FEATURES, AtomTokenizer
from biofm_jax.data.molecule_motifs import MOTIFS, MoleculeMotifData
from biofm_jax.experiment import Experiment
from biofm_jax.models.grover import ContextMotifHead, GroverSpec
from biofm_jax.objectives.grover import ContextMotif
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.optimizer import OptimizerSpec

vocabulary = AtomTokenizer().vocabulary

experiment = Experiment(
    model=GroverSpec(
        vocabulary=vocabulary.size,
        features=ATOM_FEATURES,
        bonds=BOND_FEATURES,
        width=200,
        mask=vocabulary.mask,
        head=ContextMotifHead(contexts=2048, motifs=MOTIFS),
    ),
    data=MoleculeMotifData(max_tokens=256, segments=16, holdout=0.05, tolerance=0.01),
    objective=ContextMotif(),
    optimizer=OptimizerSpec(learning_rate=5e-4, warmup=200, weight_decay=1e-5),
    loop=LoopSpec(steps=5000, batch_size=16, eval_every=500, checkpoint_every=500),
    tasks=("bbbp", "bace", "esol", "freesolv", "lipophilicity"),
)

variants = {
    "base": dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, width=800)),
    "smoke": dataclasses.replace(
        experiment,
        model=dataclasses.replace(
            experiment.model, width=32, hops=2, head=ContextMotifHead(contexts=256, motifs=MOTIFS)
        ),
        data=MoleculeMotifData(max_tokens=128, segments=8, holdout=0.1, tolerance=0.01),
        optimizer=OptimizerSpec(warmup=2),
        loop=LoopSpec(steps=2, batch_size=8, log_every=1, checkpoint_every=2),
    ),
}
