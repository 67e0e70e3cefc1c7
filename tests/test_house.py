"""House rules: the order of the rooms, and what only one room may do."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "biofm_jax"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# A file imports from its own room and from those above it.
ROOMS = (
    ("__init__", "__version__", "errors", "array_types", "specs", "files"),
    ("data",),
    ("models",),
    ("zoo",),
    ("objectives",),
    ("train",),
    ("adapt",),
    ("interpret",),
    ("evaluate",),
    ("experiment",),
    (
        "compare",
        "sweep",
        "plan",
        "score",
        "embed",
        "interpretation",
        "interpretation_images",
        "interpretation_reasons",
        "generation",
        "generation_images",
        "generation_inputs",
        "catalogue",
        "cli_data",
        "cli_images",
        "publishing",
        "repurposing",
        "retrieval",
        "starting",
        "trials",
        "parity",
    ),
    ("cli_output",),
    ("cli_models", "cli_plan", "cli_repurpose", "cli_retrieve", "cli_trial"),
    ("cli",),
)


def room(parts) -> int:
    """The number of a module's room."""
    name = parts[1] if len(parts) > 1 else "__init__"
    for number, names in enumerate(ROOMS):
        if name in names:
            return number
    raise AssertionError(f"{'.'.join(parts)} belongs to no room: add it to ROOMS")


def imports(path: Path) -> list[str]:
    """Full names of all imports of a file, those inside functions and type checks too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def test_every_room_has_files():
    names = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in SOURCES}
    assert {"data", "models", "zoo", "objectives", "train", "adapt", "evaluate"} <= names


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_from_rooms_before_it(path):
    own = room(path.relative_to(ROOT).with_suffix("").parts)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "biofm_jax":
            assert room(parts) <= own, f"{path.relative_to(ROOT)} imports {name}"


def test_only_models_import_flax():
    users = {p for p in SOURCES if any(n.split(".")[0] == "flax" for n in imports(p))}
    assert users and all(p.parent.name == "models" for p in users)


def test_only_the_mesh_file_builds_a_mesh():
    makers = {"make_mesh", "Mesh", "AbstractMesh", "create_device_mesh"}
    found = set()
    others = ("benchmarks/*.py", "experiments/**/*.py", "tpu_setup/*.py")
    for path in [*SOURCES, *(path for pattern in others for path in ROOT.glob(pattern))]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if called in makers:
                    found.add(path)
    assert found == {PACKAGE / "train" / "mesh.py"}


def test_nothing_pickles():
    for path in SOURCES:
        used = {name.split(".")[0] for name in imports(path)}
        assert not used & {"pickle", "cloudpickle", "dill", "joblib", "shelve"}, path
        assert "allow_pickle=True" not in path.read_text(), path


def test_files_are_short():
    lengths = {p: len(p.read_text().splitlines()) for p in SOURCES}
    assert max(lengths.values()) <= 400
    written = sorted(n for n in lengths.values() if n)
    assert written[len(written) // 2] < 180


def test_test_files_have_distinct_names():
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert len(names) == len(set(names))


READ = """
import sys
from biofm_jax.data.protein import ProteinData
data = ProteinData(path=sys.argv[1], max_tokens=32, segments=2)
store = data.open()
next(data.batches(store, batch_size=2, seed=0))
heavy = {"tensorflow", "torch", "flax", "transformers"} & set(sys.modules)
assert not heavy, heavy
import biofm_jax.experiment
heavy = {"sklearn", "scipy", "pandas", "matplotlib", "tensorflow", "torch"} & set(sys.modules)
assert not heavy, heavy
print("read", len(store))
"""


def test_reading_data_needs_no_tensorflow_and_a_run_starts_without_scikit_learn(tmp_path):
    fasta = tmp_path / "some.fasta"
    fasta.write_text("".join(f">p{i}\nMKTAYIAKQR{'ACDEFGHIKL'[i]}\n" for i in range(10)))
    done = subprocess.run(
        [sys.executable, "-c", READ, str(fasta)],
        env=os.environ | {"BIOFM_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout.strip() == "read 10", done.stderr[-2000:]
