import json
import re
from pathlib import Path

import pytest

from biofm_jax import cli
from biofm_jax import experiment as experiments
from biofm_jax.experiment import load_experiment
from biofm_jax.train.checkpoint import CheckpointError
from biofm_jax.train.nonfinite import NonFiniteLoss
from biofm_jax.train.stop import Stopped

ROOT = Path(__file__).parents[1]
ESM2 = "experiments/computational_biology/esm2_masked.py"
SMOKE = f"{ESM2}:smoke"


@pytest.fixture(autouse=True)
def at_root(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("BIOFM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("biofm_jax.train.compile_cache.enable_compile_cache", lambda: None)


@pytest.fixture
def biofm(capsys):
    """Runs the command; returns the exit code and what it printed, white space squeezed."""

    def run(*arguments):
        try:
            code = cli.main(list(arguments))
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        return code, " ".join((printed.out + printed.err).split())

    return run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "usage: biofm VERB"),
        (["traim"], "no verb 'traim'. Did you mean train?"),
        (["train"], "usage: biofm train EXPERIMENT.py"),
        (["train", "experiments/computational_biology/esm2_maskd.py"], f"did you mean {ESM2}?"),
        (["train", f"{ESM2}:smok"], "no variant 'smok'; it has 35M"),
        (["train", SMOKE, "--loop.stps", "5"], "--loop.steps"),
        (["train", SMOKE, "--loop.steps", "many"], "--loop.steps"),
        (["train", SMOKE, "--optimizer.schedule", "square"], "inverse_sqrt"),
        (["train", SMOKE, "--loop.batch-size", "12"], "the nearest is 16"),
        (["train", SMOKE, "--loop.batch-size", "12"], "loop.batch_size 12 must be divisible"),
        (["train", SMOKE, "--loop.accumulate", "3"], "loop.accumulate = 24"),
        (["train", SMOKE, "--mesh.fsdp", "3"], "cannot be laid over 8 devices"),
        (["train", SMOKE, "--mesh.tensor", "8"], "must divide model.heads 4"),
        (["train", SMOKE, "--loop.steps", "0"], "loop.steps is 0"),
        (["train", SMOKE, "--model.vocabulary", "40"], "set --model.vocabulary 33"),
        (["train", SMOKE, "--model.causal", "True"], "needs --model.causal False"),
        (["train", SMOKE, "--objective.rate", "2", "--dry-run", "True"], "objective.rate is 2.0"),
        (["train", SMOKE, "--optimizer.freeze", "blokcs", "--dry-run", "True"], "blokcs"),
        (["list", "nothing"], "experiments"),
        (["evaluate", "runs/none", "--task", "nothing"], "nothing"),
        (["evaluate", "runs/none", "--task", "esol", "--seeds", "0"], "--seeds is 0"),
        (["evaluate", "runs/none", "--task", "esol"], "runs/none is no run"),
        (["evaluate", f"random:{SMOKE}", "--task", "esol"], "is a task of molecule models"),
        (
            ["evaluate", "baselines", "--task", "esol", "--groups", "no.csv"],
            "no.csv does not exist",
        ),
        (["evaluate", "runs/none", "--task", "esol", "--probe.layer", "-2"], "--probe.layer is -2"),
        (["sweep", SMOKE, "--over", "objective.rte=0.1,0.2"], "did you mean objective.rate?"),
        (["sweep", SMOKE, "--over", "objective.rate=0.1,0.2"], "--data.path"),
        (["data"], "usage: biofm data prepare"),
        (["data", "prepare", "protein", "missing.fasta", "--out", "x"], "missing.fasta"),
    ],
)
def test_misuse_says_what_is_wrong_and_exits_with_2(biofm, arguments, words, tmp_path):
    if arguments[:1] == ["train"] and len(arguments) > 2:
        arguments = [*arguments, "--workdir", str(tmp_path / "run")]
    code, printed = biofm(*arguments)
    assert code == 2
    assert words in printed
    assert not (tmp_path / "run").exists()  # refused before anything was written


