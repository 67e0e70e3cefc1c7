import csv
import json
from pathlib import Path

import numpy as np
import pytest
from toy_graph import toy_graph

from biofm_jax import catalogue, cli
from biofm_jax.adapt.labelled import Labelled
from biofm_jax.errors import UserError
from biofm_jax.evaluate.splits import Fold
from biofm_jax.evaluate.task import Dataset
from biofm_jax.repurposing import (
    disease_recall,
    find_disease,
    write_ranking,
)

ROOT = Path(__file__).parents[1]
FILE = "experiments/drug_discovery/txgnn_link_prediction.py"


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_it_is_listed():
    row = next(row for row in catalogue.experiments() if row["file"] == FILE)
    assert row["modality"] == "knowledge_graph" and row["objective"] == "LinkPrediction"


def test_a_disease_is_found_by_name_or_id():
    graph = toy_graph()
    assert find_disease(graph, "Disease 3") == find_disease(graph, "disease::03") == 27
    with pytest.raises(UserError, match="no disease 'diseese 3'; did you mean 'disease 3'"):
        find_disease(graph, "diseese 3")


def test_recall_by_hand():
    """Of x two drugs, one among the best two; of y one, found; z has none and is left out."""
    drugs, diseases = "abcd", "xyz"
    texts = tuple(f"{drug} {disease}" for drug in drugs for disease in diseases)
    truth = {"a x", "b x", "c y"}
    score = {"a x": 4, "c x": 3, "b x": 2, "d x": 1, "c y": 9}
    items = Labelled(texts, texts, np.array([[float(text in truth)] for text in texts]))
    everything, none = np.arange(12), np.array([], np.int64)
    folds = (Fold(everything[6:], none, everything[:6]), Fold(everything[:6], none, everything[6:]))
    guess = np.array([[float(score.get(text, 0))] for text in texts])
    data = Dataset(items, folds, ("treats",))
    assert disease_recall(data, guess, 2) == pytest.approx((0.5 + 1) / 2)
    assert disease_recall(data, guess, 3) == 1


def test_rankings_are_written_as_csv_or_json(tmp_path):
    rows = [{"rank": 1, "drug": "A, b", "paths": [{"path": "p"}, {"path": "q"}]}]
    write_ranking(rows, tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(newline="") as lines:
        assert list(csv.DictReader(lines)) == [{"rank": "1", "drug": "A, b", "paths": "p | q"}]
    write_ranking(rows, tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text()) == rows
    with pytest.raises(UserError, match=r"must end in \.csv or \.json"):
        write_ranking(rows, tmp_path / "r.txt")


@pytest.mark.parametrize(
    "options, message",
    [
        ([], "give --disease NAME"),
        (["--disease", "gout", "--out", "x.txt"], "must end in .csv or .json"),
        (["--evaluate", "True", "--task", "bbbp"], "--task bbbp is of molecule"),
        (["--evaluate", "True", "--task", "repurposing/hetionet_ar"], "repurposing/hetionet_area"),
        (["--disease", "hypertention"], "did you mean 'hypertension'"),
    ],
)
def test_misuse_is_told_before_the_work(biofm_data, options, message, capsys):
    assert cli.main(["repurpose", f"random:{FILE}:smoke", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_model_of_another_modality_is_refused(capsys):
    other = "random:experiments/drug_discovery/smiles_masked.py:smoke"
    assert cli.main(["repurpose", other, "--disease", "gout"]) == 2
    assert "trained on molecule" in capsys.readouterr().err
    assert cli.main(["evaluate", f"random:{FILE}:smoke", "--task", "bbbp"]) == 2
    assert "repurpose for a knowledge graph" in capsys.readouterr().err


@pytest.mark.slow
def test_drugs_are_ranked_with_their_evidence(biofm_data, tmp_path, capsys):
    out, run = tmp_path / "gout.json", str(tmp_path / "run")
    assert cli.main(["train", f"{FILE}:smoke", "--workdir", run, "--json", "True"]) == 0
    command = ["repurpose", run, "--disease", "gout", "--tuning.loop.steps", "10"]
    assert cli.main([*command, "--out", str(out), "--json", "True", "--top", "3"]) == 0
    rows = json.loads(out.read_text())
    assert len(rows) == 1552 and [row["rank"] for row in rows] == list(range(1, 1553))
    assert sum(row["known"] == "DM" for row in rows) == 9
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == rows[:3]
    paths = [path for row in rows for path in row["paths"]]
    assert paths and all(path["path"].endswith(" gout") and path["score"] > 0 for path in paths)
    assert all(len(row["paths"]) <= 2 for row in rows)
    scores = [row["score"] for row in rows]
    assert scores == sorted(scores, reverse=True)
