import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_batches import VOCABULARY

from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models.api import Outputs
from biofm_jax.objectives.contrastive import Contrastive

# Two empty slots, and record 3 stands in the batch twice.
EXAMPLES = np.array([[0, 1, -1], [2, 3, 3], [4, -1, 5]], np.int32)


def views(seed=0, shape=(3, 3, 8)):
    rng = np.random.default_rng(seed)
    first = rng.normal(size=shape).astype(np.float32)
    return first, first + 0.5 * rng.normal(size=shape).astype(np.float32)


def batch_of(examples=EXAMPLES, contents=(None, None)) -> Batch:
    row = np.zeros((len(examples), 4), np.int32)
    view = Batch(row, row, row, examples)
    second = view.replace(tokens=row + 1, contents=contents[1])
    return view.replace(contents=contents[0], pair=second)


def of_views(batch, first, second):
    """Vectors of a batch whose rows are first and second views in turn."""
    view = batch.tokens[:, 0]
    assert (view[0::2] == 0).all() and (view[1::2] == 1).all()
    assert len({*np.asarray(batch.examples[:, 0]).tolist()}) == len(view)  # dropout of their own
    return jnp.stack([first, second], axis=1).reshape(-1, *first.shape[1:])


def loss_of(objective, first, second, examples=EXAMPLES, contents=(None, None)):
    """The loss where the model's projections are given; the second view has tokens of 1."""

    def apply(params, batch, rngs):
        return Outputs(logits=of_views(batch, *params))

    def total(params):
        loss = objective.build(VOCABULARY).loss(
            apply, params, {}, batch_of(examples, contents), jax.random.key(0)
        )
        return loss.total, loss

    (_, loss), gradient = jax.value_and_grad(total, has_aux=True)((first, second))
    return loss, gradient


def unit(x):
    x = x.astype(np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def plain_softmax(first, second, examples, temperature):
    """InfoNCE with loops; returns the sum over valid slots and their number."""
    ids = examples.reshape(-1)
    a, b = (unit(x).reshape(len(ids), -1) for x in (first, second))
    total = 0.0
    for i in range(len(ids)):
        if ids[i] < 0:
            continue
        rivals = [i] + [j for j in range(len(ids)) if ids[j] >= 0 and ids[j] != ids[i]]
        for query, keys in ((a, b), (b, a)):
            logits = np.array([query[i] @ keys[j] for j in rivals]) / temperature
            total += (np.log(np.exp(logits).sum()) - logits[0]) / 2
    return total, (ids >= 0).sum()


def plain_sigmoid(first, second, examples, temperature, bias):
    ids = examples.reshape(-1)
    a, b = (unit(x).reshape(len(ids), -1) for x in (first, second))
    total = 0.0
    for i in range(len(ids)):
        for j in range(len(ids)):
            if ids[i] < 0 or ids[j] < 0 or (i != j and ids[i] == ids[j]):
                continue
            z = 1.0 if i == j else -1.0
            total += np.log1p(np.exp(-z * (a[i] @ b[j] / temperature + bias)))
    return total, (ids >= 0).sum()


def test_softmax_form_equals_plain_infonce():
    first, second = views()
    loss, _ = loss_of(Contrastive(temperature=0.2), first, second)
    total, count = plain_softmax(first, second, EXAMPLES, 0.2)
    np.testing.assert_allclose(loss.total, total, rtol=1e-5)
    assert loss.weight == count == 7


def test_sigmoid_form_equals_plain_siglip():
    first, second = views()
    loss, _ = loss_of(Contrastive("sigmoid", temperature=0.2, bias=-3.0), first, second)
    total, count = plain_sigmoid(first, second, EXAMPLES, 0.2, -3.0)
    np.testing.assert_allclose(loss.total, total, rtol=1e-5)
    assert loss.weight == count == 7


@pytest.mark.parametrize("form", ["softmax", "sigmoid"])
def test_what_stands_in_empty_slots_does_not_matter(form):
    first, second = views()
    want, gradient = loss_of(Contrastive(form), first, second)
    empty = EXAMPLES < 0
    for x in (first, second):
        x[empty] = 77.0
    got, _ = loss_of(Contrastive(form), first, second)
    assert float(got.total) == float(want.total)
    assert float(got.metrics["accuracy"]) == float(want.metrics["accuracy"])
    assert all((np.asarray(g)[empty] == 0).all() for g in gradient)


@pytest.mark.parametrize("form", ["softmax", "sigmoid"])
def test_gradient_is_finite_with_zero_vectors_in_empty_slots(form):
    first, second = views()
    for x in (first, second):
        x[EXAMPLES < 0] = 0.0
    loss, gradient = loss_of(Contrastive(form), first, second)
    assert np.isfinite(loss.total)
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in gradient)


