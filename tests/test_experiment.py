"""A finished run is found again, adapted and compared; the README's example is whole."""

import dataclasses
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from biofm_jax import compare
from biofm_jax.adapt.finetune import FinetuneSpec
from biofm_jax.errors import UserError
from biofm_jax.evaluate.report import write_report
from biofm_jax.experiment import load_encoder, load_experiment, train

ROOT = Path(__file__).parents[1]
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


@pytest.mark.slow
def test_a_run_is_compared_with_control_and_baselines(runs, tmp_path):
    pairs = compare.plan(["quickstart/*"], ["probe"], seeds=1)
    lines = []
    (row,) = compare.run(
        f"{runs}/measured", pairs, 1, FinetuneSpec(), tmp_path, progress=lines.append
    )
    assert row.task == "quickstart/tpsa" and row.control is not None
    assert row.baselines["ecfp4_ridge"].value == pytest.approx(30.80, abs=0.005)
    assert 0 < row.value.score.value < 100
    assert any("control" in line for line in lines)


def test_a_task_of_another_modality_is_refused(runs, tmp_path):
    pairs = compare.plan(["dms_blat"], ["probe"], seeds=1)
    with pytest.raises(UserError, match="protein"):
        compare.run(f"{runs}/measured", pairs, 1, FinetuneSpec(), tmp_path, progress=print)


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
    rows = compare.run(f"{runs}/measured", pairs, 1, FinetuneSpec(), tmp_path, progress=print)
    value = {row.method: row.value.score.value for row in rows}
    assert value["probe"] < value["probe@10%"] < value["probe+shuffled"] * 1.1
    assert value["probe"] < value["probe+shuffled"] and value["knn"] < value["knn+shuffled"]
    page = write_report([tmp_path], tmp_path / "report.html").html.read_text()
    for heading in ("Paired comparisons", "Fewer labels", "Leaks between training"):
        assert heading in page
