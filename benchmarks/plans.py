"""Goal 14: the flagship of every family, planned for four TPU slices (experiments/PLANS.md).

    python -m benchmarks.plans [EXPERIMENT ...]

needs `pip install 'biofm_jax[plan]'` and no TPU. Each flagship is compiled with as many rows a chip
on every slice, so that the work of a chip is the same from 4 to 256 chips; the mesh is the one that
is guessed to be fastest among those that fit (`plan/candidates.py`), and the next one where it
does not. Rows of families that are not named stay as they are in the page.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import dataclasses

import jax

from biofm_jax.experiment import load_experiment
from biofm_jax.files import write_whole
from biofm_jax.plan.candidates import Candidates, likely
from biofm_jax.plan.chips import GIB
from biofm_jax.plan.planning import Plan, make_plan
from biofm_jax.plan.searching import SLACK
from biofm_jax.plan.topology import parse_topology

SLICES = ("v5e-8", "v5p-8", "v6e-16", "v5e-256")

# The largest published variant that trains on eight chips of the smallest kind, and rows a chip.
FLAGSHIPS = {
    "experiments/computational_biology/esm2_masked.py:3B": 8,
    "experiments/computational_biology/prott5_denoising.py:XL": 4,
    "experiments/drug_discovery/smiles_masked.py": 64,
    "experiments/drug_discovery/smiles_next_token.py": 64,
    "experiments/drug_discovery/smiles_contrastive.py": 32,
    "experiments/drug_discovery/molformer_masked.py:XL": 16,
    "experiments/drug_discovery/unimol_masked.py:base": 16,
    "experiments/drug_discovery/grover_masked.py:base": 32,
    "experiments/drug_discovery/gin_contrastive.py": 64,
    "experiments/drug_discovery/graph_smiles_contrastive.py": 64,
    "experiments/drug_discovery/hint_supervised.py": 32,
    "experiments/drug_discovery/txgnn_link_prediction.py": 256,
}

PAGE = Path("experiments/PLANS.md")
HEAD = """# Plans

The largest sensible variant of every family, planned for TPUs that were not there. Everything here
is an estimate from the compiled step; nothing was run. Made by

    python -m benchmarks.plans

(`pip install 'biofm_jax[plan]'`; no TPU is needed). `biofm plan EXPERIMENT.py --topology v5e-8`
says more about one of them, with any option of `biofm train`.

- **memory**: arguments + temporaries of a chip over its HBM; a plan fits up to 0.90.
- **rows a chip**: of so many tokens, atoms (GIN, GROVER, Uni-Mol and the first view of
  graph-SMILES), words of a trial or nodes of a fact.
- **FLOPs a chip**: of matrix products, the same on every slice. A contrastive step adds those of
  its pairs: a chip compares its slots with those of all chips, 6 x own slots x slots x width FLOPs
  with both gradients, which grow with the chips, and of which nothing is computed twice.
- **FLOPs**: of all chips' compiled programs, without pairs, over the model's, rows taken as one
  document each. Rematerialisation and attention that is computed twice in the backward pass are in
  it.
- **sent**: what a chip sends over the least that its mesh must send.
- **ms**: a step at the published peaks, if all overlaps - if nothing does; **MFU** the same.
- **compile**: CPU seconds over all threads, on two cores that were shared with other jobs; the goal
  is 120. It is one compilation: a layer is compiled once, whatever the depth, and FLOPs are read
  off the program, loops by their length. Nearly all of the time is the compiler's search for the
  tiles of each product, by hand 1.4 s for v5e and 2.5 s for v6e; equal products are not searched
  together (six take more than twice as long as two). Rows over 120 s are misses, and have many
  products: MolFormer 32, Uni-Mol 52, T5 about 70 (the forward pass, again under `full`
  rematerialisation, and twice as many backward, of two stacks with three attentions). XLA's
  effort for the search has two levels: `jax_exec_time_optimization_effort` -0.35 takes as long
  as 0; at -0.5 four products take a seventh. At -1 a whole step takes a quarter and gives the same
  FLOPs, but not the program that is trained: bytes sent were 5 % fewer and memory up to 4.6 times
  as much.

A loop that ends when its work is done (MolCLR searches subgraphs in breadth) is counted once. Two
families compile for a slice and should not be given one. HINT's training set (1,044 trials) is a
single batch of 32 rows on 33 chips, and its model FLOPs leave out the interaction graph. The
facts of Hetionet's cut (99,677) are two batches of 256 rows on 256 chips, each of which sums the
whole table of 47,031 nodes over all chips for a few neighbourhoods.

