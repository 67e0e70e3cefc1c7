import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from biofm_jax.adapt import probe as module
from biofm_jax.adapt.labelled import Labelled
from biofm_jax.adapt.probe import probe, probe_adapter
from biofm_jax.errors import UserError


def planted(n, d=8, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * 10.0 ** np.arange(-2, d - 2)  # features on very unlike scales
    y = (x / 10.0 ** np.arange(-2, d - 2)) @ np.array([[1.0, -2, 0, 0, 3, 0, 0, 1]]).T
    return x, y + noise * rng.normal(size=y.shape)


def parts(x, y, first, second):
    return x[:first], y[:first], x[first:second], y[first:second], x[second:]


def test_ridge_recovers_a_planted_signal():
    x, y = planted(300)
    predicted = probe(*parts(x, y, 200, 250), "number")
    assert np.sqrt(np.mean((predicted - y[250:]) ** 2)) < 0.15  # the noise is 0.1
    np.testing.assert_array_equal(predicted, probe(*parts(x, y, 200, 250), "number"))


def test_logistic_recovers_a_planted_signal():
    x, y = planted(400)
    label = (y > 0).astype(float)
    predicted = probe(*parts(x, label, 300, 350), "binary")
    assert ((predicted > 0) & (predicted < 1)).all()
    assert np.mean((predicted > 0.5) == label[350:]) > 0.9


def test_chosen_strength_is_the_best_on_validation_and_only_training_rows_are_fitted():
    x, y = planted(130, noise=4.0, seed=3)
    x_train, y_train, x_valid, y_valid, x_test = parts(x, y, 60, 100)
    scaler = StandardScaler().fit(x_train)
    fits = [
        Ridge(alpha=alpha).fit(scaler.transform(x_train), y_train[:, 0])
        for alpha in module.STRENGTHS["number"]
    ]
    errors = [np.mean((f.predict(scaler.transform(x_valid)) - y_valid[:, 0]) ** 2) for f in fits]
    best = fits[int(np.argmin(errors))]
    predicted = probe(x_train, y_train, x_valid, y_valid, x_test, "number")
    np.testing.assert_allclose(predicted[:, 0], best.predict(scaler.transform(x_test)))
    assert 0 < np.argmin(errors) < len(errors) - 1  # the choice was not at an end of the grid


@pytest.mark.parametrize("shape", [(90, 20), (30, 50)])
def test_ridge_at_every_strength_equals_sklearn(shape):
    rng = np.random.default_rng(0)
    x = StandardScaler().fit_transform(rng.normal(size=shape))
    x[:, 1] = x[:, 0]  # singular
    x_test, y = rng.normal(size=(7, shape[1])), rng.normal(size=shape[0]) + 5
    got = module._ridge_path(x, x_test, y, module.STRENGTHS["number"])
    for row, alpha in zip(got, module.STRENGTHS["number"]):
        want = Ridge(alpha=alpha, solver="svd").fit(x, y).predict(x_test)
        np.testing.assert_allclose(row, want, rtol=1e-8)


def test_test_items_change_nothing_but_their_own_prediction():
    """Neither the scaling nor the penalty may depend on other test items."""
    x, y = planted(120)
    whole = probe(*parts(x, y, 80, 110), "number")
    wild = x.copy()
    wild[111:] *= 1e6
    np.testing.assert_array_equal(probe(*parts(wild, y, 80, 110), "number")[0], whole[0])
    alone = probe(*parts(x[:111], y[:111], 80, 110), "number")
    np.testing.assert_allclose(alone[0], whole[0], rtol=1e-12)


def test_small_validation_part_joins_the_training_rows():
    x, y = planted(60)
    with_valid = probe(*parts(x, y, 40, 45), "number")
    joined = probe(x[:45], y[:45], x[:0], y[:0], x[45:], "number")
    np.testing.assert_array_equal(with_valid, joined)


@pytest.mark.parametrize("kind", ["number", "binary"])
def test_missing_labels_leave_only_their_own_column(kind):
    x, y = planted(200)
    if kind == "binary":
        y = (y > 0).astype(float)
    both = np.concatenate([y, y[:, ::-1]], 1)
    both[::3, 1] = np.nan
    keep = ~np.isnan(both[:, 1])
    train, valid = np.arange(200) < 120, (np.arange(200) >= 120) & (np.arange(200) < 180)
    predicted = probe(*parts(x, both, 120, 180), kind)
    dropped = probe(
        x[train & keep],
        both[train & keep, 1:],
        x[valid & keep],
        both[valid & keep, 1:],
        x[180:],
        kind,
    )
    np.testing.assert_allclose(predicted[:, 1], dropped[:, 0])
    np.testing.assert_array_equal(predicted[:, 0], probe(*parts(x, y, 120, 180), kind)[:, 0])


def test_degenerate_labels():
    x, y = planted(50)
    ones = np.ones_like(y)
    assert (probe(*parts(x, ones, 30, 40), "binary") == 1).all()
    assert (probe(*parts(x, ones, 30, 40), "number") == 1).all()
    with pytest.raises(UserError, match="column 0 has no label"):
        probe(*parts(x, ones * np.nan, 30, 40), "number")
    few = probe(x[:2], np.array([[0.0], [1.0]]), x[:0], y[:0], x[2:4], "binary")
    assert np.isfinite(few).all()
    x[35, 0] = np.inf
    with pytest.raises(UserError, match="validation item 5 are not finite"):
        probe(*parts(x, y, 30, 40), "number")


def test_two_numbers_are_hardly_extrapolated():
    """Cross-validation of two labels fits on one: all penalties look alike."""
    errors = []
    for seed in range(20):
        x, y = planted(40, seed=seed)
        predicted = probe(x[:2], y[:2], x[:0], y[:0], x[2:], "number")
        errors.append(np.sqrt(np.mean((predicted - y[2:]) ** 2)) / y.std())
    # One number predicted by another is wrong by 1.4 deviations; the weakest penalty by 4.
    assert np.mean(errors) < 2


def test_adapter_embeds_each_text_once_per_model():
    asked = []

    def features(texts):
        asked.append(list(texts))
        return np.array([[len(t), t.count("A")] for t in texts], float)

    def labelled(texts):
        targets = np.array([[t.count("A")] for t in texts], float)
        return Labelled(tuple(str(i) for i in range(len(texts))), tuple(texts), targets)

    train = labelled(["A" * i + "C" * j for i in range(6) for j in range(1, 6)])
    valid, test = labelled(["AC", "CC"]), labelled(["AAAACCCC", "AC"])
    adapter = probe_adapter(lambda seed: features, "number")
    predicted = adapter(train, valid, test.without_targets(), 0)
    np.testing.assert_allclose(predicted[:, 0], [4, 1], atol=0.05)
    adapter(train, valid, test.without_targets(), 1)
    assert len(asked) == 1 and len(asked[0]) == len(set(asked[0]))
