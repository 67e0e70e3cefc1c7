"""MoLFormer: masked language modelling of SMILES with linear attention.

    biofm train experiments/drug_discovery/molformer_masked.py --data.path molecules.csv

Architecture and objective as in Ross et al. 2022 (doi 10.1038/s42256-022-00580-7): rotary
positions, linear attention by 32 random features that training draws anew in every step, a
feed-forward as wide as the stream, norms behind the branches, 15 % of the tokens, a learning rate
without decay (AdamW in the place of LAMB). The variant `XL` has the published size, that of
`biofm import molformer_xl`; `--data.tokenizer_path FOLDER` trains with the published tokens.
Without --data.path it reads the NCI molecules in rdkit's wheel (8 of 4,999 do not parse, hence the
tolerance).
"""

import dataclasses

from biofm_jax.data.molecule import MoleculeData
from biofm_jax.data.smiles import SmilesTokenizer
from biofm_jax.experiment import Experiment
from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.linear_attention import LinearAttention
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.objectives.masked import MaskedLM
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.optimizer import OptimizerSpec

vocabulary = SmilesTokenizer().vocabulary

experiment = Experiment(
    model=TransformerSpec(
        vocabulary=vocabulary.size,
        layers=6,
        width=256,
        heads=8,
        feedforward=256,
        norm_position="post",
        norm_epsilon=1e-12,
        linear=LinearAttention(features=32),
        dropout=0.1,
        special=vocabulary.special,
        head=LanguageHead(bias=False, tied=False),
    ),
    data=MoleculeData(max_tokens=256, segments=16, holdout=0.05, tolerance=0.01),
    objective=MaskedLM(rate=0.15),
    optimizer=OptimizerSpec(
        learning_rate=5e-4, schedule="constant", warmup=200, b2=0.99, weight_decay=0.0
    ),
    loop=LoopSpec(steps=5000, batch_size=32, eval_every=500, checkpoint_every=500),
    tasks=("bbbp", "bace", "esol", "freesolv", "lipophilicity"),
)

variants = {
    "XL": dataclasses.replace(
        experiment,
        model=dataclasses.replace(
            experiment.model, layers=12, width=768, heads=12, feedforward=768
        ),
        optimizer=dataclasses.replace(experiment.optimizer, learning_rate=1.6e-4),
        loop=LoopSpec(steps=100_000, batch_size=320, eval_every=1000, checkpoint_every=1000),
    ),
    "small": dataclasses.replace(
        experiment,
        model=dataclasses.replace(experiment.model, layers=3, width=128, heads=4, feedforward=128),
        data=MoleculeData(max_tokens=128, segments=12, holdout=0.05, tolerance=0.01),
        optimizer=dataclasses.replace(experiment.optimizer, learning_rate=1e-3, warmup=100),
        loop=LoopSpec(steps=2000, batch_size=16, eval_every=250, checkpoint_every=500),
    ),
    "smoke": dataclasses.replace(
        experiment,
        model=dataclasses.replace(
            experiment.model,
            layers=2,
            width=32,
            heads=2,
            feedforward=32,
            linear=LinearAttention(features=8),
        ),
        data=MoleculeData(max_tokens=64, segments=4, holdout=0.1, tolerance=0.01),
        optimizer=OptimizerSpec(warmup=2),
        loop=LoopSpec(steps=2, batch_size=8, log_every=1, checkpoint_every=2),
    ),
}
