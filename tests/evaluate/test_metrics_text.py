import functools
from collections import Counter

import numpy as np
import pytest

from biofm_jax.errors import UserError
from biofm_jax.evaluate.item_metrics import item_score
from biofm_jax.evaluate.metrics_text import rouge, rouge_words


def brute_force(true, said, kind):
    """Precision, recall and F1 of two lists of words, straight from Lin 2004."""
    if kind == "L":

        @functools.cache
        def longest(i, j):
            if i == len(true) or j == len(said):
                return 0
            if true[i] == said[j]:
                return 1 + longest(i + 1, j + 1)
            return max(longest(i + 1, j), longest(i, j + 1))

        shared, of_true, of_said = longest(0, 0), len(true), len(said)
    else:
        n = int(kind)
        one = [" ".join(true[i : i + n]) for i in range(len(true) - n + 1)]
        two = [" ".join(said[i : i + n]) for i in range(len(said) - n + 1)]
        shared = sum(min(count, two.count(gram)) for gram, count in Counter(one).items())
        of_true, of_said = len(one), len(two)
    if shared == 0:
        return 0.0, 0.0, 0.0
    precision, recall = shared / of_said, shared / of_true
    return precision, recall, 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("kind", ["1", "2", "L"])
def test_rouge_equals_brute_force_on_random_texts(kind):
    rng = np.random.default_rng(0)
    for _ in range(150):
        one, two = (rng.choice(list("abcde"), rng.integers(0, 90)).tolist() for _ in range(2))
        got = rouge(" ".join(one), " ".join(two), kind)
        assert got == pytest.approx(brute_force(one, two, kind), abs=1e-12)


def test_rouge_by_hand():
    """The example of Lin 2004, section 3."""
    reference = "police killed the gunman"
    assert rouge(reference, "police kill the gunman", "L")[2] == pytest.approx(3 / 4)
    assert rouge(reference, "the gunman kill police", "L")[2] == pytest.approx(2 / 4)
    assert rouge(reference, "the gunman police killed", "2")[1] == pytest.approx(2 / 3)
    assert rouge("a a a b", "a a c", "1") == pytest.approx((2 / 3, 2 / 4, 4 / 7))


def test_words_are_lower_case_letters_and_digits():
    assert rouge_words("IL-6 (p<0.05),\nTNF-α rose") == ["il", "6", "p", "0", "05", "tnf", "rose"]
    assert rouge("", "something", "1") == (0.0, 0.0, 0.0)


def test_score_over_texts_is_the_mean_f1():
    references = ["the trial met its end point", "no effect was seen", "a large effect"]
    candidates = ["the trial met no end point", "no effect", "unclear"]
    for kind in "12L":
        found = item_score(f"rouge_{kind.lower()}", references, candidates)
        pairs = zip(references, candidates)
        want = np.mean([rouge(*pair, kind)[2] for pair in pairs])
        assert found.value == pytest.approx(want)
        assert found.low <= want <= found.high
    with pytest.raises(UserError, match="3 true items, but 1"):
        item_score("rouge_1", references, ["one"])
    with pytest.raises(UserError, match="no ROUGE-3"):
        rouge("a", "b", "3")
