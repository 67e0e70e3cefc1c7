"""A plan in rows of tables and in words."""

from biofm_jax.plan.activations import LANES
from biofm_jax.plan.candidates import Candidate
from biofm_jax.plan.chips import GIB
from biofm_jax.plan.planning import Plan

# A chip that sends more than this over the least is worth a word (goal: 1.05 for fsdp, 1.4 for
# tensor).
MUCH = 1.4


def summary(plan: Plan) -> dict[str, str]:
    """The plan, one figure a row."""
    memory, topology = plan.memory, plan.topology
    loop, data = plan.experiment.loop, plan.experiment.data
    unit = data.unit
    rows = {
        "topology": f"{topology.name}, {topology.chips} "
        + ("simulated devices" if topology.chip is None else "chips"),
        "mesh": plan.mesh,
        "batch": f"{loop.batch_size:,} rows x {data.max_tokens:,} {unit}, "
        f"{plan.tokens:,} a step"
        + (f", in {loop.accumulate} microbatches" if loop.accumulate > 1 else ""),
        "parameters": f"{plan.parameters:,}",
        "state and batch": f"{_gib(memory.arguments)} a chip",
        "temporaries": f"{_gib(memory.temporaries)} a chip (remat {plan.experiment.model.remat})",
        "memory": _memory(plan),
        "model FLOPs": f"{plan.model_flops:.3e} a step, documents of {plan.attended:,.0f} {unit}",
    }
    if plan.counts is not None:
        rows["compiled FLOPs"] = (
            f"{plan.counts.flops:.3e} a chip and step; all chips {plan.flops_ratio:.2f} x model"
        )
        rows["HBM traffic"] = f"{_gib(plan.counts.memory_bytes)} a chip and step"
        rows["sent"] = f"{_gib(sum(plan.counts.sent().values()))} a chip and step"
    if plan.time is not None:
        time, cost = plan.time, plan.cost()
        best, worst = cost["overlapped"], cost["not_overlapped"]
        rows["step, at peak"] = (
            f"compute {_ms(time.compute)}, HBM {_ms(time.memory)}, network {_ms(time.network)}"
        )
        rows["step"] = f"{_ms(time.best)} if all overlaps, {_ms(time.sum)} if nothing does"
        rows[f"{unit}/s"] = f"{worst['tokens_per_second']:,.0f} to {best['tokens_per_second']:,.0f}"
        rows["MFU"] = f"{worst['mfu']:.0%} to {best['mfu']:.0%}"
        rows[f"{loop.steps:,} steps"] = (
            f"{best['hours']:,.1f} to {worst['hours']:,.1f} hours, "
            f"{best['chip_hours']:,.0f} to {worst['chip_hours']:,.0f} chip-hours"
        )
    rows["compiled in"] = f"{plan.seconds:.0f} s of CPU time"
    return rows


def sent_rows(plan: Plan) -> list[dict]:
    """What a chip sends, by mesh axis, beside the least it must send there."""
    if plan.counts is None:
        return []
    rows: list[dict] = []
    sent, total = plan.counts.sent(), sum(plan.least.values())
    for one in plan.counts.collectives:
        least = plan.least.get(one.axes)
        rows.append(
            {
                "axis": one.axes,
                "collective": one.kind,
                "a step": one.count,
                "MiB sent": one.bytes / 2**20,
                "axis / least": None if least is None else round(sent[one.axes] / least, 2),
            }
        )
    if rows and total:
        whole = sum(sent.values())
        rows.append(
            {"axis": "all", "MiB sent": whole / 2**20, "axis / least": round(whole / total, 2)}
        )
    return rows


def advice(plan: Plan, nearest: tuple[Candidate, Plan] | None = None) -> list[str]:
    """What to change, in words; nothing where all is well.

    Args:
        plan: the plan.
        nearest: of one that does not fit, the nearest way that does.
    """
    lines = []
    if not plan.memory.fits:
        lines.append(
            f"does not fit: {_gib(plan.memory.total)} a chip is {_gib(-plan.memory.headroom)} more "
            f"than the usable {_gib(plan.memory.usable)}"
        )
        lines.append(_nearest(plan, nearest))
    if plan.counts is None:
        return lines
    for axes, bytes_sent in plan.counts.sent().items():
        least = plan.least.get(axes)
        if least and bytes_sent > MUCH * least:
            lines.append(f"{axes} sends {bytes_sent / least:.1f} times the least it must")
    if any("all-to-all" in one.kind for one in plan.counts.collectives):
        lines.append("there is an all-to-all: a sharding is changed in the middle of the step")
    if plan.counts.unknown:
        lines.append(f"FLOPs not counted: {', '.join(plan.counts.unknown[:3])}")
    model = plan.experiment.model
    heads = (stack.head_size or LANES for stack in [*model.stacks().values()] or [model])
    if plan.topology.chip and (head := min(heads)) < LANES:
        lines.append(
            f"heads of {head} fill {head} of {LANES} lanes: attention takes more memory and time "
            "than its FLOPs tell"
        )
    if plan.time and plan.time.network > plan.time.compute:
        lines.append("sending takes longer than computing: give each chip more rows, or use fewer")
    return lines


def _nearest(plan: Plan, nearest: tuple[Candidate, Plan] | None) -> str:
    if nearest is None:
        return "nothing nearby fits: try --search, shorter rows, or a slice of another chip"
    candidate, found = nearest
    where = "" if found.topology == plan.topology else f" --topology {found.topology.name}"
    return (
        f"the nearest that fits, compiled:{where} {candidate.flags(plan.experiment)} "
        f"({_gib(found.memory.total)} a chip)"
    )


def search_rows(found: list[tuple[Candidate, Plan]], base) -> list[dict]:
    """One row for each way that a search compiled."""
    rows = []
    for candidate, plan in found:
        row = {
            "options": candidate.flags(base) or "(as it is)",
            "fits": "yes" if plan.memory.fits else "no",
            "GiB a chip": round(plan.memory.total / GIB, 1),
        }
        if plan.time is not None:
            row |= {
                "ms a step": f"{1e3 * plan.time.best:.0f}-{1e3 * plan.time.sum:.0f}",
                "MFU": f"{plan.mfu(plan.time.sum):.0%}-{plan.mfu(plan.time.best):.0%}",
                "FLOPs / model": round(plan.flops_ratio, 2),
            }
        rows.append(row)
    return rows


def _memory(plan: Plan) -> str:
    memory = plan.memory
    if not memory.capacity:
        return f"{_gib(memory.total)} a device"
    left = "left" if memory.fits else "missing"
    return (
        f"{_gib(memory.total)} of {_gib(memory.usable)} usable (0.9 of {_gib(memory.capacity)}), "
        f"{_gib(abs(memory.headroom))} {left}"
    )


def _gib(value: float) -> str:
    return f"{value / GIB:,.2f} GiB" if value < 10 * GIB else f"{value / GIB:,.1f} GiB"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.1f} ms" if seconds < 10 else f"{seconds:,.1f} s"
