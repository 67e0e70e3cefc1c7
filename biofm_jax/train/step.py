"""The training step: one jitted, donated function of a state and a batch."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models.api import Model, partitioned
from biofm_jax.objectives.api import Loss, Objective
from biofm_jax.train.mesh import parameter_shardings, replicated
from biofm_jax.train.partitioner import Partitioner
from biofm_jax.train.placement import batch_shardings


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that training changes; with the data iterator's state, all that a resume needs.

    Attributes:
        step: () int32, steps done.
        seed: () int32; the step's random key is made of `seed` and `step`.
        params: nested dict of float32 arrays: all that are trained.
        opt_state: the optimizer's state.
        objective_state: the objective's memory.
    """

    step: jax.Array
    seed: jax.Array
    params: Any
    opt_state: Any
    objective_state: Any


@dataclasses.dataclass(frozen=True)
class Base:
    """Parameters that stay as they are, beside those a run trains.

    They are no part of the state: neither donated nor saved, and no gradient is taken.

    Attributes:
        params: nested dict of arrays of any float dtype.
        axes: the tree of their logical axis names.
        join: (their arrays, the trained parameters) -> the parameters of `Model.apply`.
    """

    params: Any
    axes: Any
    join: Callable[[Any, Any], Any]


@dataclasses.dataclass(frozen=True)
class Program:
    """The compiled functions of a run and where its state lies.

    Attributes:
        init: (seed) -> TrainState, made on the devices that hold it.
        adopt: (seed, params) -> TrainState that starts from given parameters.
        step: (state, batch, *base) -> (state, metrics); the old state is donated. Metrics are
            () float32: `loss`, `gradient_norm`, `weight` and the objective's own.
        evaluate: (state, batch, *base) -> (sum of the loss, weight), with the same masks each
            time.
        shardings: tree of NamedSharding, the shape of the state.
        shapes: tree of ShapeDtypeStruct, the shape of the state.
        base_shardings: of the base's parameters; () for a run without one.
    """

    init: Callable
    adopt: Callable
    step: Callable
    evaluate: Callable
    shardings: TrainState
    shapes: TrainState
    base_shardings: tuple


def build_program(
    model: Model,
    objective: Objective,
    optimizer: Callable[[Any], optax.GradientTransformation],
    mesh,
    batch: Batch,
    accumulate: int = 1,
    base: Base | None = None,
    skip_nonfinite: bool = False,
) -> Program:
    """Build the functions of a run; nothing is allocated or compiled yet.

    Args:
        model: pure init and apply; with a base, `init` and `axes` are of the trained
            parameters, and `apply` takes what `base.join` makes.
        objective: pure loss.
        optimizer: from the tree of logical axis names to a gradient transformation.
        mesh: where the state and the batch lie; an abstract mesh is enough to trace.
        batch: a batch of the run's global shape (arrays or ShapeDtypeStructs).
        accumulate: number of microbatches whose gradients are summed before each update.
        base: parameters that are not trained; shapes are enough.
        skip_nonfinite: leave parameters, optimizer and the objective's memory as they are in a
            step whose loss or gradient is not finite; only `step` goes on.

    Raises:
        UserError: rows that the mesh or the microbatches do not divide; an objective whose
            examples depend on one another, without a two-pass form, with accumulate > 1.
    """
    rows = batch.tokens.shape[0]
    if rows % accumulate:
        raise UserError(f"loop.batch_size {rows} is not divisible by loop.accumulate {accumulate}")
    if accumulate > 1 and objective.compare is not None and objective.embed is None:
        raise UserError(
            "this objective compares examples of the whole batch, so that accumulating "
            "gradients would change it; set loop.accumulate to 1"
        )
    partitioner = Partitioner(mesh)
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
    axes = model.axes(shapes)
    transform = optimizer(axes)

    def start(seed, params) -> TrainState:
        # A copy: the state is donated, and given parameters stay the caller's.
        params = jax.tree.map(jnp.copy, params)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            seed=jnp.asarray(seed, jnp.int32),
            params=params,
            opt_state=transform.init(params),
            objective_state=objective.init(params),
        )

    def initial(seed) -> TrainState:
        like = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), batch)
        return start(seed, model.init(jax.random.key(seed), like))

    state_shapes = jax.eval_shape(initial, 0)
    shardings = _state_shardings(mesh, axes, state_shapes)

    def apply(train: bool, frozen: tuple):
        if not frozen:
            return partial(model.apply, train=train)
        return lambda params, batch, **options: model.apply(
            base.join(*frozen, params), batch, train=train, **options
        )

    def step(state: TrainState, batch: Batch, *frozen):
        run = apply(True, frozen)
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        with partitioned(partitioner):
            if accumulate == 1:
                loss, gradients = _gradients(objective, run, state, batch, key)
            elif objective.compare is None:
                loss, gradients = _accumulated(objective, run, state, batch, key, accumulate)
            else:
                loss, gradients = _two_pass(objective, run, state, batch, key, accumulate)
        weight = jnp.maximum(loss.weight, 1e-9)
        gradients = jax.tree.map(lambda g: g / weight, gradients)
        updates, opt_state = transform.update(gradients, state.opt_state, state.params)
        metrics = {name: value / weight for name, value in loss.metrics.items()} | {
            "loss": loss.total / weight,
            "weight": loss.weight,
            "gradient_norm": optax.tree.norm(gradients),
        }
        after = dataclasses.replace(
            state,
            params=optax.apply_updates(state.params, updates),
            opt_state=opt_state,
            objective_state=loss.state,
        )
        if skip_nonfinite:
            finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["gradient_norm"])
            after = jax.tree.map(partial(jnp.where, finite), after, state)
        return dataclasses.replace(after, step=state.step + 1), metrics

    def evaluate(state: TrainState, batch: Batch, *frozen):
        run = apply(False, frozen)
        with partitioned(partitioner):
            loss = objective.loss(
                run, state.params, state.objective_state, batch, jax.random.key(0)
            )
        return loss.total, loss.weight

    place = batch_shardings(mesh, batch)
    scalar = replicated(mesh)
    fixed = () if base is None else (parameter_shardings(mesh, base.axes, base.params),)
    return Program(
        init=jax.jit(initial, out_shardings=shardings),
        adopt=jax.jit(start, out_shardings=shardings),
        step=jax.jit(
            step,
            in_shardings=(shardings, place, *fixed),
            out_shardings=(shardings, scalar),
            donate_argnums=0,
        ),
        evaluate=jax.jit(evaluate, in_shardings=(shardings, place, *fixed), out_shardings=scalar),
        shardings=shardings,
        shapes=state_shapes,
        base_shardings=fixed,
    )


