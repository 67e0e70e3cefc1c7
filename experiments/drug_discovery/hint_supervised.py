"""Outcomes of phase I trials from molecules, diseases and criteria, after HINT (Fu et al. 2022).

biofm trial experiments/drug_discovery/hint_supervised.py --evaluate True --seeds 3
biofm trial experiments/drug_discovery/hint_supervised.py --trial NCT01288573
"""

import dataclasses

from biofm_jax.adapt.trial_outcome import Outcomes, Step
from biofm_jax.data.trial_batches import TrialData
from biofm_jax.models.trial_outcome import TrialOutcomeSpec
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.optimizer import OptimizerSpec
from biofm_jax.trials import TrialExperiment

outcomes = Outcomes(
    model=TrialOutcomeSpec(width=50, highway=2, dropout=0.2),
    data=TrialData(max_tokens=384),
    optimizer=OptimizerSpec(learning_rate=1e-3, warmup=20),
    epochs=6,
    batch_size=32,
)
trial_experiment = TrialExperiment(
    criteria=Step(
        OptimizerSpec(learning_rate=2e-3, warmup=50),
        LoopSpec(steps=400, batch_size=16, checkpoint_every=200),
    ),
    admet=Step(
        OptimizerSpec(learning_rate=2e-3, warmup=50),
        LoopSpec(steps=400, batch_size=16, checkpoint_every=200),
    ),
    outcomes=outcomes,
)


def _smoke(base: TrialExperiment) -> TrialExperiment:
    small = base.outcomes.model
    model = dataclasses.replace(
        small,
        width=8,
        highway=1,
        gate=4,
        molecule=dataclasses.replace(small.molecule, layers=1, width=8),
        criteria=dataclasses.replace(small.criteria, vocabulary=69, width=8, heads=2),
    )
    data = TrialData(max_tokens=64, segments=10, atoms=128, molecules=2, codes=4, words=64)
    two = LoopSpec(steps=2, batch_size=4)
    return TrialExperiment(
        criteria=dataclasses.replace(base.criteria, loop=two),
        admet=dataclasses.replace(base.admet, loop=two),
        outcomes=dataclasses.replace(base.outcomes, model=model, data=data, epochs=1),
    )


variants = {"smoke": _smoke(trial_experiment)}
