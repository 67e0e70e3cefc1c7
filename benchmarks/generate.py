"""What the key and value cache gains in generation, and that it changes nothing.

A causal model of 6 layers of 256, random weights, greedy, without a stop token: `NEW` tokens for
`ROWS` prompts, in CPU seconds of one core. Without a cache every token reads the row again; the
rival has the favour of a program for each multiple of `STEP` tokens, so that it never reads more
than `STEP` columns too many, and of choosing for nothing. transformers has its own cache and a
GPT-2 of the same sizes, whose feed-forward, heads and vocabulary cost the same.
"""

import dataclasses
import os
import time

from benchmarks import inputs

os.environ.update(inputs.one_core())

import jax
import numpy as np

from benchmarks.results import Row, judged, run_part
from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.generate import generate
from biofm_jax.adapt.sampling import Sampling
from biofm_jax.data.batch import Batch
from biofm_jax.data.protein import ProteinData
from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.positions import Learned
from biofm_jax.models.transformer import TransformerSpec

ROWS, PROMPT, NEW, STEP = 16, 16, 240, 32
SPEC = TransformerSpec(
    vocabulary=400,
    layers=6,
    width=256,
    heads=8,
    causal=True,
    activation="gelu_tanh",
    positions=Learned(maximum=PROMPT + NEW),
    head=LanguageHead(transform=False, bias=False),
    init_std=0.1,
)
EQUAL = 1e-5


def measure() -> list[Row]:
    """Seconds with and without the cache, and the difference of what they say."""
    prompts = np.random.default_rng(0).integers(0, 400, (ROWS, PROMPT)).astype(np.int32)
    encoder = Encoder("bench", SPEC, ProteinData())
    encoder = dataclasses.replace(encoder, params=encoder.params_for(0))
    sampling = Sampling(temperature=0.0, max_tokens=NEW)

    def with_cache():
        return [each[0] for each in next(generate(encoder, list(prompts), sampling, rows=ROWS))]

    found = with_cache()
    rows = np.concatenate([prompts, np.stack([each.tokens for each in found])], axis=1)
    # A token behind a row of `length` is read by the program of the next multiple of STEP.
    uncached = 0.0
    for size in range(STEP, PROMPT + NEW + 1, STEP):
        work = full(encoder, rows[:, :size])
        tokens = sum(size - STEP < length <= size for length in range(PROMPT, PROMPT + NEW))
        uncached += tokens * min(cpu_seconds(work) for _ in range(3))
    theirs = peer(prompts)
    cached, peers = [], []
    for _ in range(3):
        cached.append(cpu_seconds(with_cache))
        peers.append(cpu_seconds(theirs))
    cached, peers = float(np.median(cached)), float(np.median(peers))
    print(f"   cached {cached:.2f} s, uncached {uncached:.2f} s, transformers {peers:.2f} s")
    size = f"{ROWS} rows, {NEW} new tokens"
    speed = f"{ROWS * NEW / cached:,.0f} tokens/s"
    return [
        judged("generate", None, f"cached over uncached generation, {size}", uncached / cached,
               note=speed, cached=cached, uncached=uncached),
        judged("generate", None, f"cached generation over transformers' GPT-2, {size}",
               peers / cached, note=speed, cached=cached, transformers=peers),
        judged("generate", None, "log-likelihoods of cached and full passes, relative difference",
               difference(encoder, rows, found), at_most=EQUAL, form="{:.1e}"),
    ]  # fmt: skip


def cpu_seconds(work) -> float:
    """CPU seconds of a call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def batch_of(tokens: np.ndarray) -> Batch:
    """One sequence a row."""
    ones = np.ones_like(tokens)
    positions = np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)
    return Batch(tokens, ones, np.ascontiguousarray(positions), ones[:, :1])


def full(encoder: Encoder, tokens: np.ndarray):
    """A compiled full pass over rows of this length, with the logits of one position."""
    model, last = encoder.spec.build(), np.full((ROWS, 1), tokens.shape[1] - 1, np.int32)
    batch = batch_of(tokens).replace(predict=last)
    run = jax.jit(lambda params, batch: model.apply(params, batch).logits)

    def call():
        jax.block_until_ready(run(encoder.params, batch))

    call()
    return call


def peer(prompts: np.ndarray):
    """transformers' generation by a GPT-2 of the same sizes."""
    import torch
    import transformers

    torch.set_num_threads(1)
    config = transformers.GPT2Config(
        vocab_size=400, n_positions=PROMPT + NEW, n_embd=256, n_layer=6, n_head=8,
        bos_token_id=0, eos_token_id=None,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config).eval()
    ids = torch.tensor(prompts, dtype=torch.long)
    options = dict(max_new_tokens=NEW, do_sample=False, pad_token_id=0)

    def call():
        out = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
        assert out.shape == (ROWS, PROMPT + NEW)

    call()
    return call


def difference(encoder: Encoder, rows: np.ndarray, found) -> float:
    """Of the log-likelihoods that generation reported, from those of a full pass."""
    logits = encoder.spec.build().apply(encoder.params, batch_of(rows)).logits
    said = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits))[:, :-1], rows[:, 1:, None], 2)
    want = said[:, PROMPT - 1 :, 0].sum(1, dtype=np.float64)
    got = np.array([each.log_likelihood for each in found])
    return float(np.max(np.abs(got - want) / np.abs(want)))


if __name__ == "__main__":
    run_part(measure)
