"""One contender of the embedding benchmark, in a process of its own, driven over pipes.

    python -m benchmarks.embed_worker CONTENDER SIZE FOLDER CORE

It gets ready on one core (two contenders may do so side by side), reads one command a line and
answers with one line of JSON: `check N` embeds all proteins of FOLDER, writes the vectors to the
file N there and answers with the share of real tokens in its batches; `time N`, on the last core,
answers with the CPU seconds of embedding all of them once.
The contender `weights` makes FOLDER/weights.npz and FOLDER/proteins.npz, and ends.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import inputs
from benchmarks.train_worker import torch_model

OURS = "ours"
CONTENDERS = {
    OURS: "this package",
    "sorted": "transformers SDPA, sorted by length, batches of 8",
    "single": "transformers SDPA, one protein at a time",
    "file": "transformers SDPA, in file order, batches of 8",
}
PEERS = {"sorted": (True, 8), "single": (True, 1), "file": (False, 8)}
ROW, PROTEINS = 1024, {"8M": 48, "35M": 16}
Embed = Callable[[], "tuple"]  # -> ((n, d) float32 vectors, share of real tokens)


def make_inputs(size: str, folder: Path) -> None:
    """Write the weights and the proteins that all contenders read."""
    import numpy as np

    state = {name: value.numpy() for name, value in torch_model(size).state_dict().items()}
    np.savez(folder / "weights.npz", **state)
    rng = np.random.default_rng(0)
    lengths = inputs.protein_lengths(rng, PROTEINS[size], ROW)
    tokens = np.concatenate(inputs.proteins(rng, lengths))
    np.savez(folder / "proteins.npz", tokens=tokens, lengths=lengths)


def torch_embedder(size: str, folder: Path, by_length: bool, count: int) -> Embed:
    """Mean over residues of transformers' last hidden states, padded to a batch's longest."""
    import numpy as np
    import torch

    from biofm_jax.zoo.esm2 import CLS, EOS, PAD

    model = torch_model(size).eval()
    weights, made = np.load(folder / "weights.npz"), np.load(folder / "proteins.npz")
    model.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})
    encoder, lengths = model.esm, made["lengths"]
    sequences = np.split(made["tokens"].astype(np.int64), np.cumsum(lengths)[:-1])

    def embed():
        order = np.argsort(lengths, kind="stable") if by_length else np.arange(len(lengths))
        vectors, room = np.empty((len(lengths), encoder.config.hidden_size), np.float32), 0
        with torch.inference_mode():
            for start in range(0, len(order), count):
                chosen = order[start : start + count]
                tokens = torch.full((len(chosen), int(lengths[chosen].max())), PAD)
                for row, number in enumerate(chosen):
                    tokens[row, : lengths[number]] = torch.from_numpy(sequences[number])
                real = tokens != PAD
                hidden = encoder(input_ids=tokens, attention_mask=real.long()).last_hidden_state
                kept = (real & (tokens != CLS) & (tokens != EOS)).float()[..., None]
                vectors[chosen] = ((hidden * kept).sum(1) / kept.sum(1)).numpy()
                room += tokens.numel()
        return vectors, lengths.sum() / room

    return embed


def our_embedder(size: str, folder: Path) -> Embed:
    """What `biofm embed` does with each part of a file, from token ids to vectors."""
    import numpy as np

    from biofm_jax.adapt.embed_stream import Embedder, Sequences
    from biofm_jax.adapt.encoder import Encoder
    from biofm_jax.data.protein import ProteinData
    from biofm_jax.train.host_memory import keep_freed_memory
    from biofm_jax.zoo.esm2 import ESM2, from_transformers

    keep_freed_memory()  # as `biofm` does
    weights, made = np.load(folder / "weights.npz"), np.load(folder / "proteins.npz")
    params = from_transformers({name: weights[name] for name in weights.files}, ESM2[size])
    embedder = Embedder(Encoder(size, ESM2[size], ProteinData(max_tokens=ROW), params))
    offsets = np.concatenate([[0], np.cumsum(made["lengths"])])
    sequences = Sequences(made["tokens"], offsets)

    def embed():
        plans = embedder.plan(embedder.cut(sequences))
        (vectors,) = embedder(sequences)
        return vectors, offsets[-1] / sum(plan.rows * plan.tokens for plan in plans)

    return embed


def main() -> None:
    """Serve the commands of standard input."""
    contender, size, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    os.environ.update(inputs.one_core(int(sys.argv[4])))
    if contender == "weights":
        make_inputs(size, folder)
        return
    import numpy as np

    if contender == OURS:
        embed = our_embedder(size, folder)
    else:
        embed = torch_embedder(size, folder, *PEERS[contender])
    for line in sys.stdin:
        command, name = line.split()
        if command == "time":
            inputs.to_last_core()
        began = time.process_time()
        vectors, fill = embed()
        seconds = time.process_time() - began
        if command == "check":
            np.save(folder / f"{name}.npy", vectors)
        print(json.dumps(float(fill) if command == "check" else seconds), flush=True)


if __name__ == "__main__":
    main()
