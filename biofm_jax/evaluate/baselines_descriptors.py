"""A forest on computed properties of molecules: what chemists used before fingerprints."""

from collections.abc import Sequence

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from biofm_jax.adapt.labelled import Adapter, Labelled
from biofm_jax.evaluate.molecules import parse

TREES = 300
LARGEST = 1e6  # rdkit's Ipc index of a large molecule is beyond every float32


def descriptors(smiles: Sequence[str]) -> np.ndarray:
    """(n, f) float32: all descriptors of rdkit's list, some 200; what cannot be computed is 0.

    Partial charges, surface areas, ring and fragment counts, indices of shape, logP and more.

    Raises:
        UserError: rdkit is missing, or cannot parse a SMILES.
    """
    molecules = parse(smiles)
    from rdkit.Chem.Descriptors import CalcMolDescriptors

    rows = [list(CalcMolDescriptors(m, missingVal=0.0).values()) for m in molecules]
    values = np.nan_to_num(np.array(rows, np.float64), nan=0.0, posinf=LARGEST, neginf=-LARGEST)
    return np.clip(values, -LARGEST, LARGEST).astype(np.float32)


def descriptor_forest(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
    """300 random trees on `descriptors`, fitted on the training part alone; labels are numbers.

    A third of the descriptors is tried at each split (Breiman 2001's advice for regression). The
    forest's own seed is always 0.
    """
    x, x_test = descriptors(train.texts), descriptors(test.texts)
    columns = []
    for y in train.targets.T:
        have = ~np.isnan(y)
        model = RandomForestRegressor(TREES, max_features=1 / 3, random_state=0, n_jobs=-1)
        model.fit(x[have], y[have])
        model.n_jobs = 1  # threads would add the trees up in any order
        columns.append(model.predict(x_test))
    return np.stack(columns, axis=1)


DESCRIPTOR_BASELINES: dict[str, Adapter] = {"descriptor_forest": descriptor_forest}
