"""Find a way to run an experiment that fits, by compiling the likely ones."""

from collections.abc import Callable

from biofm_jax.errors import UserError
from biofm_jax.experiment import Experiment
from biofm_jax.plan.candidates import Candidate, Candidates, likely
from biofm_jax.plan.planning import Plan, make_plan
from biofm_jax.plan.topology import Topology

Progress = Callable[[str], None]
# Guesses are off by a third: what misses by less is compiled, to be sure.
SLACK = 1.3
# Compilations until a way that fits must be found, when a plan does not.
MOST_TRIES = 4


def search(
    experiment: Experiment, topology: Topology, document: float, tries: int, progress: Progress
) -> list[tuple[Candidate, Plan]]:
    """Compile the likeliest meshes, policies and microbatches; the best that fit come first.

    Args:
        experiment: what to vary; its batch size stays.
        topology: what to run on.
        document: mean length of documents in tokens.
        tries: how many to compile.
        progress: told what is compiled.

    Raises:
        UserError: nothing comes near to fitting, no way is allowed at all, or it is for a CPU.
    """
    if topology.chip is None:
        raise UserError(
            "--search ranks by a chip's memory and peaks, and simulated devices have none; name a "
            "slice, as --topology v5e-8"
        )
    candidates = list(Candidates(experiment, document).all(topology))
    if not candidates:
        raise UserError(
            f"{experiment.loop.batch_size} rows cannot be laid over {topology.chips} chips in any "
            "way; set --loop.batch_size to a multiple of the chips"
        )
    chosen = likely(iter(candidates), SLACK)
    if not chosen:
        least = min(candidates, key=lambda c: c.bytes)
        raise UserError(
            f"nothing comes near to fitting {topology.name}: the least is guessed to take "
            f"{least.bytes / 2**30:.1f} GiB a chip, with {least.flags(experiment) or 'no change'}"
        )
    # Of each mesh and policy one: the fewest microbatches that are guessed to fit.
    apart: dict = {}
    for candidate in chosen:
        apart.setdefault((candidate.experiment.mesh, candidate.experiment.model), candidate)
    found = []
    for number, candidate in enumerate(chosen := [*apart.values()][:tries], 1):
        progress(f"{number}/{len(chosen)} {candidate.flags(experiment) or 'as it is'}")
        found.append((candidate, make_plan(candidate.experiment, topology, document)))
    return sorted(found, key=lambda pair: (not pair[1].memory.fits, _time(pair[1])))


def nearest_fit(plan: Plan, progress: Progress) -> tuple[Candidate, Plan] | None:
    """The nearest way to run a plan's experiment that was compiled and fits.

    First other meshes, microbatches and policies on the same slice, then larger slices of the
    same chip.

    Args:
        plan: one that does not fit.
        progress: told what is compiled.
    """
    base, tries = plan.experiment, 0
    candidates = Candidates(base, plan.attended)
    for topology in [plan.topology, *plan.topology.larger()]:
        ways = candidates.all(topology, vary_batch=topology != plan.topology)
        found = sorted(likely(ways), key=lambda way: (way.changes(base), way.seconds, way.bytes))
        for candidate in found[:2]:
            if tries == MOST_TRIES:
                return None
            tries += 1
            progress(f"trying {topology.name} {candidate.flags(base)}")
            made = make_plan(candidate.experiment, topology, plan.attended)
            if made.memory.fits:
                return candidate, made
    return None


def _time(plan: Plan) -> float:
    return plan.time.sum if plan.time else float("inf")
