import numpy as np
from toy_sequences import draw, mutate

from biofm_jax.evaluate.variants import fewest_mutations, mutation_matrix


def test_distances_equal_counted_letters():
    rng = np.random.default_rng(0)
    wild = draw(rng, 40)
    texts = [mutate(rng, wild, share) for share in rng.uniform(0, 0.3, 60)] + [wild]
    rows, columns = np.arange(0, 61, 2), np.arange(1, 61, 2)
    expected = [min(sum(x != y for x, y in zip(texts[i], texts[j])) for j in columns) for i in rows]
    found = fewest_mutations(mutation_matrix(texts, wild), 40, rows, columns)
    assert found.tolist() == expected


def test_insertions_are_not_counted():
    assert mutation_matrix(["ACD", "ACDE"], "ACD") is None