def _state_shardings(mesh, axes, shapes: TrainState) -> TrainState:
    """The optimizer's moments and a teacher lie where their parameters lie; all else everywhere.

    A moment is known by its path, which ends in its parameter's, and by its shape: a part of
    the tree may be missing (frozen parameters, those of another optimizer).
    """
    everywhere = replicated(mesh)
    params = parameter_shardings(mesh, axes, shapes.params)
    known = {
        (_keys(path), leaf.shape): sharding
        for (path, leaf), sharding in zip(
            jax.tree.leaves_with_path(shapes.params), jax.tree.leaves(params), strict=True
        )
    }

    def place(path, leaf):
        keys = _keys(path)
        ends = (known.get((keys[start:], leaf.shape)) for start in range(len(keys)))
        return next((sharding for sharding in ends if sharding is not None), everywhere)

    return TrainState(
        step=everywhere,
        seed=everywhere,
        params=params,
        opt_state=jax.tree_util.tree_map_with_path(place, shapes.opt_state),
        objective_state=jax.tree_util.tree_map_with_path(place, shapes.objective_state),
    )


def _keys(path) -> tuple:
    """The dictionary keys of a key path."""
    return tuple(key.key for key in path if isinstance(key, jax.tree_util.DictKey))


def _gradients(objective, apply, state, batch, key) -> tuple[Loss, Any]:
    """The loss of a batch and the gradient of its sum."""

    def total(params):
        loss = objective.loss(apply, params, state.objective_state, batch, key)
        return loss.total, loss

    (_, loss), gradients = jax.value_and_grad(total, has_aux=True)(state.params)
    return loss, gradients


def split_rows(tree, parts: int):
    """Cut the rows (b, ...) of a tree into (parts, b / parts, ...).

    Part i takes rows i, i + parts, ...: every device keeps rows of each part.
    """
    return jax.tree.map(
        lambda x: jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1), tree
    )


def join_rows(tree):
    """The inverse of split_rows: (parts, b / parts, ...) to (b, ...)."""
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]), tree)


def _accumulated(objective, apply, state, batch, key, parts) -> tuple[Loss, Any]:
    """Sums over microbatches: the same mean as one big batch, in the memory of a small one."""

    def add(carry, part):
        loss, gradients = carry
        held = dataclasses.replace(state, objective_state=loss.state)
        more, gradient = _gradients(objective, apply, held, part, key)
        total = Loss(
            total=loss.total + more.total,
            weight=loss.weight + more.weight,
            metrics=jax.tree.map(jnp.add, loss.metrics, more.metrics),
            state=more.state,
        )
        return (total, jax.tree.map(jnp.add, gradients, gradient)), None

    parts_of_batch = split_rows(batch, parts)
    first = jax.tree.map(lambda x: x[0], parts_of_batch)
    shapes = jax.eval_shape(
        lambda: objective.loss(apply, state.params, state.objective_state, first, key)
    )
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    start = dataclasses.replace(zeros, state=state.objective_state)
    nothing = jax.tree.map(jnp.zeros_like, state.params)
    (loss, gradients), _ = jax.lax.scan(add, (start, nothing), parts_of_batch)
    return loss, gradients


def _two_pass(objective, apply, state, batch, key, parts) -> tuple[Loss, Any]:
    """Exact accumulation where every example meets every other (GradCache).

    First all embeddings without gradients, then the gradient of the whole loss at the
    embeddings, then part by part the gradient of the embeddings at the parameters.
    """
    parts_of_batch = split_rows(batch, parts)

    def embed(params, part):
        return objective.embed(apply, params, part, key)

    embeddings = jax.lax.map(partial(embed, state.params), parts_of_batch)

    def total(joined):
        loss = objective.compare(joined, batch, state.objective_state)
        return loss.total, loss

    (_, loss), cotangents = jax.value_and_grad(total, has_aux=True)(join_rows(embeddings))

    def add(gradients, part_and_cotangent):
        part, cotangent = part_and_cotangent
        _, pull = jax.vjp(lambda params: embed(params, part), state.params)
        return jax.tree.map(jnp.add, gradients, pull(cotangent)[0]), None

    nothing = jax.tree.map(jnp.zeros_like, state.params)
    cut = (parts_of_batch, split_rows(cotangents, parts))
    gradients, _ = jax.lax.scan(add, nothing, cut)
    return loss, gradients
