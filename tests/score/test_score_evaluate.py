"""On a real scan, `biofm score` and `biofm evaluate` give every variant the same number."""

import csv
import gzip

import numpy as np
from scored_examples import MASKED, encoder_of

from biofm_jax.adapt.zero_shot import zero_shot_adapter
from biofm_jax.evaluate.task import get_task
from biofm_jax.score import command

FOLDER = "compbio/dms_blat"


def test_scores_are_those_of_evaluate(tmp_path, monkeypatch, biofm_data):
    folder = biofm_data / FOLDER
    encoder = encoder_of(MASKED, max_tokens=128)  # shorter than the protein: windows too
    monkeypatch.setattr(command, "load_encoder", lambda name: encoder)
    scan = folder / "BLAT_ECOLX_Ranganathan2015_labeled.csv.gz"
    options = command.Score(
        "toy", scan, tmp_path / "out.csv", str(folder / "wt.fasta"), first=24, label="2500"
    )
    row = command.Job(options).run()
    with open(tmp_path / "out.csv") as file:
        rows = list(csv.DictReader(file))
    task = get_task("dms_blat")
    data = task.data(biofm_data)
    adapter = zero_shot_adapter(encoder, "masked_marginal", data.wild_type)
    want = data.predict_tested(adapter, seed=0)[:, 0]
    assert [each["id"] for each in rows] == list(data.tested.ids)
    np.testing.assert_allclose([float(each["score"]) for each in rows], want, atol=1e-5)
    with gzip.open(scan, "rt") as file:
        assert [each["2500"] for each in rows] == [each["2500"] for each in csv.DictReader(file)]
    assert row["labelled"] == len(rows) == 4996 and np.isfinite(row["spearman"])
