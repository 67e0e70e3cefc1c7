"""Contrastive learning of molecules by two towers: the graph of a molecule and its SMILES.

    biofm train experiments/drug_discovery/graph_smiles_contrastive.py --data.path molecules.smi
    biofm retrieve runs/graph_smiles_contrastive

A GIN (MolCLR's sizes, as gin_contrastive.py) reads the graph, a transformer (as smiles_masked.py)
the SMILES; the loss, the shared space and the learned temperature are CLIP's (Radford et al. 2021,
arXiv:2103.00020). `biofm evaluate` takes the tower of graphs. Without --data.path it reads the NCI
molecules in rdkit's wheel (8 of 4,999 do not parse and 2 are cages with too many bonds, hence the
tolerance). The variant `quickstart` is of a size for two cores: after 500 steps 96 % of the 259
graphs held out find their SMILES among all of them, by counts of atoms alone 76 %.
"""

import dataclasses

from biofm_jax.data.molecule_graph import ATOM_FEATURES, BOND_FEATURES, AtomTokenizer
from biofm_jax.data.molecule_pair import MoleculePairData
from biofm_jax.data.smiles import SmilesTokenizer
from biofm_jax.experiment import Experiment
from biofm_jax.models.dual_encoder import DualEncoderSpec
from biofm_jax.models.graph import GraphSpec
from biofm_jax.models.heads import ProjectionHead
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.objectives.alignment import Alignment
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.optimizer import OptimizerSpec

atoms, smiles = AtomTokenizer().vocabulary, SmilesTokenizer().vocabulary


def towers(graph: dict, text: dict, width: int) -> DualEncoderSpec:
    """Both towers with sizes of their own, and a space of that width."""
    return DualEncoderSpec(
        first=GraphSpec(
            vocabulary=atoms.size,
            features=ATOM_FEATURES,
            bonds=BOND_FEATURES,
            head=ProjectionHead(width=width),
            **graph,
        ),
        second=TransformerSpec(
            vocabulary=smiles.size,
            special=smiles.special,
            head=ProjectionHead(width=width),
            **text,
        ),
    )


experiment = Experiment(
    model=towers({}, {"layers": 6, "width": 256, "heads": 8}, 256),
    data=MoleculePairData(max_tokens=128, pair_tokens=256, holdout=0.05, tolerance=0.01),
    objective=Alignment(),
    optimizer=OptimizerSpec(learning_rate=5e-4, warmup=200),
    loop=LoopSpec(steps=5000, batch_size=64, eval_every=500, checkpoint_every=500),
    tasks=("bbbp", "bace", "esol", "freesolv", "lipophilicity"),
)

variants = {
    "quickstart": dataclasses.replace(
        experiment,
        model=towers({"layers": 3, "width": 128}, {"layers": 3, "width": 128, "heads": 4}, 128),
        optimizer=OptimizerSpec(learning_rate=1e-3, warmup=50),
        loop=LoopSpec(steps=500, batch_size=16, eval_every=100, checkpoint_every=250),
    ),
    "smoke": dataclasses.replace(
        experiment,
        model=towers({"layers": 2, "width": 32}, {"layers": 2, "width": 32, "heads": 2}, 16),
        data=MoleculePairData(segments=8, holdout=0.1, tolerance=0.01),
        optimizer=OptimizerSpec(warmup=2),
        loop=LoopSpec(steps=2, batch_size=8, log_every=1, checkpoint_every=2),
    ),
}
