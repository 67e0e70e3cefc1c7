import numpy as np

from biofm_jax.interpret.attention import contact_map, coupling, rollout


def softmax_rows(shape, seed=0):
    values = np.random.default_rng(seed).random(shape)
    return values / values.sum(-1, keepdims=True)


def test_rollout_of_heads_that_look_at_themselves_is_the_identity():
    eyes = np.broadcast_to(np.eye(5), (3, 2, 5, 5))
    np.testing.assert_allclose(rollout(eyes), np.eye(5))


def test_rollout_follows_a_chain():
    """Every token looks at the one before it: two layers reach two back, with binomial shares."""
    step = np.eye(4, k=-1)
    step[0, 0] = 1
    flow = rollout(np.broadcast_to(step, (2, 1, 4, 4)))
    np.testing.assert_allclose(flow[3], [0, 0.25, 0.5, 0.25])


def test_rollout_rows_sum_to_one():
    np.testing.assert_allclose(rollout(softmax_rows((4, 3, 7, 7))).sum(1), 1)


def test_coupling_is_symmetric_and_without_row_sums():
    pairs = coupling(softmax_rows((2, 3, 6, 6)))
    np.testing.assert_allclose(pairs, np.swapaxes(pairs, -1, -2))
    np.testing.assert_allclose(pairs.sum(-1), 0, atol=1e-12)


def test_what_all_tokens_attend_to_couples_nothing():
    hub = np.zeros((1, 1, 5, 5))
    hub[..., 2] = 1.0
    others = np.array([0, 1, 3, 4])
    both = coupling(hub)[0, 0]
    assert np.abs(both[np.ix_(others, others)]).max() < 0.11  # the correction alone
    pair = np.eye(5)
    pair[0, 0], pair[3, 3], pair[0, 3], pair[3, 0] = 0, 0, 1, 1
    found = coupling(pair[None, None])[0, 0]
    np.fill_diagonal(found, -np.inf)
    assert np.unravel_index(found.argmax(), found.shape) in {(0, 3), (3, 0)}


def test_contacts_leave_special_tokens_out():
    attentions = softmax_rows((2, 3, 8, 8))
    residues = np.array([False] + [True] * 6 + [False])
    inner = attentions[:, :, 1:7, 1:7]
    np.testing.assert_allclose(contact_map(attentions, residues), coupling(inner).mean((0, 1)))
