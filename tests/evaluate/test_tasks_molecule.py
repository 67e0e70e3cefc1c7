import numpy as np
import pytest

from biofm_jax.evaluate.molecules import molecular_weights
from biofm_jax.evaluate.splits import scaffolds
from biofm_jax.evaluate.task import get_task

SIZES = {"bbbp": 2039, "bace": 1513, "esol": 1128, "freesolv": 642, "lipophilicity": 4200}


@pytest.mark.parametrize("name", ["bbbp", "bace", "esol", "freesolv"])
def test_no_scaffold_is_shared_between_parts(biofm_data, name):
    data = get_task(name).data(biofm_data)
    fold = data.folds[0]
    parts = [set(scaffolds(data.part(part).texts)) for part in (fold.train, fold.valid, fold.test)]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert len(fold.train) + len(fold.valid) + len(fold.test) == SIZES[name]
    assert not data.dropped
    # The columns say the same as the split was made by; the acyclic are a scaffold of their own.
    assert data.apart == ("scaffold",) and not any(cell == "" for cell in data.groups["scaffold"])
    columns = [np.array(data.groups["scaffold"])[part] for part in (fold.train, fold.test)]
    assert not set(columns[0]) & set(columns[1])
    bands, counts = np.unique(data.groups["molecular weight (g/mol)"], return_counts=True)
    assert len(bands) == 3 and counts.min() > SIZES[name] / 3.2


def test_lipophilicity_is_whole(biofm_data):
    data = get_task("lipophilicity").data(biofm_data)
    assert len(data.items) == SIZES["lipophilicity"]
    assert data.items.targets.min() > -2 and data.items.targets.max() < 5  # logD


def test_quickstart_needs_no_data_root_and_names_what_it_dropped(monkeypatch):
    monkeypatch.delenv("BIOFM_DATA", raising=False)
    data = get_task("quickstart/tpsa").data(None)
    assert len(data.items) + len(data.dropped) == 4999
    assert len(data.dropped) == 8
    assert all("cannot parse" in line for line in data.dropped)
    fold = data.folds[0]
    assert (len(fold.train), len(fold.valid), len(fold.test)) == (3992, 499, 500)
    # Methylbenzoquinone's two carbonyls: 2 x 17.07 square angstrom.
    assert data.items.texts[0] == "CC1=CC(=O)C=CC1=O"
    assert data.items.targets[0, 0] == pytest.approx(34.14)
    assert molecular_weights(["O", "[Na+].[Cl-]"]) == pytest.approx([18.015, 58.443], abs=0.002)
