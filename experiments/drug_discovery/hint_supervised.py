"""Outcomes of phase I trials from molecules, diseases and criteria, after HINT (Fu et al. 2022).

    biofm trial experiments/drug_discovery/hint_supervised.py --evaluate True --seeds 3
    biofm trial experiments/drug_discovery/hint_supervised.py --trial NCT01288573
    biofm train experiments/drug_discovery/hint_supervised.py    # the last step alone

`biofm trial` runs three steps: masked words of the training trials' criteria; labels of molecules
for the ADMET nodes (absorption by two proxies, solubility and lipophilicity; BBBP for distribution,
Tox21 for toxicity; nothing for metabolism and excretion); outcomes, this file.

Hardware and time: two shared CPU cores; the first command in five minutes. Reached on the 627
test trials, mean of three seeds: ROC-AUC 0.590 (sd 0.011), PR-AUC 0.632, F1 0.706. That is worse
than the floor, TF-IDF with logistic regression (0.647, 0.679, 0.707), and near HINT's released
predictions on the same trials (0.564, 0.635, 0.663); a control without pretraining has 0.609 (sd
0.024), 0.645, 0.694: so short a pretraining adds nothing. Of the surer half of the trials 38 % are
wrong, of all 45 % (floor: 31 % and 38 %; seed 0).
"""

import dataclasses

from biofm_jax.data.trial_batches import TrialData
from biofm_jax.experiment import Experiment
from biofm_jax.models.trial_outcome import TrialOutcomeSpec
from biofm_jax.objectives.supervised import Supervised
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.optimizer import OptimizerSpec

FOLDER = "$BIOFM_DATA/drug/trial_outcome_phase1"

experiment = Experiment(
    model=TrialOutcomeSpec(),
    data=TrialData(
        path=f"{FOLDER}/phase_I_train.csv.gz", valid_path=f"{FOLDER}/phase_I_valid.csv.gz"
    ),
    objective=Supervised("binary"),
    optimizer=OptimizerSpec(learning_rate=1e-3, warmup=20),
    # 33 steps are an epoch.
    loop=LoopSpec(steps=132, batch_size=32, eval_every=33, checkpoint_every=33),
    tasks=("trial/phase1", "trial/phase1_auprc"),
)


def _smoke(base: Experiment) -> Experiment:
    model = base.model
    return dataclasses.replace(
        base,
        model=dataclasses.replace(
            model,
            width=8,
            highway=0,
            gate=4,
            molecule=dataclasses.replace(model.molecule, layers=1, width=8),
            criteria=dataclasses.replace(model.criteria, vocabulary=69, width=8),
        ),
        data=dataclasses.replace(
            base.data, max_tokens=64, segments=10, atoms=128, molecules=2, codes=4, words=64
        ),
        optimizer=OptimizerSpec(warmup=2),
        loop=LoopSpec(steps=2, batch_size=8, log_every=1, checkpoint_every=2),
    )


variants = {"smoke": _smoke}
