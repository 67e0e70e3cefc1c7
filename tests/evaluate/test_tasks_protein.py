import numpy as np
import pytest

from biofm_jax.evaluate.revealing import revealing_columns
from biofm_jax.evaluate.task import get_task

# FLIP's counts: training, validation, test.
GB1 = {
    "one_vs_rest": (25, 3, 8705),
    "two_vs_rest": (381, 43, 8309),
    "three_vs_rest": (2691, 299, 5743),
    "low_vs_high": (4580, 509, 3644),
    "sampled": (6289, 699, 1745),
}


@pytest.mark.parametrize("split", GB1)
def test_gb1_parts_are_official_and_disjoint(biofm_data, split):
    data = get_task(f"flip_gb1/{split}").data(biofm_data)
    fold = data.folds[0]
    assert (len(fold.train), len(fold.valid), len(fold.test)) == GB1[split]
    texts = [set(data.part(part).texts) for part in (fold.train, fold.valid, fold.test)]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 8733
    assert data.wild_type in texts[0] | texts[1] or split in ("low_vs_high", "sampled")


def test_gb1_ids_name_the_mutations(biofm_data):
    data = get_task("flip_gb1/one_vs_rest").data(biofm_data)
    trained = data.part(np.concatenate([data.folds[0].train, data.folds[0].valid])).ids
    assert "WT" in trained and all(":" not in name for name in trained)
    place = data.items.ids.index("WT")
    mutations = np.array(data.groups["mutations"])
    fold = data.folds[0]
    assert mutations[place] == 0 and set(mutations[fold.train]) <= {0, 1}
    assert set(mutations[fold.test]) == {2, 3, 4}
    differ = [sum(a != b for a, b in zip(data.wild_type, t)) for t in data.items.texts[::500]]
    assert differ == mutations[::500].tolist()
    assert data.items.targets[place, 0] == 1.0


def test_blat_variants_differ_from_the_wild_type_at_one_place(biofm_data):
    data = get_task("dms_blat").data(biofm_data)
    assert len(data.tested) == len(set(data.items.texts)) == 4996
    for name, text in zip(data.items.ids[::100], data.items.texts[::100]):
        differ = [i for i, (a, b) in enumerate(zip(data.wild_type, text)) if a != b]
        assert differ == [int(name[1:-1]) - 24]
    # Other models' scores and replicates are looked at, row numbers and the label are not.
    assert len(data.metadata) == 31 and {"2500_1", "esm1v_t33_650M_UR90_1"} < set(data.metadata)
    assert not {"", "Unnamed: 0", "mutant", "2500"} & set(data.metadata)
    found = revealing_columns(data.metadata, data.items.targets, data.columns, limit=0.97)
    assert [(row.column, row.rule) for row in found] == [
        ("2500_1", "its order"),
        ("2500_2", "its order"),
    ]