def test_a_record_twice_in_the_batch_is_no_negative_of_itself():
    first, second = views()
    twice = loss_of(Contrastive(), first, second)[0]
    apart = EXAMPLES.copy()
    apart[1, 2] = 6
    distinct = loss_of(Contrastive(), first, second, apart)[0]
    # One negative more on either side: the loss must rise, and it equals the plain form.
    assert distinct.total > twice.total
    total, _ = plain_softmax(first, second, apart, 0.1)
    np.testing.assert_allclose(distinct.total, total, rtol=1e-5)


IMAGES = np.array([[7, 7, -1], [9, 5, 5], [9, -1, 4]], np.int32)  # 0 and 1, and 2 and 4, share one
WORDS = np.array([[0, 1, -1], [2, 0, 0], [3, -1, 5]], np.int32)  # 0 and 3 have the same


@pytest.mark.parametrize("form", ["softmax", "sigmoid"])
def test_captions_of_one_image_and_images_of_one_caption_are_no_negatives(form):
    first, second = views()
    objective = Contrastive(form, temperature=0.2, bias=-3.0)
    alone = loss_of(objective, first, second)[0]
    images = loss_of(objective, first, second, contents=(IMAGES, None))[0]
    both, pulls = loss_of(objective, first, second, contents=(IMAGES, WORDS))
    assert both.total < images.total < alone.total and both.weight == alone.weight == 7
    # Plain loops, with every pair that is equal in a view left out.
    same = np.eye(9, dtype=bool)
    for numbers in (EXAMPLES, IMAGES, WORDS):
        same |= numbers.reshape(-1, 1) == numbers.reshape(1, -1)
    a, b = (unit(x).reshape(9, -1) for x in (first, second))
    there, total = np.flatnonzero(EXAMPLES.reshape(-1) >= 0), 0.0
    for i in there:
        rivals = [j for j in there if not same[i, j]]
        for query, keys in ((a, b), (b, a)):
            logits = np.array([query[i] @ keys[j] for j in (i, *rivals)]) / 0.2
            if form == "softmax":
                total += (np.log(np.exp(logits).sum()) - logits[0]) / 2
            else:  # each pair once from either side
                total += np.log1p(np.exp((logits - 3) * np.r_[-1, np.ones(len(rivals))])).sum() / 2
    np.testing.assert_allclose(both.total, total, rtol=1e-5)
    assert all(np.isfinite(pull).all() for pull in pulls)


def test_accuracy_counts_pairs_that_find_each_other():
    first, _ = views()
    right, _ = loss_of(Contrastive(), first, first)
    assert right.metrics["accuracy"] == right.weight
    wrong, _ = loss_of(Contrastive(), first, -first)
    assert wrong.metrics["accuracy"] == 0


def test_the_pooled_state_stands_in_for_a_missing_head():
    first, second = views()

    def apply(params, batch, rngs):
        return Outputs(pooled=of_views(batch, first, second))

    loss = Contrastive().build(VOCABULARY).loss(apply, {}, {}, batch_of(), jax.random.key(0))
    assert float(loss.total) == float(loss_of(Contrastive(), first, second)[0].total)


def test_one_view_and_bad_temperature_are_refused():
    with pytest.raises(UserError, match=r"data\.views"):
        batch = batch_of().replace(pair=None)
        Contrastive().build(VOCABULARY).loss(None, {}, {}, batch, jax.random.key(0))
    with pytest.raises(UserError, match="temperature"):
        Contrastive(temperature=0.0).build(VOCABULARY)
