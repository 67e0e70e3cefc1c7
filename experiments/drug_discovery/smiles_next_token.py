"""Next-token prediction of SMILES (MolGPT-style): the masked experiment, made causal.

    biofm train experiments/drug_discovery/smiles_next_token.py --data.path molecules.smi

Objective as in MolGPT (Bagal et al. 2022, doi 10.1021/acs.jcim.1c00600), without its
conditioning; backbone, data and optimizer are those of smiles_masked.py.
"""

import dataclasses
import runpy
from pathlib import Path

from biofm_jax.objectives.next_token import NextToken

masked = runpy.run_path(str(Path(__file__).with_name("smiles_masked.py")))


def _causal(base):
    return dataclasses.replace(
        base, model=dataclasses.replace(base.model, causal=True), objective=NextToken()
    )


experiment = _causal(masked["experiment"])

variants = {"smoke": _causal(masked["variants"]["smoke"])}
