"""Any adaptation with fewer labels, or with shuffled ones: label-fraction curves and a control."""

import dataclasses
import re
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from biofm_jax.adapt.columns import Kind
from biofm_jax.adapt.labelled import Adapter, Labelled
from biofm_jax.errors import UserError

FEWEST_PER_CLASS = 2
FEWEST_NUMBERS = 8
NONE = np.arange(0)


def method_name(
    method: str,
    *,
    share: float | None = None,
    shots: int | None = None,
    shuffled: bool = False,
    pooling: str | None = None,
    layer: int | None = None,
) -> str:
    """The name of a method with options and limits: `probe@3%`, `probe(layer=2)@8shot+shuffled`.

    All labels (`share=1`) are the method itself. Arguments as of `fraction_adapter`,
    `few_shot_adapter`, `shuffled_adapter` and `Encoder.features`.

    Raises:
        UserError: both a share and shots.
    """
    if share is not None and shots is not None:
        raise UserError("a share of the labels and a number of shots exclude one another")
    options = {"pooling": pooling, "layer": layer}
    given = ", ".join(f"{key}={value}" for key, value in options.items() if value is not None)
    name = f"{method}({given})" if given else method
    if share is not None and share != 1:
        name += f"@{100 * share:g}%"
    if shots is not None:
        name += f"@{shots}shot"
    return name + ("+shuffled" if shuffled else "")


def read_method(name: str) -> tuple[str, float | None, int | None, bool]:
    """What `method_name` made a name of: method (with its options), share, shots, shuffled.

    The share of a name without one is 1; that of shots is None.
    """
    found = re.fullmatch(r"(.*?)(?:@([0-9.e+-]+)%|@([0-9]+)shot)?(\+shuffled)?", name)
    method, percent, shots, shuffled = found.groups()
    share = None if shots else float(percent) / 100 if percent else 1.0
    return method, share, int(shots) if shots else None, bool(shuffled)


def read_options(method: str) -> tuple[str, str | None, int | None]:
    """The method without its options, the pooling and the layer: of `probe(pooling=cls, layer=2)`.

    What is not named is None.
    """
    base, _, given = method.removesuffix(")").partition("(")
    options = dict(option.split("=", 1) for option in given.split(", ") if option)
    layer = options.get("layer")
    return base, options.get("pooling"), None if layer is None else int(layer)


@dataclasses.dataclass(frozen=True)
class Limited:
    """An adapter that sees less than it is given.

    Attributes:
        adapter: what adapts.
        limit: train, valid and seed -> the train and the valid that `adapter` sees.
    """

    adapter: Adapter
    limit: Callable[[Labelled, Labelled, int], tuple[Labelled, Labelled]]

    def __call__(
        self, train: Labelled, valid: Labelled, test: Labelled, seed: int
    ) -> Float[np.ndarray, "n k"]:
        """As `Adapter`."""
        return self.adapter(*self.limit(train, valid, seed), test, seed)


def within_limits(
    adapter: Adapter, train: Labelled, valid: Labelled, seed: int
) -> tuple[Adapter, Labelled, Labelled]:
    """The adapter inside all limits, and the training and validation part that it sees."""
    while isinstance(adapter, Limited):
        train, valid = adapter.limit(train, valid, seed)
        adapter = adapter.adapter
    return adapter, train, valid


def limited_adapter(adapter: Adapter, method: str, kind: Kind | None = None) -> Adapter:
    """An adapter with the limits in the name of a method, as `read_method` reads them.

    Args:
        adapter: what adapts.
        method: its name with limits.
        kind: as of `few_shot_adapter`.
    """
    _, share, shots, shuffled = read_method(method)
    if shots is not None:
        adapter = few_shot_adapter(adapter, shots, kind)
    elif share < 1:
        adapter = fraction_adapter(adapter, share, kind)
    return shuffled_adapter(adapter) if shuffled else adapter


def unlabelled_adapter(adapter: Adapter) -> Adapter:
    """An adapter that looks at no label, such as a zero-shot score."""
    return Limited(adapter, lambda train, valid, seed: (train.at(NONE), valid.at(NONE)))