def test_a_row_longer_than_learned_positions_is_refused(biofm, tmp_path):
    file = tmp_path / "learned.py"
    file.write_text(
        "import dataclasses, runpy\n"
        "from biofm_jax.models.positions import Learned\n"
        f"base = runpy.run_path({str(ROOT / ESM2)!r})['variants']['smoke']\n"
        "model = dataclasses.replace(base.model, positions=Learned(maximum=100))\n"
        "experiment = dataclasses.replace(base, model=model)\n"
    )
    code, printed = biofm("train", str(file), "--workdir", str(tmp_path / "run"))
    assert code == 2 and "data.max_tokens 128 is longer than the 100 positions" in printed
    fits = ["--model.positions.maximum", "128", "--dry-run", "True"]
    assert biofm("train", str(file), *fits)[0] == 0


def test_a_file_without_an_experiment_is_refused(biofm, tmp_path):
    (tmp_path / "empty.py").write_text("x = 1\n")
    code, printed = biofm("train", str(tmp_path / "empty.py"))
    assert code == 2 and "must end in `experiment = Experiment(...)`" in printed


@pytest.mark.parametrize("given", [[], ["--data.path", "missing.fasta"]])
def test_missing_data_is_named(biofm, given, tmp_path):
    code, printed = biofm("train", SMOKE, *given, "--workdir", str(tmp_path / "run"))
    assert code == 2
    assert ("missing.fasta" if given else "--data.path") in printed


def test_a_dry_run_reads_and_writes_nothing(biofm, tmp_path):
    workdir = tmp_path / "run"
    arguments = ["--dry-run", "True", "--workdir", str(workdir), "--loop.steps", "7"]
    code, printed = biofm("train", SMOKE, *arguments, "--json", "True", "--mesh.fsdp", "2")
    assert code == 0 and not workdir.exists()
    # The document comes first; a log line of the standard error may follow.
    (row,), _ = json.JSONDecoder().raw_decode(printed)
    assert row["steps"] == 7 and row["tokens"] == 7 * 8 * 128
    assert row["mesh"] == "data 4, fsdp 2, tensor 1, context 1"
    code, printed = biofm("train", SMOKE, *arguments)
    assert code == 0 and "nothing was written" in printed


def test_overrides_reach_the_run(biofm, tmp_path, monkeypatch):
    seen = []

    def record(experiment, workdir, show, start):
        seen.append((experiment, workdir))
        raise NonFiniteLoss("step 3: loss nan")

    monkeypatch.setattr(experiments, "train", record)
    biofm(
        "train", SMOKE, "--objective.rate", "0.3", "--loop.steps", "9", "--optimizer.name", "lion",
        "--workdir", str(tmp_path), "--model.dropout", "0.2",
    )  # fmt: skip
    ((experiment, workdir),) = seen
    assert workdir == tmp_path
    assert experiment.objective.rate == 0.3 and experiment.loop.steps == 9
    assert experiment.optimizer.name == "lion" and experiment.model.dropout == 0.2
    base = load_experiment(SMOKE)
    assert experiment.data == base.data and experiment.model.width == base.model.width


