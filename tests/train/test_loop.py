import dataclasses
import json
import logging
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_batches import CASES, FAST, RESIDUES, VOCABULARY, compiled_once, one_device

from biofm_jax.data.in_memory import example_batches, pack_examples
from biofm_jax.errors import UserError
from biofm_jax.train.checkpoint import Checkpoints
from biofm_jax.train.lock import locked
from biofm_jax.train.logging import ProgressBar
from biofm_jax.train.loop import LoopSpec, _Run, fit
from biofm_jax.train.nonfinite import NonFiniteLoss
from biofm_jax.train.stop import Stopped

OBJECTIVE = CASES["next_token"][0].build(VOCABULARY)
MODEL = dataclasses.replace(CASES["next_token"][1], layers=1, width=16, heads=2).build()
LOOP = LoopSpec(steps=6, batch_size=4, log_every=2, checkpoint_every=2)


@pytest.fixture(scope="module", autouse=True)
def compile_cache(tmp_path_factory):
    with compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


def sequences(count=300):
    rng = np.random.default_rng(0)
    return [rng.choice(RESIDUES, rng.integers(3, 30)).astype(np.int32) for _ in range(count)]


def run(workdir=None, loop=LOOP, objective=OBJECTIVE, **more):
    rows = {"max_tokens": 32, "segments": 4, "batch_size": 4}
    packed = pack_examples(sequences(30), VOCABULARY, **rows)
    return fit(
        MODEL,
        objective,
        example_batches(sequences(), VOCABULARY, seed=1, **rows),
        optimizer=FAST,
        mesh=one_device(),
        loop=loop,
        workdir=workdir,
        held_out=lambda: iter(packed.batches),
        show=False,
        **more,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    loop = dataclasses.replace(LOOP, steps=200, log_every=10, eval_every=50, checkpoint_every=90)
    return workdir, run(workdir, loop, keep_best=True)


def test_variable_lengths_compile_the_step_once(finished):
    _, result = finished
    assert result.compilations == 1 and int(result.state.step) == 200


def test_the_loss_falls_and_every_due_step_is_logged(finished):
    workdir, result = finished
    losses = {row["step"]: row["loss"] for row in result.rows}
    assert list(losses) == list(range(10, 201, 10))
    assert losses[200] < losses[10] - 0.1
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert lines == result.rows
    assert {"loss", "gradient_norm", "accuracy", "tokens_per_second"} <= set(lines[0])
    assert (workdir / "curve.png").stat().st_size > 1000
    assert list((workdir / "tensorboard").iterdir())


def test_the_progress_tells_what_is_counted(capsys):
    bar = ProgressBar("vit", 10, unit="images")
    bar.note(10, 0.5, 1234.4)
    assert "vit: step 10/10  loss 0.5000  1,234 images/s" in capsys.readouterr().err


def test_the_held_out_loss_is_logged_and_the_best_parameters_kept(finished):
    _, result = finished
    held = {row["step"]: row["validation_loss"] for row in result.rows if "validation_loss" in row}
    assert list(held) == [50, 100, 150, 200]
    kept = np.asarray(result.best["embed"]["tokens"])
    last = np.asarray(result.state.params["embed"]["tokens"])
    assert np.array_equal(kept, last) == (min(held, key=held.get) == 200)


def test_the_last_step_and_the_due_ones_are_saved(finished):
    checkpoints = Checkpoints(finished[0] / "checkpoints")
    assert checkpoints.steps() == [180, 200]
    checkpoints.close()


def test_a_longer_run_goes_on_from_the_last_checkpoint(tmp_path):
    whole = run(tmp_path / "whole", dataclasses.replace(LOOP, steps=10, log_every=1))
    first = run(tmp_path / "parts", dataclasses.replace(LOOP, steps=5, log_every=1))
    second = run(tmp_path / "parts", dataclasses.replace(LOOP, steps=10, log_every=1))
    assert first.resumed_from is None and second.resumed_from == 5
    # A constant rate, so that the schedule is that of the longer run.
    losses = [[(row["step"], row["loss"]) for row in r.rows] for r in (whole, second)]
    assert losses[0] == losses[1] and len(losses[0]) == 10
    jax.tree.map(np.testing.assert_array_equal, *(jax.device_get(r.state) for r in (whole, second)))


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
    first = run(tmp_path)
    again = run(tmp_path)
    assert again.resumed_from == 6 and again.rows == first.rows


def test_a_run_goes_on_past_a_damaged_checkpoint_and_logs_no_step_twice(tmp_path, caplog):
    first = run(tmp_path, dataclasses.replace(LOOP, log_every=1))
    for path in (tmp_path / "checkpoints" / "6").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:10])
    with caplog.at_level(logging.WARNING, "biofm_jax"):
        again = run(tmp_path, dataclasses.replace(LOOP, log_every=1))
    assert again.resumed_from == 4
    assert "newest whole checkpoint, step 4" in caplog.text
    losses = [[(row["step"], row["loss"]) for row in r.rows] for r in (first, again)]
    assert losses[0] == losses[1]
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.steps() == [4, 6]
    checkpoints.close()


def poisoned(record):
    """The objective, but NaN in a batch that holds a certain record."""

    def loss(apply, params, state, batch, rng):
        found = OBJECTIVE.loss(apply, params, state, batch, rng)
        bad = jnp.any(batch.examples == record)
        return dataclasses.replace(found, total=jnp.where(bad, jnp.nan, found.total))

    return dataclasses.replace(OBJECTIVE, loss=loss)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    bad = bad_record(5)
    with pytest.raises(NonFiniteLoss) as caught:
        run(tmp_path, objective=poisoned(bad))
    message = str(caught.value)
    assert "step 5: loss nan" in message
    assert f" {bad}," in message or f" {bad}." in message
    assert "the checkpoint of step 4 is good" in message
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.steps() == [2, 4]  # step 6 was never saved
    checkpoints.close()
    steps = [json.loads(x)["step"] for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4]