def fraction_adapter(adapter: Adapter, share: float, kind: Kind | None = None) -> Adapter:
    """An adapter that sees a share of the labels.

    In every label column it keeps, of each class (of all, for a number), the same share, rounded
    up; of the training labels never fewer than 2 per class or 8 numbers where there are so many.
    The validation labels are cut by the same share, so that choosing is no better informed than
    fitting. With a label for every residue the share is of sequences. Which labels is drawn from
    the adaptation's seed, the same for every model, and a smaller share is part of a larger one.
    Items left without a label are left out.

    Args:
        adapter: what adapts.
        share: above 0, at most 1 (then nothing changes).
        kind: as of `few_shot_adapter`.

    Raises:
        UserError: another share.
    """
    if not 0 < share <= 1:
        raise UserError(f"a share of labels is above 0 and at most 1, not {share}: 3 % is 0.03")

    def count(of_class: bool, there: int) -> int:
        # 0.07 * 100 is a little more than 7.
        return int(np.ceil(share * there - 1e-9))

    def at_least(of_class: bool, there: int) -> int:
        return max(FEWEST_PER_CLASS if of_class else FEWEST_NUMBERS, count(of_class, there))

    def limit(train: Labelled, valid: Labelled, seed: int) -> tuple[Labelled, Labelled]:
        if share == 1:
            return train, valid
        few = _limited(train, at_least, (seed, 0), kind)
        return few, _limited(valid, count, (seed, 1), kind)

    return Limited(adapter, limit)


def few_shot_adapter(adapter: Adapter, shots: int, kind: Kind | None = None) -> Adapter:
    """An adapter that sees a few labels and no validation part.

    A validation part would be more labels than the few (arXiv 2105.11447).

    Args:
        adapter: what adapts; it has to do without validation items.
        shots: labels of each class in every column of labels, or numbers in every column, or
            sequences with a label for every residue; all where there are fewer. Fewer shots are
            part of more.
        kind: of the labels; None: binary where all are 0 or 1, else numbers.

    Raises:
        UserError: no shots.
    """
    if shots < 1:
        raise UserError(f"the number of shots is {shots}; it must be 1 or more")

    def limit(train: Labelled, valid: Labelled, seed: int) -> tuple[Labelled, Labelled]:
        return _limited(train, lambda of_class, there: shots, (seed, 0), kind), valid.at(NONE)

    return Limited(adapter, limit)


def shuffled_adapter(adapter: Adapter) -> Adapter:
    """An adapter whose labels belong to other items: the control that should find nothing.

    The rows of labels are permuted within the training part and within the validation part,
    which some methods fit on too. Around another limit, as
    `shuffled_adapter(fraction_adapter(...))`, or within it: both keep the share.
    """

    def limit(train: Labelled, valid: Labelled, seed: int) -> tuple[Labelled, Labelled]:
        shuffled = []
        for number, part in enumerate((train, valid)):
            # 2 and 3: these orders have nothing to do with those that choose a share.
            order = np.random.default_rng((seed, 2 + number)).permutation(len(part))
            shuffled.append(dataclasses.replace(part, targets=part.targets[order]))
        return shuffled[0], shuffled[1]

    return Limited(adapter, limit)


def _limited(
    part: Labelled,
    keep: Callable[[bool, int], int],
    seed: tuple[int, int],
    kind: Kind | None,
) -> Labelled:
    """Some labels of a part, the first of each group in a seeded order.

    Args:
        part: the items.
        keep: whether a group is a class, number of its labels -> how many to keep.
        seed: of the order.
        kind: of the labels, if known.
    """
    order = np.random.default_rng(seed).permutation(len(part))
    if kind == "residue":  # the labels of a sequence come together
        known = order[~np.isnan(part.targets[order]).all(1)]
        return part.at(np.sort(known[: keep(False, len(known))]))
    kept = np.full_like(part.targets, np.nan)
    for column, labels in enumerate(part.targets.T):
        known = order[~np.isnan(labels[order])]
        found = np.unique(labels[known])
        of_class = bool(np.isin(found, (0, 1)).all()) if kind is None else kind != "number"
        groups = [known[labels[known] == label] for label in found] if of_class else [known]
        for group in groups:
            chosen = group[: keep(of_class, len(group))]
            kept[chosen, column] = labels[chosen]
    # In the order of the data: some learners depend on it.
    have = np.flatnonzero(~np.isnan(kept).all(1))
    return dataclasses.replace(part, targets=kept).at(have)
