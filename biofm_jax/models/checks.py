"""Combinations of `TransformerSpec` fields that cannot be built, found before anything runs."""

from typing import TYPE_CHECKING

from biofm_jax.errors import UserError
from biofm_jax.models.heads import ProjectionHead
from biofm_jax.models.positions import Alibi, Learned, Relative, Rotary, rotated_width

if TYPE_CHECKING:
    from biofm_jax.models.transformer import TransformerSpec


def check_spec(spec: "TransformerSpec") -> None:
    """Refuse what cannot be built.

    Raises:
        UserError: names the field, its value and the values that would do.
    """
    for field in ("vocabulary", "layers", "width", "heads", "key_heads", "head_size"):
        _demand(getattr(spec, field) > 0, field, getattr(spec, field), "a positive number")
    _demand(spec.hidden_width > 0, "feedforward", spec.feedforward, "a positive number")
    if spec.head_width is None:
        need = f"a divisor of width={spec.width}, or set head_width"
        _demand(spec.width % spec.heads == 0, "heads", spec.heads, need)
    need = f"a divisor of heads={spec.heads}"
    _demand(spec.heads % spec.key_heads == 0, "kv_heads", spec.kv_heads, need)
    for field in ("dropout", "attention_dropout"):
        rate = getattr(spec, field)
        _demand(0.0 <= rate < 1.0, field, rate, "at least 0 and below 1")
    _demand(spec.norm_epsilon > 0.0, "norm_epsilon", spec.norm_epsilon, "above 0")
    _demand(spec.window is None or spec.window > 0, "window", spec.window, "positive, or None")
    if spec.parallel != "none":
        need = '"pre" with a parallel block'
        _demand(spec.norm_position == "pre", "norm_position", spec.norm_position, need)
    _check_differing_layers(spec)
    _check_linear(spec)
    _check_positions(spec)
    _check_ids(spec)
    if isinstance(spec.head, ProjectionHead):
        _demand(spec.head.layers > 0, "head.layers", spec.head.layers, "a positive number")


def _check_differing_layers(spec: "TransformerSpec") -> None:
    if (local := spec.local) is not None:
        rotary = isinstance(spec.positions, Rotary)
        _demand(rotary, "positions", spec.positions, "Rotary with local layers")
        _demand(spec.window is None, "window", spec.window, "None with local, which has its own")
        _demand(local.window > 0, "local.window", local.window, "a positive number")
        _demand(local.every > 0, "local.every", local.every, "a positive number")
        _demand(spec.backend != "splash", "backend", spec.backend, '"auto" or "xla" with local')
    if not spec.first_norm:
        plain = spec.norm_position == "pre" and spec.parallel == "none"
        _demand(plain, "first_norm", False, "True but in a pre-norm stack that is not parallel")


def _check_linear(spec: "TransformerSpec") -> None:
    if (linear := spec.linear) is None:
        return
    _demand(linear.features > 0, "linear.features", linear.features, "a positive number")
    _demand(linear.epsilon > 0.0, "linear.epsilon", linear.epsilon, "above 0")
    plain = {"causal": False, "window": None, "local": None, "attention_scale": None,
             "attention_by_depth": False, "attention_dropout": 0.0}  # fmt: skip
    for field, value in plain.items():
        _demand(getattr(spec, field) == value, field, getattr(spec, field), f"{value} with linear")
    need = f"heads={spec.heads} with linear"
    _demand(spec.key_heads == spec.heads, "kv_heads", spec.kv_heads, need)
    biased = isinstance(spec.positions, Alibi | Relative)
    need = "rotary, learned or none with linear, which has no logits to add to"
    _demand(not biased, "positions", spec.positions, need)
    need = '"auto" with linear, which has one form on all devices'
    _demand(spec.backend not in ("cudnn", "splash"), "backend", spec.backend, need)


def _check_positions(spec: "TransformerSpec") -> None:
    positions = spec.positions
    if isinstance(positions, Rotary):
        width = rotated_width(positions, spec.head_size)
        need = f"such that an even, positive number of {spec.head_size} dimensions is rotated"
        fits = width % 2 == 0 and 0 < width <= spec.head_size
        _demand(fits, "positions.fraction", positions.fraction, need)
    if isinstance(positions, Learned):
        _demand(positions.maximum > 0, "positions.maximum", positions.maximum, "positive")
        _demand(positions.offset >= 0, "positions.offset", positions.offset, "at least 0")
    if isinstance(positions, Relative):
        need = "an even number of at least 4"
        fits = positions.buckets % 2 == 0 and positions.buckets >= 4
        _demand(fits, "positions.buckets", positions.buckets, need)
        fits = positions.distance > positions.buckets
        _demand(fits, "positions.distance", positions.distance, "above positions.buckets")
    if isinstance(positions, Alibi | Relative):
        need = f'"auto" or "xla" with {type(positions).__name__} positions'
        _demand(spec.backend != "splash", "backend", spec.backend, need)


def _check_ids(spec: "TransformerSpec") -> None:
    need = f"below vocabulary={spec.vocabulary}"
    if spec.token_dropout is not None:
        mask = spec.token_dropout.mask
        _demand(0 <= mask < spec.vocabulary, "token_dropout.mask", mask, need)
        ratio = spec.token_dropout.ratio
        _demand(0.0 <= ratio < 1.0, "token_dropout.ratio", ratio, "at least 0 and below 1")
    for token in spec.special:
        _demand(0 <= token < spec.vocabulary, "special", token, need)


def _demand(holds: bool, field: str, value, need: str) -> None:
    if not holds:
        raise UserError(f"TransformerSpec.{field} is {value!r}; it must be {need}")
