"""ESM-2 on your proteins: masked language modelling with the published architecture.

    biofm train experiments/computational_biology/esm2_masked.py --data.path proteins.fasta

Architecture and objective are those of Lin et al. 2023 (doi 10.1126/science.ade2574): 15 % of
the residues, 80/10/10; Adam with b2 0.98, peak rate 4e-4, 2,000 steps of warm-up, then linear
decay to a tenth; weight decay 0.01. The variants are the published sizes. A batch of 2 million
tokens, as published, is 2,048 rows: raise --loop.batch_size with the number of devices.
"""

import dataclasses

from biofm_jax.data.protein import ProteinData
from biofm_jax.experiment import Experiment
from biofm_jax.objectives.masked import MaskedLM
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.optimizer import OptimizerSpec
from biofm_jax.zoo.esm import ESM2

experiment = Experiment(
    model=ESM2["8M"],
    data=ProteinData(max_tokens=1024, segments=16),
    objective=MaskedLM(rate=0.15),
    optimizer=OptimizerSpec(learning_rate=4e-4, schedule="linear", warmup=2000, b2=0.98),
    loop=LoopSpec(steps=500_000, batch_size=8, eval_every=1000, checkpoint_every=1000),
    tasks=("flip_gb1/low_vs_high", "flip_gb1/three_vs_rest", "dms_blat"),
)


def _size(name: str, remat: str = "none") -> Experiment:
    model = dataclasses.replace(ESM2[name], dtype="bfloat16", remat=remat)
    return dataclasses.replace(experiment, model=model)


variants = {
    "35M": dataclasses.replace(experiment, model=ESM2["35M"]),
    "150M": _size("150M"),
    "650M": _size("650M", remat="dots"),
    "3B": _size("3B", remat="full"),
    "15B": _size("15B", remat="full"),
    "smoke": dataclasses.replace(
        experiment,
        model=dataclasses.replace(ESM2["8M"], layers=2, width=64, heads=4),
        data=ProteinData(max_tokens=128, segments=4, holdout=0.1),
        optimizer=OptimizerSpec(warmup=2),
        loop=LoopSpec(steps=2, batch_size=8, log_every=1, checkpoint_every=2),
    ),
}
