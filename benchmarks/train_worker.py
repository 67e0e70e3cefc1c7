"""One contender of the train-step benchmark, in a process of its own, driven over pipes.

    python -m benchmarks.train_worker CONTENDER SIZE FOLDER CORE

It gets ready on one core (two contenders may do so side by side), reads one command a line and
answers with one line of JSON: `losses N` takes N steps from the given weights and answers with
their losses; `time N`, on the last core, answers with the CPU seconds of N steps.
The contender `weights` makes FOLDER/weights.npz and FOLDER/batches.npz, and ends.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import inputs

CONTENDERS = {
    "ours": "this package, head on masked positions only",
    "ours_full": "this package, head on all positions",
    "sdpa": "transformers SDPA",
    "compiled": "transformers SDPA, torch.compile",
}
ROWS, TOKENS, BATCHES = 4, 256, 4
RATE, B1, B2, EPSILON, DECAY = 4e-4, 0.9, 0.98, 1e-8, 0.01


def torch_model(size: str):
    """Transformers' `EsmForMaskedLM` of a published size, random weights, SDPA attention."""
    import torch
    from transformers import EsmConfig, EsmForMaskedLM

    from biofm_jax.zoo.esm import ESM2, MASK, PAD

    spec = ESM2[size]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = EsmConfig(
        vocab_size=spec.vocabulary,
        hidden_size=spec.width,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        intermediate_size=spec.hidden_width,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=False,
        mask_token_id=MASK,
        pad_token_id=PAD,
        layer_norm_eps=spec.norm_epsilon,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="sdpa",
    )
    return EsmForMaskedLM(config).train()


def make_weights(size: str, folder: Path) -> None:
    """Write the weights and the batches that all contenders read."""
    import numpy as np

    state = {name: value.numpy() for name, value in torch_model(size).state_dict().items()}
    np.savez(folder / "weights.npz", **state)
    rng = np.random.default_rng(0)
    batches = [inputs.masked_rows(rng, ROWS, TOKENS) for _ in range(BATCHES)]
    np.savez(folder / "batches.npz", **{k: np.stack([b[k] for b in batches]) for k in batches[0]})


def torch_stepper(size: str, folder: Path, compiled: bool) -> Callable[[int], float]:
    """The step of transformers: forward, backward, AdamW; the index of the batch to the loss."""
    import numpy as np
    import torch

    model = torch_model(size)
    weights = np.load(folder / "weights.npz")
    model.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})
    optimizer = torch.optim.AdamW(
        model.parameters(), RATE, (B1, B2), EPSILON, weight_decay=DECAY, fused=True
    )
    made = np.load(folder / "batches.npz")
    tokens = torch.from_numpy(made["tokens"].astype(np.int64))
    labels = np.full(made["tokens"].shape, -100, np.int64)
    np.put_along_axis(labels, made["predict"], made["targets"], axis=2)
    labels = torch.from_numpy(labels)
    forward = torch.compile(model) if compiled else model

    def step(index: int) -> float:
        loss = forward(input_ids=tokens[index], labels=labels[index]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def our_stepper(size: str, folder: Path, full_head: bool) -> Callable[[int], float]:
    """The step that `biofm train` compiles, with masks given instead of drawn."""
    import jax
    import numpy as np

    from biofm_jax.data.batch import Batch
    from biofm_jax.objectives.api import Objective, token_loss
    from biofm_jax.train.host_memory import keep_freed_memory
    from biofm_jax.train.mesh import MeshSpec
    from biofm_jax.train.optimizer import OptimizerSpec
    from biofm_jax.train.placement import to_devices
    from biofm_jax.train.step import build_program
    from biofm_jax.zoo.esm import ESM, ESM2
    from biofm_jax.zoo.importing import params_of

    def loss(apply, params, state, batch, rng):
        logits = apply(params, batch, rngs=rng).logits
        return token_loss(logits, batch.targets, batch.weights, state)

    keep_freed_memory()  # as `biofm` does; transformers gains nothing from it
    spec = ESM2[size]
    weights = np.load(folder / "weights.npz")
    params = params_of({name: weights[name] for name in weights.files}, ESM, spec)
    made = np.load(folder / "batches.npz")
    mesh = MeshSpec().build()
    ones = np.ones((ROWS, TOKENS), np.int32)
    batches = []
    for tokens, predict, targets in zip(made["tokens"], made["predict"], made["targets"]):
        weight = np.ones(predict.shape, np.float32)
        if full_head:
            everywhere = np.zeros((ROWS, TOKENS), np.int32)
            np.put_along_axis(everywhere, predict, targets, axis=1)
            weight = np.zeros((ROWS, TOKENS), np.float32)
            np.put_along_axis(weight, predict, 1.0, axis=1)
            predict, targets = None, everywhere
        batch = Batch(
            tokens=tokens,
            segment_ids=ones,
            positions=np.cumsum(ones, axis=1, dtype=np.int32) - 1,
            examples=np.arange(ROWS, dtype=np.int32)[:, None],
            targets=targets,
            weights=weight,
            predict=predict,
        )
        batches.append(to_devices(mesh, batch))
    optimizer = OptimizerSpec(
        learning_rate=RATE,
        schedule="constant",
        warmup=0,
        b1=B1,
        b2=B2,
        eps=EPSILON,
        weight_decay=DECAY,
        no_decay=(),
        clip_norm=0.0,
    )
    with jax.set_mesh(mesh):
        program = build_program(
            spec.build(),
            Objective(init=lambda params: {}, loss=loss),
            lambda axes: optimizer.build(1, axes),
            mesh,
            batches[0],
        )
        held = [program.adopt(0, params)]

    def step(index: int) -> float:
        with jax.set_mesh(mesh):
            held[0], metrics = program.step(held[0], batches[index])
        return float(metrics["loss"])

    return step


def main() -> None:
    """Serve the commands of standard input."""
    contender, size, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    os.environ.update(inputs.one_core(int(sys.argv[4])))
    if contender == "weights":
        make_weights(size, folder)
        return
    if contender in ("ours", "ours_full"):
        step = our_stepper(size, folder, contender == "ours_full")
    else:
        step = torch_stepper(size, folder, contender == "compiled")
    done = 0
    for line in sys.stdin:
        command, count = line.split()
        if command == "time":
            inputs.to_last_core()
        began = time.process_time()
        losses = [step((done + i) % BATCHES) for i in range(int(count))]
        seconds = time.process_time() - began
        done += int(count)
        print(json.dumps(losses if command == "losses" else seconds), flush=True)


if __name__ == "__main__":
    main()
