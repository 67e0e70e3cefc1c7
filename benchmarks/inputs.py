"""What the benchmarks feed: random proteins with the lengths of real ones."""

import functools
import os

import numpy as np

from biofm_jax.zoo.esm import CLS, EOS, MASK

RESIDUES = np.arange(4, 24)  # ids of the twenty amino acids in ESM-2's alphabet
LETTERS = "LAGVSERTIDPKQNFYMHWC"

# Lengths of UniProt's proteins follow a log-normal law; this one has a median of 290 residues
# and a mean of 370 before long ones are cut to a row.
LOG_MEDIAN, LOG_DEVIATION = np.log(290.0), 0.7


def one_core(number: int = -1) -> dict[str, str]:
    """Pin this process to one of its cores; what keeps its libraries to one thread.

    To be called, and the result put into the environment, before jax or torch makes a thread.
    """
    os.sched_setaffinity(0, {_cores()[number % len(_cores())]})
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "XLA_FLAGS": flags}


@functools.cache
def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def to_last_core() -> None:
    """Move all threads of a process pinned by `one_core` to the last core."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), {_cores()[-1]})


def protein_lengths(rng: np.random.Generator, count: int, longest: int) -> np.ndarray:
    """(count,) tokens of random proteins, cls and eos included, cut to a row of `longest`."""
    residues = rng.lognormal(LOG_MEDIAN, LOG_DEVIATION, count)
    return np.clip(residues.astype(np.int64) + 2, 12, longest)


def proteins(rng: np.random.Generator, lengths: np.ndarray) -> list[np.ndarray]:
    """Random sequences of the given numbers of tokens, from cls to eos, int32."""
    made = []
    for length in lengths.tolist():
        tokens = rng.choice(RESIDUES, length).astype(np.int32)
        tokens[0], tokens[-1] = CLS, EOS
        made.append(tokens)
    return made


def masked_rows(rng: np.random.Generator, rows: int, length: int) -> dict[str, np.ndarray]:
    """Full rows of one protein each, masked once for all contenders.

    Returns:
        `tokens` (b, t) as shown, `predict` (b, k) hidden positions, `targets` (b, k) what
        stood there: 15 % of the residues, 80/10/10. All int32.
    """
    original = np.stack(proteins(rng, np.full(rows, length)))
    count = round(0.15 * length)
    predict = np.stack([rng.permutation(np.arange(1, length - 1))[:count] for _ in range(rows)])
    targets = np.take_along_axis(original, predict, axis=1)
    action = rng.random(predict.shape)
    shown = np.where(action < 0.8, MASK, targets)
    shown = np.where(action >= 0.9, rng.choice(RESIDUES, predict.shape), shown)
    tokens = original.copy()
    np.put_along_axis(tokens, predict, shown.astype(np.int32), axis=1)
    return {"tokens": tokens, "predict": predict.astype(np.int32), "targets": targets}
