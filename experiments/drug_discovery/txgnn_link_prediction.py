"""Drug repurposing on Hetionet's cut, after TxGNN (Huang et al. 2024).

    biofm repurpose experiments/drug_discovery/txgnn_link_prediction.py --disease "hypertension"
    biofm repurpose experiments/drug_discovery/txgnn_link_prediction.py --evaluate True

Two R-GCN layers are pretrained to tell the facts of the graph, without any edge between a compound
and a disease, from corrupted ones; then tuned on the known treatments of the training folds.

Hardware and time: two shared CPU cores; 600 steps of pretraining in two minutes, 100 of tuning in
a quarter of one for each fold. Reached, ROC-AUC of one seed (control: not pretrained; floor: degree
prior of the same training folds): pairs at random 0.866 (control 0.804, floor 0.652); diseases
held out whole 0.756 (control 0.754, floor 0.536: there so short a pretraining adds nothing).
Mean recall of a disease's drugs among its 10 best: 0.155 (0.088, 0.115) and 0.150 (0.120, 0.147).
"""

import dataclasses

from biofm_jax.adapt.link_prediction import LinkTraining, Prototypes
from biofm_jax.data.links import LinkSpec
from biofm_jax.repurposing import LinkExperiment
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.optimizer import OptimizerSpec

pretraining = LinkTraining(
    width=64,
    bases=8,
    links=LinkSpec(near=8, far=8),
    optimizer=OptimizerSpec(learning_rate=5e-3, warmup=20),
    loop=LoopSpec(steps=600, batch_size=256, checkpoint_every=200),
)
tuning = dataclasses.replace(
    pretraining,
    optimizer=OptimizerSpec(learning_rate=1e-3, warmup=10),
    loop=LoopSpec(steps=100, batch_size=128),
)
link_experiment = LinkExperiment(pretraining, tuning, Prototypes(count=5))


def _smoke(base: LinkTraining) -> LinkTraining:
    return dataclasses.replace(
        base,
        width=8,
        bases=2,
        links=LinkSpec(near=2, far=2),
        loop=dataclasses.replace(base.loop, steps=2, batch_size=8),
    )


variants = {"smoke": LinkExperiment(_smoke(pretraining), _smoke(tuning))}
