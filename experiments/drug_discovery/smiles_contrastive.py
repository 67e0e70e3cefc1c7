"""Contrastive learning of molecules: two random SMILES of one molecule are a pair.

    biofm train experiments/drug_discovery/smiles_contrastive.py --data.path molecules.smi

InfoNCE over all molecules of the global batch; eight random SMILES of each molecule are kept
and two of them drawn each epoch. A batch row holds both views, so half the rows of
smiles_masked.py are as many tokens.
"""

import dataclasses
import runpy
from pathlib import Path

from biofm_jax.models.heads import ProjectionHead
from biofm_jax.objectives.contrastive import Contrastive

masked = runpy.run_path(str(Path(__file__).with_name("smiles_masked.py")))


def _contrastive(base):
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, head=ProjectionHead(width=128)),
        data=dataclasses.replace(base.data, views=8),
        objective=Contrastive(temperature=0.1),
        loop=dataclasses.replace(base.loop, batch_size=base.loop.batch_size // 2),
    )


experiment = _contrastive(masked["experiment"])

variants = {
    "smoke": dataclasses.replace(
        _contrastive(masked["variants"]["smoke"]), loop=masked["variants"]["smoke"].loop
    )
}
