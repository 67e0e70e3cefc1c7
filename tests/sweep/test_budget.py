import dataclasses

import numpy as np
import pytest

from biofm_jax.errors import UserError
from biofm_jax.experiment import load_experiment
from biofm_jax.models.heads import ProjectionHead
from biofm_jax.objectives.contrastive import Contrastive
from biofm_jax.sweep.budget import cost, document_lengths, match_budget, step_tokens
from biofm_jax.sweep.overrides import override


@pytest.fixture
def base(tiny):
    experiment = load_experiment(tiny)
    return override(override(experiment, "loop.steps", "1000"), "optimizer.warmup", "100")


def test_documents_are_measured(base):
    lengths = np.diff(base.data.open().offsets)
    # A token attends to its own document: the mean over tokens, not over documents.
    own = [length for length in lengths for _ in range(length)]
    assert document_lengths(base.data).attended == pytest.approx(np.mean(own))
    assert document_lengths(base.data).fill == 1.0
    short = dataclasses.replace(base.data, max_tokens=16, pack=False)
    cut = np.minimum(lengths, 16)
    assert document_lengths(short).fill == pytest.approx(cut.mean() / 16)
    assert document_lengths(short).attended == pytest.approx((cut**2).sum() / cut.sum())


def test_the_cost_by_hand(base):
    found, t = cost(base), document_lengths(base.data).attended
    assert (found.steps, found.tokens) == (1000, 1000 * 8 * 64)
    token = 6 * (12 * 16**2) + 12 * 16 * t + 6 * (16**2 + 33 * 16) * 0.15
    assert found.flops == pytest.approx(found.tokens * token)


def test_both_views_of_a_pair_count(base):
    pairs = dataclasses.replace(
        base,
        objective=Contrastive(),
        model=dataclasses.replace(base.model, head=ProjectionHead(8)),
    )
    assert step_tokens(pairs) == 2 * step_tokens(base)


@pytest.mark.parametrize(
    ("path", "text", "steps"),
    [("loop.batch_size", "32", 250), ("data.max_tokens", "32", 2000), ("model.width", "64", 1000)],
)
def test_equal_tokens(base, path, text, steps):
    made = match_budget(override(base, path, text), base, "tokens", keep_warmup=False)
    assert made.loop.steps == steps and made.optimizer.warmup == steps // 10
    assert cost(made).tokens == cost(base).tokens


@pytest.mark.parametrize(
    ("path", "text"),
    [("model.width", "64"), ("model.layers", "3"), ("loop.batch_size", "24"),
     ("objective.rate", "0.6"), ("model.gated", "True")],
)  # fmt: skip
def test_equal_flops(base, path, text):
    changed = override(base, path, text)
    made = match_budget(changed, base, "flops", keep_warmup=False)
    assert made.loop.steps < 1000
    # To the nearest step.
    assert abs(cost(made).flops - cost(base).flops) <= 0.51 * cost(made).flops / made.loop.steps


def test_without_matching_nothing_changes(base):
    changed = override(base, "loop.batch_size", "32")
    assert match_budget(changed, base, "none", keep_warmup=False) is changed


def test_warmup_that_is_swept_stays(base):
    changed = override(base, "loop.batch_size", "32")
    assert match_budget(changed, base, "tokens", keep_warmup=True).optimizer.warmup == 100


def test_a_budget_below_one_step_is_refused(base):
    short = override(base, "loop.steps", "1")
    changed = override(base, "loop.batch_size", "64")
    with pytest.raises(UserError, match="a single step costs more tokens"):
        match_budget(changed, short, "tokens", keep_warmup=False)
