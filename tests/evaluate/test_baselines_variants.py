import numpy as np
import pytest
from sklearn.linear_model import Ridge
from toy_sequences import draw

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.errors import UserError
from biofm_jax.evaluate.baselines_variants import substitution_ridge, substitutions


def labelled(texts, targets):
    ids = tuple(map(str, range(len(texts))))
    targets = np.asarray(targets, float)
    return Labelled(ids, tuple(texts), targets[:, None] if targets.ndim == 1 else targets)


def test_substitutions_are_counted_against_the_usual_residue():
    texts = ("ACDA", "ACDA", "ACDC", "DCDA", "CCDD")
    got = substitutions(texts)  # residues A, C, D; lost, then gained
    assert got.tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 1, 0],
        [1, 0, 0, 0, 0, 1],
        [2, 0, 0, 0, 1, 1],
    ]
    with pytest.raises(UserError, match="one length"):
        substitutions(("AC", "ACD"))


def test_says_something_of_sites_that_were_never_mutated():
    rng = np.random.default_rng(0)
    wild = draw(rng, 60)
    harm = dict(zip("ACDEFGHIKLMNPQRSTVWY", rng.normal(size=20)))
    texts, labels, sites = [], [], []
    for site in range(60):
        for new in rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 6, replace=False):
            if new != wild[site]:
                texts.append(wild[:site] + new + wild[site + 1 :])
                labels.append(harm[new] - harm[wild[site]])
                sites.append(site)
    labels, sites = np.array(labels), np.array(sites)
    fit = np.flatnonzero(sites < 40)
    new = np.flatnonzero(sites >= 40)
    train = labelled([texts[i] for i in fit], labels[fit])
    test = labelled([texts[i] for i in new], [np.nan] * len(new))
    empty = labelled([], np.zeros((0, 1)))
    got = substitution_ridge(train, empty, test, seed=0)
    assert got.shape == (len(new), 1)
    assert np.corrcoef(got[:, 0], labels[new])[0, 1] > 0.95
    x = substitutions((*train.texts, *test.texts))
    want = Ridge(1.0).fit(x[: len(fit)], labels[fit]).predict(x[len(fit) :])
    np.testing.assert_allclose(got[:, 0], want)
    halves = (
        labelled(train.texts[:50], labels[fit][:50]),
        labelled(train.texts[50:], labels[fit][50:]),
    )
    np.testing.assert_allclose(substitution_ridge(*halves, test, seed=1), got)


def test_missing_labels_leave_only_their_own_column():
    texts = ("AAA", "CAA", "ACA", "AAC", "DAA", "ADA")
    labels = np.stack([np.arange(6.0), np.arange(6.0)], 1)
    labels[2, 1] = np.nan
    test = labelled(["AAD"], [[np.nan, np.nan]])
    empty = labelled([], np.zeros((0, 2)))
    got = substitution_ridge(labelled(texts, labels), empty, test, 0)
    assert got[0, 0] != got[0, 1] and np.isfinite(got).all()
