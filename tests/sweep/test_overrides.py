import pytest

from biofm_jax.errors import UserError
from biofm_jax.experiment import load_experiment
from biofm_jax.models.embedding import TokenDropout
from biofm_jax.models.positions import Alibi, Learned, Relative
from biofm_jax.sweep.overrides import override, split_values


@pytest.fixture
def experiment(tiny):
    return load_experiment(tiny)


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("objective.rate", "0.3", 0.3),
        ("loop.batch_size", "16", 16),
        ("loop.batch-size", "16", 16),
        ("optimizer.weight_decay", "-1", -1.0),
        ("optimizer.schedule", "linear", "linear"),
        ("optimizer.freeze", "embed blocks", ("embed", "blocks")),
        ("optimizer.no_decay", "", ()),
        ("data.path", "-a b.fasta", "-a b.fasta"),
        ("data.pack", "False", False),
        ("model.kv_heads", "1", 1),
        ("model.kv_heads", "None", None),
        ("model.biases.qkv", "False", False),
        ("model.positions", "ALiBi", Alibi()),
        ("model.positions", "learned", Learned()),
        ("model.positions", "Learned(maximum=64, offset=2)", Learned(64, 2)),
        ("model.positions", "Relative(distance=200)", Relative(distance=200)),
        ("model.positions.base", "500", 500.0),
        ("model.token_dropout", "TokenDropout", TokenDropout()),
        ("model.head", "None", None),
        ("tasks", "esol bbbp", ("esol", "bbbp")),
    ],
)
def test_a_field_is_changed_and_no_other(experiment, path, text, value):
    changed = override(experiment, path, text)
    names = path.replace("-", "_").split(".")
    for one, other in ((experiment, changed),):
        for depth, name in enumerate(names):
            before, after = getattr(one, name), getattr(other, name)
            if depth == len(names) - 1:
                assert after == value and type(after) is type(value)
            siblings = set(one.__dataclass_fields__) - {name}
            assert all(getattr(one, s) == getattr(other, s) for s in siblings)
            one, other = before, after


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("objective.rte", "0.3", "objective, a MaskedLM, has no field rte; did you mean obj"),
        ("modl.layers", "3", "has no field modl; did you mean model.layers"),
        ("loop.steps.x", "3", "loop.steps is 4 and has no fields"),
        ("loop.steps", "1.5", "loop.steps=1.5: Error parsing --loop.steps"),
        ("optimizer.schedule", "square", "invalid choice 'square'"),
        ("model.biases.qkv", "maybe", "invalid choice 'maybe'"),
        ("model.positions", "Rotry", "it is one of Learned, Rotary, Alibi, Relative"),
        ("model.positions", "Learned(maximum=x)", "Learned\\(maximum=x\\): maximum=x: Error"),
        ("model.positions", "Learned(128)", "write Learned\\(name=value"),
        ("model.positions", "Learned(max=1)", "no field max; did you mean maximum"),
        ("model.positions.maximum", "9", "model.positions, a Rotary, has no field maximum"),
        ("model.biases", "False", "this is a whole Biases; name one of its fields"),
        ("objective", "NextToken", "--over variant="),
        ("data.holdout", "2", "holdout is 2.0"),
    ],
)
def test_what_cannot_be_is_one_readable_line(experiment, path, text, words):
    with pytest.raises(UserError, match=words) as error:
        override(experiment, path, text)
    assert "\n" not in str(error.value) and "help" not in str(error.value)


def test_commas_in_brackets_stay():
    assert split_values("a, b(c=1,d=2),") == ["a", "b(c=1,d=2)", ""]
