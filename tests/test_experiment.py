"""A finished run is found again, adapted and compared; the README's example is whole."""

import dataclasses
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from biofm_jax import compare
from biofm_jax.adapt.fractions import limited_adapter, read_method, read_options
from biofm_jax.adapt.labelled import Labelled
from biofm_jax.adapt.methods import Tuning
from biofm_jax.adapt.probe import ProbeSpec, probe_adapter
from biofm_jax.errors import UserError
from biofm_jax.evaluate.report import write_report
from biofm_jax.experiment import load_encoder, load_experiment, train
from biofm_jax.objectives.masked import MaskedLM

ROOT = Path(__file__).parents[1]
PROTT5 = "experiments/computational_biology/prott5_denoising.py"
SMILES = ROOT / "experiments/drug_discovery/smiles_masked.py"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of four steps that measured its held-out loss, and one that did not."""
    folder = tmp_path_factory.mktemp("runs")
    base = load_experiment(f"{SMILES}:smoke")
    base = dataclasses.replace(base, mesh=dataclasses.replace(base.mesh, data=8))
    for name, evaluate in (("measured", 2), ("plain", 0)):
        loop = dataclasses.replace(base.loop, steps=4, eval_every=evaluate, checkpoint_every=2)
        train(dataclasses.replace(base, loop=loop), folder / name, show=False)
    return folder


@pytest.mark.slow
def test_a_run_is_loaded_last_or_best(runs):
    last, best = load_encoder(f"{runs}/measured"), load_encoder(f"{runs}/measured@best")
    assert last.name == "measured" and last.data.kind == "molecule"
    for leaf in jax.tree.leaves(last.params):
        assert len(leaf.sharding.device_set) == 1  # eight devices wrote it
    same = jax.tree.map(np.array_equal, last.params, best.params)
    assert all(jax.tree.leaves(same))  # the loss still falls, so the last is the best
    with pytest.raises(UserError, match="eval_every"):
        load_encoder(f"{runs}/plain@best")
    with pytest.raises(UserError, match="is no run"):
        load_encoder(f"{runs}/nothing")


@pytest.mark.parametrize("changes, words", [
    ({"model.decoder.causal": False}, "Denoising needs --model.decoder.causal True"),
    ({"objective": MaskedLM()}, "MaskedLM trains one stack that sees both sides"),
    ({"model.encoder.vocabulary": 40, "model.decoder.vocabulary": 40},
     "set --model.encoder.vocabulary 33 --model.decoder.vocabulary 33"),
    ({"model.decoder.head": None}, "Denoising needs model.decoder.head=LanguageHead"),
    ({"mesh.tensor": 8}, "mesh.tensor 8 must divide model.decoder.heads 4"),
])  # fmt: skip
def test_what_an_encoder_decoder_needs_is_told_by_its_own_fields(changes, words):
    experiment = load_experiment(f"{ROOT}/{PROTT5}:smoke")
    for path, value in changes.items():
        experiment = replaced_at(experiment, path.split("."), value)
    with pytest.raises(UserError, match=re.escape(words)):
        experiment.check(8)


def replaced_at(record, path, value):
    """A dataclass with one field of its parts changed."""
    name, *rest = path
    value = replaced_at(getattr(record, name), rest, value) if rest else value
    return dataclasses.replace(record, **{name: value})


@pytest.mark.slow
def test_a_run_is_compared_with_control_and_baselines(runs, tmp_path):
    pairs = compare.plan(["quickstart/*"], ["probe"], seeds=1)
    lines = []
    (row,) = compare.run(f"{runs}/measured", pairs, 1, Tuning(), tmp_path, progress=lines.append)
    assert row.task == "quickstart/tpsa" and row.control is not None
    assert row.baselines["ecfp4_ridge"].value == pytest.approx(30.80, abs=0.005)
    assert 0 < row.value.score.value < 100
    assert any("control" in line for line in lines)
    (found,) = row.results
    assert found.recalibration.n_calibration == 249 and found.leaks.checked == ()
    assert [groups.column for groups in found.subgroups] == ["scaffold", "molecular weight (g/mol)"]
    assert found.subgroups[1].gap.worst == "261.2 and over" and found.leaks.groups[0].shared == 0


def test_baselines_are_evaluated_alone_whatever_the_modality(biofm_data, tmp_path):
    options = compare.Evaluate("baselines", ("dms_blat",), fraction=(2, 3), seeds=2)
    pairs = compare.plan(options.task, compare.methods(options), options.seeds)
    assert [method for _, method in pairs] == ["baseline@2%", "baseline@3%"]
    groups = tmp_path / "groups.csv"
    groups.write_text("id,half\n" + "".join(f"H24{a},{a < 'M'}\n" for a in "ACDEFGKLMNPQRSTVWY"))
    given = {"groups": groups, "apart": ("half",), "progress": print}
    rows = compare.run("baselines", pairs, 2, Tuning(), tmp_path / "out", **given)
    assert [(row.method, row.model, row.seeds) for row in rows] == [
        (method, "one_hot_ridge", (0, 1)) for _, method in pairs
    ]
    assert all(row.control is None and row.results[0].n_train in (60, 90) for row in rows)
    (shared,) = rows[0].results[0].leaks.groups
    assert (shared.column, shared.tested, shared.shared) == ("half", 2, 2)
    assert len(list((tmp_path / "out").glob("*.result.json"))) == 4


def test_the_probes_options_are_in_its_name():
    def named(**more):
        return compare.methods(compare.Evaluate("m", ("esol",), method=("probe", "knn"), **more))

    assert named() == ["probe", "knn"]
    assert named(probe=ProbeSpec(pooling="mean", layer=0)) == [
        "probe(pooling=mean, layer=0)",
        "knn",
    ]
    assert named(probe=ProbeSpec(layer=3), shots=(4,))[0] == "probe(layer=3)@4shot"
    with pytest.raises(UserError, match=r"--probe\.layer is -1"):
        named(probe=ProbeSpec(layer=-1))


def test_the_probe_reads_the_layer_of_its_name(runs):
    encoder = load_encoder(f"{runs}/measured")
    adapters = compare.Adapters(Tuning())
    texts = ("CCO", "CCN", "c1ccccc1", "CC(=O)O", "CCCl", "CCBr", "CO", "CN") * 4
    lengths = np.array([[float(len(text))] for text in texts])
    items = Labelled(tuple(map(str, range(32))), texts, lengths)
    parts = items.at(np.arange(24)), items.at(np.arange(0)), items.at(np.arange(24, 32))
    guesses = {}
    for name in ("probe", "probe(layer=0)", "probe(pooling=cls)", "probe(pooling=cls)@8shot"):
        adapter = adapters.of(encoder, name, "number", None)
        guesses[name] = adapter(*parts, seed=0)
        features = encoder.features_for_seeds(*read_options(read_method(name)[0])[1:])
        want = limited_adapter(probe_adapter(features, "number"), name)(*parts, seed=0)
        # Beside other texts a text's features differ in the last bit, here by 6e-8.
        np.testing.assert_allclose(guesses[name], want, rtol=1e-5)
    assert len({tuple(guess[:, 0].round(3)) for guess in guesses.values()}) == 4
    with pytest.raises(UserError, match="layer 99 is not in 0"):
        adapters.of(encoder, "probe(layer=99)", "number", None)(*parts, seed=0)


def test_a_task_of_another_modality_is_refused(runs, tmp_path):
    pairs = compare.plan(["dms_blat"], ["probe"], seeds=1)
    with pytest.raises(UserError, match="protein"):
        compare.run(f"{runs}/measured", pairs, 1, Tuning(), tmp_path, progress=print)


def test_the_readmes_experiment_can_be_run(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    path = tmp_path / "example.py"
    path.write_text(example)
    load_experiment(str(path)).check(devices=1)


def test_methods_are_named_with_their_limits():
    assert compare.limited(["probe"]) == ["probe"]
    found = compare.limited(["probe", "knn"], fraction=(3, 100), shots=(4,), shuffle_labels=True)
    assert found[:6] == [
        "probe@3%",
        "probe@3%+shuffled",
        "probe",
        "probe+shuffled",
        "probe@4shot",
        "probe@4shot+shuffled",
    ]
    assert len(found) == 12
    for wrong in ({"fraction": (0,)}, {"fraction": (130,)}, {"shots": (0,)}):
        with pytest.raises(UserError, match=r"--fraction|--shots"):
            compare.limited(["probe"], **wrong)
    with pytest.raises(UserError, match="use knn"):
        compare.plan(["esol"], ["prototypes@3%"], seeds=1)
    with pytest.raises(UserError, match="judged by rmse"):
        compare.plan(["esol"], ["pseudo_perplexity"], seeds=1)
    assert len(compare.plan(["flip_gb1/*"], ["masked_marginal"], seeds=1)) == 5


def test_a_label_fraction_curve_of_a_run(runs, tmp_path):
    methods = compare.limited(["probe", "knn"], fraction=(10, 100), shuffle_labels=True)
    pairs = compare.plan(["quickstart/*"], methods, seeds=1)
    rows = compare.run(f"{runs}/measured", pairs, 1, Tuning(), tmp_path, progress=print)
    value = {row.method: row.value.score.value for row in rows}
    assert {row.model for row in rows if row.method == "baseline@10%"} == {
        "ecfp4_ridge",
        "letter_counts",
    }
    assert value["probe"] < value["probe@10%"] < value["probe+shuffled"] * 1.1
    assert value["probe"] < value["probe+shuffled"] and value["knn"] < value["knn+shuffled"]
    page = write_report([tmp_path], tmp_path / "report.html").html.read_text()
    for heading in ("Paired comparisons", "Fewer labels", "Subgroups", "near duplicates"):
        assert heading in page
