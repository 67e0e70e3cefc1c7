"""What an objective adds to a step that compares every example with every other."""

import dataclasses
import functools
import math

import jax
import jax.extend

from biofm_jax.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The comparison of a global batch.

    Attributes:
        flops: of all similarities and both their gradients, over all chips.
        bytes: of the embeddings of every view but the largest, which meet all others.
    """

    flops: float = 0.0
    bytes: float = 0.0

    def chip_flops(self, sizes: tuple[int, ...]) -> float:
        """Those of one chip, which compares its own slots with those of all chips.

        With as many rows a chip they grow with the chips, and nothing of them is computed twice
        on data and fsdp axes.
        """
        return self.flops / math.prod(sizes[:2])

    def least_sent(self, sizes: tuple[int, ...]) -> float:
        """Bytes that a chip sends: the views are gathered and their gradients scattered."""
        members = math.prod(sizes[:2])
        return 2.0 * (members - 1) / members * self.bytes


def pairs_of(experiment: Experiment) -> Pairs:
    """The comparison in a step, found by tracing the objective's `embed` and `compare`.

    Args:
        experiment: the run; there is none where its objective compares nothing.
    """
    model, rows = experiment.model, experiment.loop.batch_size
    plain = model.replaced(remat="none") if "none" in model.policies() else model
    return _pairs(plain, experiment.data, experiment.objective, rows)


@functools.lru_cache(64)
def _pairs(spec, data, objective, rows: int) -> Pairs:
    pure = objective.built_for(spec, data)
    if pure.embed is None or pure.compare is None:
        return Pairs()
    model = spec.build()
    batch = data.shapes(rows, paired=objective.views > 0)
    params = jax.eval_shape(model.init, jax.random.key(0), batch)
    views = jax.eval_shape(
        lambda params, batch: pure.embed(model.apply, params, batch, jax.random.key(0)),
        params,
        batch,
    )

    def total(views, params, batch):
        return pure.compare(views, batch, pure.init(params)).total

    traced = jax.make_jaxpr(jax.grad(total))(views, params, batch)
    # A number for each row (a learned temperature) is averaged, not gathered.
    vectors = (leaf for leaf in jax.tree.leaves(views) if leaf.ndim > 1)
    sizes = [leaf.size * leaf.dtype.itemsize for leaf in vectors]
    return Pairs(_product_flops(traced.jaxpr), float(sum(sizes) - max(sizes)))


def _product_flops(jaxpr) -> float:
    """FLOPs of the matrix products in a traced function; those of a scan as often as it runs."""
    flops = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            summed = math.prod(left[axis] for axis in contracted)
            flops += 2.0 * summed * math.prod(equation.outvars[0].aval.shape)
        inner = sum(map(_product_flops, jax.extend.core.jaxprs_in_params(equation.params)))
        flops += inner * equation.params.get("length", 1)
    return flops
