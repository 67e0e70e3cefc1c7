import numpy as np

from biofm_jax.data.criteria import HashedWords, split_criteria
from biofm_jax.data.trial_arrays import fitting


def test_points_and_paragraphs_are_sentences_and_headings_say_whose():
    text = """Key Inclusion Criteria:
    * Adults with
      gout
    2. Able to consent

    Kidney function is normal.
    EXCLUSION CRITERIA
    - Inclusion in another study within the last thirty days before the first dose
    a) Pregnancy
    Other protocol-defined inclusion/exclusion criteria may apply"""
    found = split_criteria(text)
    assert found.inclusion == (
        "Adults with gout",
        "Able to consent",
        "Kidney function is normal.",
    )
    assert found.exclusion[:2] == (
        "Inclusion in another study within the last thirty days before the first dose",
        "Pregnancy Other protocol-defined inclusion/exclusion criteria may apply",
    )


def test_without_headings_all_is_inclusion():
    assert split_criteria("DISEASE:\n\n- Measurable\n").inclusion == ("DISEASE:", "Measurable")
    assert split_criteria("").inclusion == split_criteria(" \n").exclusion == ()


def test_words_are_hashed_the_same_everywhere():
    words = HashedWords(64)
    ids = words.encode("Age ≥ 18 years, AGE")
    assert ids[0] == words.vocabulary.cls and ids[-1] == words.vocabulary.eos
    assert ids[1] == ids[5] and len(ids) == 7 and (ids[1:-1] >= 5).all()
    np.testing.assert_array_equal(ids, [0, 55, 62, 24, 60, 55, 2])
    assert words.vocabulary.size == 69 and words.fingerprint() != HashedWords(65).fingerprint()


def test_both_sides_keep_their_share_of_a_row():
    assert fitting([[2] * 10, [2] * 5], tokens=12, segments=40) == [4, 2]
    assert fitting([[2] * 10, [2] * 5], tokens=100, segments=9) == [6, 3]
    assert fitting([[2] * 3, []], tokens=100, segments=9) == [3, 0]
    assert fitting([[], []], tokens=4, segments=4) == [0, 0]