"""
COLUMNS = (
    *("experiment", "slice", "mesh", "remat", "rows a chip", "memory", "FLOPs a chip", "FLOPs"),
    *("sent", "all-to-all", "ms", "MFU", "compile"),
)


def main(names: list[str]) -> None:
    """Plan the flagships, all or some, and write the page."""
    rows = _rows()
    _write(rows)
    for name in names or FLAGSHIPS:
        for slice_ in SLICES:
            rows[name, slice_] = _row(name, slice_, _fastest(name, slice_, FLAGSHIPS[name]))
            print(rows[name, slice_], flush=True)
            _write(rows)
            jax.clear_caches()


def _write(rows: dict[tuple[str, str], str]) -> None:
    """The page: the rows there are, and the names of those that are missing."""
    lines = [_line(COLUMNS), "|" + "---|" * len(COLUMNS)]
    lines += [rows[key] for key in sorted(rows, key=_order)]
    pairs = [(name, slice_) for name in FLAGSHIPS for slice_ in SLICES]
    missing = [f"`{_shown(pair[0])}` on {pair[1]}" for pair in pairs if pair not in rows]
    if missing:
        lines += ["", "Not compiled yet: " + ", ".join(missing) + "."]
    write_whole(PAGE, HEAD + "".join(line + "\n" for line in lines))


def _fastest(name: str, slice_: str, rows: int) -> Plan:
    topology = parse_topology(slice_)
    experiment = load_experiment(name)
    loop = dataclasses.replace(experiment.loop, batch_size=rows * topology.chips)
    experiment = dataclasses.replace(experiment, loop=loop)
    document = experiment.data.attended
    # Rematerialisation is the experiment's own, and so is the number of microbatches.
    ways = [
        way
        for way in Candidates(experiment, document).all(topology)
        if way.experiment.model == experiment.model and way.experiment.loop == loop
    ]
    safe = likely(iter(ways))
    for way in [*safe, *(way for way in likely(iter(ways), SLACK) if way not in safe)]:
        made = make_plan(way.experiment, topology, document)
        print(f"{name} {slice_} {made.mesh}: fits {made.memory.fits}", flush=True)
        if made.memory.fits:
            return made
    raise SystemExit(f"{name} does not fit {slice_} with {rows} rows a chip")


def _row(name: str, slice_: str, plan: Plan) -> str:
    memory, time, counts = plan.memory, plan.time, plan.counts
    sent, least = sum(counts.sent().values()), sum(plan.least.values())
    swapped = any("all-to-all" in one.kind for one in counts.collectives)
    rows = plan.experiment.loop.batch_size // plan.topology.chips
    share, pairs = memory.total / memory.capacity, plan.pair_flops
    model = counts.flops - pairs
    return _line(
        (
            f"`{_shown(name)}`",
            f"{slice_} ({plan.topology.chips} chips)",
            plan.mesh,
            plan.experiment.model.remat,
            f"{rows} x {plan.experiment.data.max_tokens}",
            f"{memory.total / GIB:.1f} of {memory.capacity / GIB:.0f} GiB, {share:.2f}",
            f"{model:.3e}" + (f" + {pairs:.1e} of pairs" if pairs else ""),
            f"{model * plan.topology.chips / plan.model_flops:.2f}",
            f"{sent / least:.2f}" if least else "-",
            "yes" if swapped else "none",
            f"{_milliseconds(time.best)}-{_milliseconds(time.sum)}",
            f"{plan.mfu(time.sum):.0%}-{plan.mfu(time.best):.0%}",
            f"{plan.seconds:.0f} s",
        )
    )


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.0f}" if seconds >= 1e-3 else f"{1e3 * seconds:.2f}"


def _shown(name: str) -> str:
    """`file:variant`, without folder and ending."""
    path, _, variant = name.partition(":")
    return Path(path).stem + (f":{variant}" if variant else "")


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def _rows() -> dict[tuple[str, str], str]:
    """The rows that the page has, by experiment and slice."""
    rows = {}
    for line in PAGE.read_text().splitlines() if PAGE.is_file() else ():
        for name in FLAGSHIPS:
            for slice_ in SLICES:
                if line.startswith(f"| `{_shown(name)}` | {slice_} ("):
                    rows[name, slice_] = line
    return rows


def _order(key: tuple[str, str]) -> tuple[int, int]:
    return list(FLAGSHIPS).index(key[0]), SLICES.index(key[1])


if __name__ == "__main__":
    main(sys.argv[1:])