def test_without_a_checkpoint_the_message_says_so():
    with pytest.raises(NonFiniteLoss, match="no checkpoint was saved before"):
        run(objective=dataclasses.replace(OBJECTIVE, loss=_always_nan))


def bad_record(step):
    """A record that is seen at that step of `run` for the first time."""
    rows = {"max_tokens": 32, "segments": 4, "batch_size": 4}
    drawn = example_batches(sequences(), VOCABULARY, seed=1, **rows)
    return int([next(drawn).examples for _ in range(step)][-1][0, 0])


def test_a_loss_that_is_no_number_is_skipped_and_the_rest_resumes_bitwise(tmp_path, caplog):
    bad = bad_record(5)
    objective = poisoned(bad)
    loop = dataclasses.replace(LOOP, steps=8, log_every=1, on_nonfinite="skip", skip_budget=1)
    with caplog.at_level(logging.WARNING, "biofm_jax"):
        whole = run(tmp_path / "whole", loop, objective)
    assert "skipped step 5: loss nan" in caplog.text and str(bad) in caplog.text
    assert "1 of 1 skips are used" in caplog.text
    rows = {row["step"]: row for row in whole.rows}
    assert [row["skipped"] for row in rows.values()] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert "loss" not in rows[5] and all("loss" in rows[s] for s in rows if s != 5)
    assert "NaN" not in (tmp_path / "whole" / "metrics.jsonl").read_text()
    # The update of step 5 was left away, and nothing else.
    states = [
        jax.device_get(run(loop=dataclasses.replace(loop, steps=s), objective=objective).state)
        for s in (4, 5)
    ]
    assert [int(state.step) for state in states] == [4, 5]
    for name in ("params", "opt_state", "objective_state"):
        parts = (getattr(state, name) for state in states)
        jax.tree.map(np.testing.assert_array_equal, *parts)
    # Stopped after the skip and started again: the same losses, and the same count.
    run(tmp_path / "parts", dataclasses.replace(loop, steps=6), objective)
    again = run(tmp_path / "parts", loop, objective)
    kept = [
        [(row["step"], row.get("loss"), row["skipped"]) for row in r.rows] for r in (whole, again)
    ]
    assert again.resumed_from == 6 and kept[0] == kept[1]
    jax.tree.map(np.testing.assert_array_equal, *(jax.device_get(r.state) for r in (whole, again)))


def test_more_skips_than_the_budget_stop_the_run(tmp_path):
    loop = dataclasses.replace(LOOP, on_nonfinite="skip", skip_budget=2)
    with pytest.raises(NonFiniteLoss, match=r"step 3: .*skip_budget 2 is used up"):
        run(tmp_path, loop, dataclasses.replace(OBJECTIVE, loss=_always_nan))
    # Two skips and the state they left are saved; the third is not.
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.steps() == [2]
    checkpoints.close()
    # The budget is of the whole run: a restart has none left.
    with pytest.raises(NonFiniteLoss, match="step 3"):
        run(tmp_path, loop, dataclasses.replace(OBJECTIVE, loss=_always_nan))


def test_without_a_bad_step_skipping_changes_nothing():
    losses = [
        [row["loss"] for row in run(loop=dataclasses.replace(LOOP, on_nonfinite=policy)).rows]
        for policy in ("stop", "skip")
    ]
    # Another program, which rounds otherwise: Adam makes whole steps of gradients that are zero
    # but for rounding, in parameters on which the loss does not depend.
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize(
    "change, words",
    [({"on_nonfinite": "ignore"}, "on_nonfinite is 'ignore'"), ({"skip_budget": -1}, "is -1")],
)
def test_policies_that_make_no_sense_are_named(change, words):
    with pytest.raises(UserError, match=words):
        dataclasses.replace(LOOP, **change).check(1)


def _always_nan(apply, params, state, batch, rng):
    found = OBJECTIVE.loss(apply, params, state, batch, rng)
    return dataclasses.replace(found, total=found.total * jnp.nan)


def test_a_workdir_in_use_is_refused(tmp_path):
    second = pytest.raises(UserError, match="another run is writing")
    with locked(tmp_path), second, locked(tmp_path):
        pass
    with locked(tmp_path):  # free again
        pass


@pytest.mark.parametrize(
    "name", ["steps", "batch_size", "accumulate", "log_every", "checkpoint_every", "keep"]
)
def test_numbers_that_make_no_run_are_named(name):
    with pytest.raises(UserError, match=rf"loop\.{name} is 0"):
        dataclasses.replace(LOOP, **{name: 0}).check(1)


def test_a_batch_that_microbatches_do_not_divide_is_refused():
    with pytest.raises(UserError, match=r"loop\.batch_size 4 .* the nearest is 3"):
        run(loop=dataclasses.replace(LOOP, accumulate=3))


def test_who_is_asked_to_stop_saves_before_it_evaluates(tmp_path, monkeypatch):
    """A SIGTERM during a step at whose end the held-out loss is due."""
    held = []
    start = ProgressBar.advance

    def advance(bar, step):
        start(bar, step)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(ProgressBar, "advance", advance)
    monkeypatch.setattr(_Run, "_evaluate", lambda self: held.append(self.step))
    with pytest.raises(Stopped, match="after step 1, and it is saved"):
        run(tmp_path, dataclasses.replace(LOOP, eval_every=1, checkpoint_every=6))
    assert not held
    assert Checkpoints(tmp_path / "checkpoints").steps() == [1]
