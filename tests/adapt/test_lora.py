import dataclasses

import jax
import numpy as np
import pytest
from lora_examples import LORA, SPEC, adapters, axes_of, outputs
from toy_batches import parameters

from biofm_jax.adapt.lora import Lora, adapter_axes, init_adapters, merge, paths, with_adapters
from biofm_jax.errors import UserError
from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.positions import Learned

SPECS = {
    "esm2": SPEC,
    "loop": dataclasses.replace(SPEC, scan=False),
    "bfloat16": dataclasses.replace(SPEC, dtype="bfloat16"),
    "llama": dataclasses.replace(SPEC, gated=True, activation="silu", kv_heads=2, norm="rms"),
    "gpt": dataclasses.replace(SPEC, causal=True, positions=Learned(64)),
    "untied": dataclasses.replace(SPEC, head=LanguageHead(transform=False, tied=False)),
}


@pytest.mark.parametrize("name", SPECS)
def test_fresh_adapters_change_nothing_at_all(name):
    spec = SPECS[name]
    plain = outputs(parameters(spec), spec)
    joined = with_adapters(parameters(spec), adapters(spec=spec), LORA.scale)
    changed = outputs(joined, spec)
    for key in plain:
        np.testing.assert_array_equal(plain[key], changed[key])


@pytest.mark.parametrize("name", [name for name in SPECS if name != "bfloat16"])
def test_merged_is_applied(name):
    spec = SPECS[name]
    trained = adapters(spec=spec, noise=0.1)
    applied = outputs(with_adapters(parameters(spec), trained, LORA.scale), spec)
    merged = outputs(merge(parameters(spec), trained, LORA.scale), spec)
    plain = outputs(parameters(spec), spec)
    for key in applied:
        np.testing.assert_allclose(applied[key], merged[key], rtol=1e-5, atol=1e-5)
        assert np.abs(applied[key] - plain[key]).max() > 1e-2


def test_scan_is_loop():
    trained = adapters(noise=0.1)
    joined = with_adapters(parameters(SPEC), trained, LORA.scale)
    scanned, looped = (
        outputs(joined, dataclasses.replace(SPEC, scan=scan)) for scan in (True, False)
    )
    for key in scanned:
        np.testing.assert_allclose(scanned[key], looped[key], rtol=1e-5, atol=1e-5)


def test_a_change_is_scale_times_a_times_b():
    params, trained = parameters(SPEC), adapters(noise=0.1)
    merged = merge(params, trained, LORA.scale)
    for layer in range(SPEC.layers):
        for path, inputs in (("qkv", 1), ("out", 2)):
            kernel = params["blocks"]["attention"][path]["kernel"][layer]
            pair = trained["blocks"]["attention"][path]["kernel"]
            a, b = (pair[name][layer].astype(np.float64) for name in ("a", "b"))
            matrix = a.reshape(-1, LORA.rank) @ b.reshape(LORA.rank, -1)
            assert a.ndim == inputs + 1
            expected = kernel + 3.0 * matrix.reshape(kernel.shape)
            found = merged["blocks"]["attention"][path]["kernel"][layer]
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_merge_keeps_the_type_and_what_is_no_target():
    half = jax.tree.map(lambda leaf: jax.numpy.asarray(leaf, "bfloat16"), parameters(SPEC))
    merged = merge(half, adapters(noise=0.1), LORA.scale)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(merged)} == {"bfloat16"}
    norm = ("blocks", "attention_norm", "scale")
    one, other = merged, half
    for name in norm:
        one, other = one[name], other[name]
    assert one is other


def test_adapters_are_only_at_their_targets():
    lora = Lora(rank=3, targets=("attention/qkv", r"embed/tokens$"))
    found = adapters(lora)
    assert sorted(paths(found)) == ["blocks/attention/qkv/kernel", "embed/tokens"]
    d, h = SPEC.width, SPEC.heads
    qkv = found["blocks"]["attention"]["qkv"]["kernel"]
    assert qkv["a"].shape == (SPEC.layers, d, 3)
    assert qkv["b"].shape == (SPEC.layers, 3, 3, h, d // h)
    assert not qkv["b"].any() and qkv["a"].std() == pytest.approx(d**-0.5, rel=0.2)
    names = adapter_axes(found, axes_of())
    assert names["blocks"]["attention"]["qkv"]["kernel"] == {
        "a": ("layers", "embed", None),
        "b": ("layers", None, None, "heads", None),
    }
    assert names["embed"]["tokens"] == {"a": ("vocab", None), "b": (None, "embed")}


def test_a_base_may_be_half_as_wide():
    half = jax.tree.map(lambda leaf: jax.numpy.asarray(leaf, "bfloat16"), parameters(SPEC))
    widened = jax.tree.map(lambda leaf: leaf.astype("float32"), half)
    trained = adapters(noise=0.1)
    one, other = (outputs(with_adapters(base, trained, LORA.scale)) for base in (half, widened))
    for key in one:
        np.testing.assert_allclose(one[key], other[key], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pattern", ["attention/nowhere", "attention_norm/scale", "bias$"])
def test_targets_that_are_no_weights_are_refused(pattern):
    with pytest.raises(UserError, match=r"matches none of .*blocks/attention/qkv/kernel"):
        init_adapters(Lora(targets=(pattern,)), parameters(SPEC), axes_of(), jax.random.key(0))


def test_vectors_beside_weights_are_passed_over():
    found = adapters(Lora(targets=("attention",)))
    assert sorted(paths(found)) == [f"blocks/attention/{name}/kernel" for name in ("out", "qkv")]


def test_a_rank_of_nothing_is_refused():
    with pytest.raises(UserError, match="rank is 0; it must be 1 or more"):
        Lora(rank=0)
