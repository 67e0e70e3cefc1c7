import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from toy_trials import DRUGS, row, study, write_benchmark, write_json, write_top

from biofm_jax import cli
from biofm_jax.adapt.trial_outcome import Outcomes, Step, grafted, pretrain_admet
from biofm_jax.adapt.trial_store import load_model, save_model
from biofm_jax.data.admet import COUNTS, LABELS, read_admet
from biofm_jax.data.criteria import Criteria
from biofm_jax.data.protein import ProteinData
from biofm_jax.data.trial import read_top
from biofm_jax.errors import UserError
from biofm_jax.evaluate.task import get_task
from biofm_jax.evaluate.trial_scores import released_predictions, success_scores
from biofm_jax.interpret.trial_occlusion import WHOLE, explain
from biofm_jax.trials import load_trial_experiment

ROOT = Path(__file__).parents[1]
FILE = "experiments/drug_discovery/hint_supervised.py"


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A data root whose drug tells the outcome, and an experiment long enough to learn it."""
    folder = tmp_path_factory.mktemp("toy")
    write_benchmark(folder / "data")
    (folder / "toy.py").write_text(
        "import dataclasses, runpy\n"
        f"found = runpy.run_path({str(ROOT / FILE)!r})\n"
        "small = found['variants']['smoke'](found['experiment'])\n"
        "rate = dataclasses.replace(small.optimizer, learning_rate=1e-2)\n"
        "loop = dataclasses.replace(small.loop, steps=30, batch_size=16, eval_every=10)\n"
        "experiment = dataclasses.replace(\n"
        "    small, optimizer=rate, loop=loop, tasks=('trial/phase1',)\n)\n"
    )
    return folder


@pytest.fixture(scope="module")
def command(toy):
    return [
        *("trial", str(toy / "toy.py"), "--workdir", str(toy / "w")),
        *("--results", str(toy / "results")),
        *("--criteria.loop.steps", "2", "--criteria.loop.batch_size", "4"),
        *("--admet.loop.steps", "2", "--admet.loop.batch_size", "4"),
    ]


@pytest.fixture(scope="module")
def evaluated(toy, command):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIOFM_DATA", str(toy / "data"))
        patch.setenv("BIOFM_CACHE", str(toy / "cache"))
        patch.chdir(ROOT)
        assert cli.main([*command, "--evaluate", "True", "--json", "True"]) == 0
    return toy


@pytest.mark.slow
def test_the_command_judges_all_methods_on_the_same_trials(evaluated):
    table = {line["method"]: line for line in json.loads((evaluated / "w/scores.json").read_text())}
    assert list(table) == ["w", "control, not pretrained", "tfidf_logistic", "HINT, released"]
    assert table["w"]["ROC-AUC"] > 0.95 and table["HINT, released"]["ROC-AUC"] == 0.5
    # HINT's toy predictions say success of all: F1 by hand.
    assert table["HINT, released"]["F1"] == pytest.approx(2 / 3)
    assert (evaluated / "w/risk_coverage.png").read_bytes()[:4] == b"\x89PNG"
    results = sorted(path.name for path in (evaluated / "results").rglob("*.result.json"))
    assert len(results) == 2
    one = json.loads(next((evaluated / "results").rglob("*tuned*.result.json")).read_text())
    assert one["calibration"] and one["control"]


@pytest.mark.slow
def test_a_model_that_is_there_predicts_and_explains(evaluated, command, monkeypatch, capsys):
    monkeypatch.setenv("BIOFM_DATA", str(evaluated / "data"))
    before = (evaluated / "w/model.safetensors").stat().st_mtime_ns
    out = evaluated / "gout.json"
    assert cli.main([*command, "--trial", "NCT00000073", "--out", str(out)]) == 0
    assert "NCT00000073: success" in capsys.readouterr().out
    assert (evaluated / "w/model.safetensors").stat().st_mtime_ns == before
    (told,) = json.loads(out.read_text())
    assert told["label"] == 1 and told["success"] > 0.5
    # The drug alone tells the outcome in the toy.
    assert told["moved"][0]["kind"] == "drug" and told["moved"][0]["effect"] > 0
    assert told["moved"][0]["part"] == f"aspirin: {DRUGS['aspirin']}"
    kinds = [line["kind"] for line in told["moved"]]
    assert kinds.count("inclusion") == kinds.count("exclusion") == 3  # two and all of them


@pytest.mark.slow
def test_registered_studies_are_predicted_by_what_their_names_mean(
    evaluated, command, monkeypatch, capsys
):
    monkeypatch.setenv("BIOFM_DATA", str(evaluated / "data"))
    failing = study(2, armsInterventionsModule={
        "interventions": [{"type": "DRUG", "name": "Ethanol"}]})  # fmt: skip
    bare = study(3, armsInterventionsModule={}, conditionsModule={}, eligibilityModule={})
    path = write_json(evaluated / "studies.json", {"studies": [study(1), failing, bare]})
    capsys.readouterr()
    assert cli.main([*command, "--trials", str(path), "--json", "True"]) == 0
    good, bad, nothing = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert good["success"] > 0.5 > bad["success"] and good["label"] is None
    assert (nothing["molecules"], nothing["codes"], nothing["sentences"]) == (0, 0, 0)
    assert 0 < nothing["success"] < 1


@pytest.mark.slow
def test_leaving_parts_out_is_what_a_trial_without_them_gets(evaluated):
    """The slow form: a record without the part, where none of its kind is left to move up."""
    model = load_model(evaluated / "w/model.safetensors")
    (trial, *_), _ = read_top(write_top(evaluated / "one.csv", [row(1, 1)]))
    found = {(m.kind, m.part): m for m in explain(model, trial).moved}
    for kind, part, without in (
        ("drug", trial.smiles[0], {"smiles": ()}),
        ("disease", WHOLE, {"codes": ()}),
        ("inclusion", WHOLE, {"criteria": Criteria((), trial.criteria.exclusion)}),
        ("exclusion", trial.criteria.exclusion[1],
         {"criteria": dataclasses.replace(trial.criteria, exclusion=trial.criteria.exclusion[:1])}),
    ):  # fmt: skip
        chance = model.predict([dataclasses.replace(trial, **without)])[0]
        assert found[kind, part].without == pytest.approx(chance, abs=1e-6)
        odds = np.log(np.array([model.predict([trial])[0], chance]) / 1)
        odds -= np.log1p(-np.array([model.predict([trial])[0], chance]))
        assert found[kind, part].effect == pytest.approx(odds[0] - odds[1], abs=1e-4)


@pytest.mark.slow
def test_a_stored_model_is_the_same_and_a_broken_file_is_refused(evaluated, tmp_path):
    model = load_model(evaluated / "w/model.safetensors")
    save_model(tmp_path / "m.safetensors", model)
    again = load_model(tmp_path / "m.safetensors")
    assert again.outcomes == model.outcomes and again.hierarchy == model.hierarchy
    jax.tree.map(np.testing.assert_array_equal, again.params, model.params)
    lacking = {k: v for k, v in model.params.items() if k != "out"}
    save_model(tmp_path / "n.safetensors", dataclasses.replace(model, params=lacking))
    with pytest.raises(UserError, match="not those of its model"):
        load_model(tmp_path / "n.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load_model(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "options, message",
    [
        ([], "give --trial NCT..., --trials FILE, or --evaluate True"),
        (["--trial", "NCT9", "--out", "x.csv"], "must end in .json"),
        (["--trial", "NCT9"], "there is no trial NCT9 among the 24 read"),
        (["--trials", "absent.json"], "absent.json: no such file"),
        (["--trials", "absent.csv"], "absent.csv: no such file"),
    ],
)
def test_misuse_is_told_before_the_work(toy, options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BIOFM_DATA", str(toy / "data"))
    where = ["--workdir", str(tmp_path / "w")]
    assert cli.main(["trial", f"{FILE}:smoke", *options, *where]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_a_workdir_of_another_experiment_is_refused(evaluated, monkeypatch, capsys):
    monkeypatch.setenv("BIOFM_DATA", str(evaluated / "data"))
    options = ["--trial", "NCT00000073", "--workdir", str(evaluated / "w")]
    assert cli.main(["trial", FILE, *options]) == 2
    assert "belongs to another experiment" in capsys.readouterr().err


def test_labels_of_molecules_are_joined_by_molecule(toy):
    found = read_admet(toy / "data/drug/moleculenet")
    assert len(found.smiles) == 5 and found.bad == 4 and len(LABELS) == sum(COUNTS) == 15
    assert not np.isnan(found.labels).any()
    with pytest.raises(UserError, match=r"esol.csv.gz does not exist"):
        read_admet(toy)
    experiment = load_trial_experiment(f"{FILE}:smoke")
    model = dataclasses.replace(experiment.model, admet=(1, 0, 0, 0, 0))
    outcomes = Outcomes(model, experiment.data, experiment.optimizer, experiment.loop)
    with pytest.raises(UserError, match="are 1 labels, and the molecules have 15"):
        pretrain_admet(outcomes, Step(), found)


def test_a_pretraining_of_another_size_is_refused():
    params = {"molecule": {"w": np.zeros(3)}, "nodes": {"a": np.ones(2), "b": np.ones(2)}}
    new = grafted(params, {"molecule": {"w": np.ones(3)}, "nodes": {"a": np.zeros(2)}})
    assert new["molecule"]["w"].all() and not new["nodes"]["a"].any() and new["nodes"]["b"].all()
    with pytest.raises(UserError, match="pretrained molecule does not fit"):
        grafted(params, {"molecule": {"w": np.ones(4)}})


def test_model_and_data_fit(toy, tmp_path):
    experiment = load_trial_experiment(FILE)
    data = dataclasses.replace(experiment.data, words=64)
    with pytest.raises(UserError, match=r"set --model\.criteria\.vocabulary 69"):
        dataclasses.replace(experiment, data=data).check(1)
    with pytest.raises(UserError, match="reads trials, and ProteinData has none"):
        dataclasses.replace(experiment, data=ProteinData()).check(1)
    with pytest.raises(UserError, match="a trial is not cut"):
        experiment.model.check(experiment.data, (1, 1, 1, 2))
    path = toy / "data/drug/trial_outcome_phase1/phase_I_train.csv.gz"
    store = dataclasses.replace(data, path=str(path), valid_path="").open()
    few = dataclasses.replace(experiment.model, nodes=3)
    with pytest.raises(UserError, match=r"set --model\.nodes 15 or more"):
        few.check_opened(store)
    with pytest.raises(UserError, match="is of molecule, not of trials"):
        load_trial_experiment("experiments/drug_discovery/smiles_masked.py")


def test_released_predictions_give_the_figures_of_the_data(biofm_data):
    """As the data set's README and the task's published numbers have them."""
    data = get_task("trial/phase1").data(biofm_data)
    found = success_scores(data.tested.targets[:, 0], released_predictions(biofm_data, data))
    assert {name: round(found[name], 3) for name in ("ROC-AUC", "PR-AUC", "F1", "accuracy")} == {
        "ROC-AUC": 0.564,
        "PR-AUC": 0.635,
        "F1": 0.663,
        "accuracy": 0.557,
    }
