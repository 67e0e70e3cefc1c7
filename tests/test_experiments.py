"""Every experiment file and every variant: it builds, traces at scale, and runs when shrunk."""

import ast
import dataclasses
import difflib
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from toy_batches import compiled_once

from biofm_jax.experiment import Experiment, describe, load_experiment, train
from biofm_jax.train.mesh import abstract_mesh
from biofm_jax.train.optimizer import parameter_path

ROOT = Path(__file__).parents[1]
GOLDENS = Path(__file__).parent / "goldens"
FILES = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "experiments").rglob("*.py")
    if re.search(r"^experiment\s*=", path.read_text(), re.MULTILINE)
)


def variants(file: str) -> list[str]:
    """`file.py` and `file.py:variant` for each of its variants."""
    import runpy

    found = runpy.run_path(str(ROOT / file)).get("variants", {})
    return [file, *(f"{file}:{name}" for name in found)]


NAMES = [name for file in FILES for name in variants(file)]


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_there_are_experiments():
    assert len(FILES) >= 4


@pytest.mark.parametrize("file", FILES)
def test_a_file_says_how_to_run_it_and_can_be_shrunk(file):
    docstring = ast.get_docstring(ast.parse((ROOT / file).read_text()))
    assert file in docstring and re.search(r"^    (biofm|python) ", docstring, re.MULTILINE)
    assert f"{file}:smoke" in variants(file)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_possible_and_survives_json(name):
    experiment = load_experiment(name)
    experiment.check(devices=1)
    text = json.dumps(experiment.to_json())
    assert Experiment.from_json(json.loads(text)) == experiment


@pytest.mark.parametrize("name", NAMES)
def test_one_step_traces_on_an_abstract_pod(name):
    """64 x 4 chips: rows over 16 x 4 of them, tensors over 4."""
    experiment = load_experiment(name)
    rows = 64 * experiment.loop.accumulate * max(1, experiment.loop.batch_size // 64)
    experiment = dataclasses.replace(
        experiment, loop=dataclasses.replace(experiment.loop, batch_size=rows)
    )
    shapes = experiment.shapes()
    program = experiment.program(abstract_mesh((16, 4, 4, 1)), shapes)
    state, metrics = jax.eval_shape(program.step, program.shapes, shapes)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == jax.tree.map(
        lambda x: (x.shape, x.dtype), program.shapes
    )
    assert metrics["loss"].shape == ()
    shardings = jax.tree.leaves(program.shardings.params)
    for (path, leaf), sharding in zip(
        jax.tree.leaves_with_path(program.shapes.params), shardings, strict=True
    ):
        axes = {axis for axis in sharding.spec if axis is not None}
        assert axes or leaf.size < 2**18, parameter_path(path)
        if parameter_path(path).endswith("blocks/feedforward/up/kernel"):
            assert {"fsdp", "tensor"} <= axes


@pytest.fixture(scope="module")
def fasta(tmp_path_factory):
    rng = np.random.default_rng(0)
    letters = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    path = tmp_path_factory.mktemp("data") / "proteins.fasta"
    path.write_text("".join(f">p{i}\n{''.join(rng.choice(letters, 60))}\n" for i in range(200)))
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in NAMES if n.split(":")[-1].startswith("smoke")])
def test_the_shrunk_experiment_trains(name, tmp_path, fasta, cache, monkeypatch, request):
    monkeypatch.setenv("BIOFM_CACHE", str(cache))
    experiment = load_experiment(name)
    if "$BIOFM_DATA" in experiment.data.path:
        request.getfixturevalue("biofm_data")
    if experiment.data.kind == "protein":
        data = dataclasses.replace(experiment.data, path=str(fasta))
        experiment = dataclasses.replace(experiment, data=data)
    with compiled_once(cache / "compiled"):  # the ablations shrink to the same few programs
        result = train(experiment, tmp_path, show=False)
    assert int(result.state.step) == experiment.loop.steps == 2
    assert [row["step"] for row in result.rows] == [1, 2]
    assert all(np.isfinite(row["loss"]) for row in result.rows)
    assert (tmp_path / "checkpoints" / "2").is_dir()
    assert json.loads((tmp_path / "experiment.json").read_text()) == experiment.to_json()
    assert {"command", "commit", "versions", "devices"} <= set(
        json.loads((tmp_path / "run.json").read_text())
    )


def golden(experiment: Experiment) -> str:
    """The experiment and its parameters as text."""
    shapes = jax.eval_shape(experiment.model.build().init, jax.random.key(0), None)
    lines = [
        f"{parameter_path(path)}: {' x '.join(map(str, leaf.shape))} {leaf.dtype}"
        for path, leaf in jax.tree.leaves_with_path(shapes)
    ]
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    return "\n".join(
        [json.dumps(experiment.to_json(), indent=1), "", f"parameters: {count:,}", *lines, ""]
    )


def golden_path(name: str) -> Path:
    file, _, variant = name.partition(":")
    stem = "_".join(Path(file).with_suffix("").parts[1:])
    return GOLDENS / f"{stem}{'__' + variant if variant else ''}.txt"


@pytest.mark.parametrize("name", NAMES)
def test_it_is_as_recorded(name, request):
    path, text = golden_path(name), golden(load_experiment(name))
    if request.config.getoption("--update-goldens"):
        path.write_text(text)
    recorded = path.read_text() if path.exists() else ""
    if recorded != text:
        diff = difflib.unified_diff(
            recorded.splitlines(), text.splitlines(), "recorded", "now", lineterm="", n=1
        )
        message = "\n".join(list(diff)[:60])
        pytest.fail(f"{name}: run pytest --update-goldens if this is meant\n{message}", False)


def test_no_golden_is_left_over(request):
    known = {golden_path(name) for name in NAMES}
    over = set(GOLDENS.glob("*.txt")) - known
    if request.config.getoption("--update-goldens"):
        for path in over:
            path.unlink()
        over = set()
    assert not over


def test_a_dry_run_counts_without_data():
    row = describe(load_experiment("experiments/computational_biology/esm2_masked.py"))
    assert row["parameters"] > 7_000_000 and row["tokens"] == 500_000 * 8 * 1024