@pytest.mark.parametrize(
    "error", [NonFiniteLoss("step 3: loss nan"), CheckpointError("full"), Stopped("by SIGTERM")]
)
def test_a_failed_run_exits_with_1_and_no_traceback(biofm, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(experiments, "train", fail)
    code, printed = biofm("train", SMOKE)
    assert code == 1 and str(error) in printed and "Traceback" not in printed


def test_a_workdir_of_another_experiment_is_refused(biofm, tmp_path):
    (tmp_path / "experiment.json").write_text(json.dumps(load_experiment(SMOKE).to_json()))
    before = (tmp_path / "experiment.json").read_bytes()
    workdir = ["--workdir", str(tmp_path)]
    code, printed = biofm("train", SMOKE, *workdir, "--model.width", "32")
    assert code == 2 and "belongs to another experiment (model.width: 64 there, 32 here" in printed
    assert (tmp_path / "experiment.json").read_bytes() == before
    # More steps or another mesh go on with it: refused later, for its missing data.
    code, printed = biofm("train", SMOKE, *workdir, "--loop.steps", "9", "--mesh.fsdp", "2")
    assert code == 2 and "--data.path" in printed and "another experiment" not in printed


@pytest.mark.parametrize("what", ["experiments", "models", "tasks", "data"])
def test_lists_are_tables_and_json(biofm, what):
    code, printed = biofm("list", what, "--json", "True")
    rows = json.loads(printed)
    assert code == 0 and rows and all(isinstance(row, dict) for row in rows)
    code, table = biofm("list", what)
    assert code == 0 and str(next(iter(rows[0].values())))[:12] in table


@pytest.mark.parametrize("columns", ["60", "80", "300"])
def test_a_name_to_type_is_never_cut(biofm, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    code, printed = biofm("list", "experiments")
    assert code == 0 and ESM2 in printed and "smiles_next_token.py" in printed
    assert "…" not in printed


def test_the_experiments_that_are_listed_can_be_read(biofm):
    rows = json.loads(biofm("list", "--json", "True")[1])
    assert ESM2 in [row["file"] for row in rows]
    assert not [row for row in rows if "cannot be read" in row["about"]]


def test_tasks_are_listed_in_the_order_of_the_survey(biofm):
    rows = json.loads(biofm("list", "tasks", "--json", "True")[1])
    kinds = list(dict.fromkeys((row["domain"], row["modality"]) for row in rows))
    order = [("computational biology", "protein"), ("drug discovery", "molecule")]
    assert [kind for kind in kinds if kind in order] == order


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], "Exit code"),
        (["--version"], "0."),
        (["list", "--help"], "usage: biofm list"),
        (["train", "--help"], "usage: biofm train"),
        (["train", SMOKE, "--help"], "--mesh.fsdp"),
        (["evaluate", "--help"], "--seeds"),
        (["sweep", "--help"], "--over"),
        (["report", "--help"], "--title"),
        (["data", "--help"], "usage: biofm data"),
        (["data", "prepare", "--help"], "--tolerance"),
        (["data", "inspect", "--help"], "--max-tokens"),
    ],
)
def test_help(biofm, arguments, words):
    code, printed = biofm(*arguments)
    assert code == 0 and words in printed


def test_every_verb_is_in_the_help(biofm):
    printed = biofm("--help")[1]
    assert all(re.search(rf"\b{verb}\b", printed) for verb in cli.VERBS)


def test_an_evaluation_can_be_planned_without_running(biofm):
    code, printed = biofm(
        "evaluate", "runs/none", "--task", "esol", "bbbp", "--method", "probe", "finetune",
        "--dry-run", "True", "--json", "True",
    )  # fmt: skip
    assert code == 0
    pairs = [(row["task"], row["method"]) for row in json.loads(printed)]
    assert pairs == [(t, m) for t in ("esol", "bbbp") for m in ("probe", "finetune")]


def test_baselines_and_options_of_the_probe_are_planned(biofm):
    given = ["--dry-run", "True", "--json", "True"]
    code, printed = biofm("evaluate", "baselines", "--task", "esol", "dms_blat", *given)
    assert code == 0
    assert [(row["task"], row["method"]) for row in json.loads(printed)] == [
        ("esol", "baseline"),
        ("dms_blat", "baseline"),
    ]
    options = ["--probe.pooling", "cls", "--probe.layer", "2", "--fraction", "10"]
    _, printed = biofm("evaluate", "runs/none", "--task", "esol", *options, *given)
    assert json.loads(printed)[0]["method"] == "probe(pooling=cls, layer=2)@10%"
    code, printed = biofm("evaluate", "runs/none", "--task", "esol", "--probe.pooling", "max")
    assert code == 2 and "mean" in printed


def test_data_is_prepared_and_inspected(biofm, tmp_path):
    fasta = tmp_path / "p.fasta"
    fasta.write_text(">a\nMKTAYIAK\n>b\nMKTAY\n>bad\n\n")
    out = str(tmp_path / "out")
    code, printed = biofm("data", "prepare", "protein", str(fasta), "--out", out)
    assert code == 2 and "bad" in printed and not Path(out).exists()
    code, printed = biofm(
        "data", "prepare", "protein", str(fasta), "--out", out, "--tolerance", "0.5"
    )
    assert code == 0 and "2 protein records" in printed and "1 bad" in printed
    code, printed = biofm("data", "inspect", out)
    assert code == 0 and "MKTAYIAK" in printed
