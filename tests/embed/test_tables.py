import numpy as np
import pytest

from biofm_jax.embed.tables import Layout
from biofm_jax.errors import UserError


@pytest.mark.parametrize("dtype, said", [("float16", "--dtype float32"), ("float32", "damaged")])
@pytest.mark.parametrize("by_token", [False, True])
def test_numbers_that_are_not_finite_name_their_sequence(dtype, said, by_token):
    layout = Layout(("embedding_layer_0", "embedding_layer_1"), 2, dtype, by_token)
    kept = np.array([2, 1, 3])
    rows = int(kept.sum()) if by_token else len(kept)
    good, bad = np.ones((rows, 2), dtype), np.ones((rows, 2), dtype)
    ids = ["a", "b", "c"]
    assert len(layout.table(ids, [good, good], kept, {})) == 3
    bad[2 if by_token else 1, 1] = np.inf
    with pytest.raises(UserError, match=f"embedding_layer_1 of b is not finite.*{said}"):
        layout.table(ids, [good, bad], kept, {})
