"""What a leak report says, as records of plain values.

`specs.encode` makes JSON of a report, `specs.decode` reads it back.
"""

import dataclasses

from biofm_jax.evaluate.revealing import Revealing


@dataclasses.dataclass(frozen=True)
class Match:
    """A test item, and the item learned from that it equals or resembles.

    Attributes:
        test: id of the test item.
        seen: id of the other.
        part: the other's part: "train" or "valid".
        similarity: 0 to 1.
    """

    test: str
    seen: str
    part: str
    similarity: float


@dataclasses.dataclass(frozen=True)
class Exact:
    """Test items that equal an item learned from; `share` is of all test items."""

    form: str
    count: int
    share: float
    examples: tuple[Match, ...]


@dataclasses.dataclass(frozen=True)
class Near:
    """Test items that are not equal to, but nearly, an item learned from.

    Attributes:
        measure: the similarity from which on an item is near, in words.
        threshold: its number.
        count: near test items, without the exact ones.
        share: of all test items.
        median: over all test items, the similarity of the most alike item learned from.
        examples: the most alike.
    """

    measure: str
    threshold: float
    count: int
    share: float
    median: float
    examples: tuple[Match, ...]


@dataclasses.dataclass(frozen=True)
class Conflict:
    """Equal items with different labels: their ids, and the lowest and highest label."""

    ids: tuple[str, ...]
    column: str
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Repeats:
    """Items, of any part, that occur more than once.

    Attributes:
        items: how many items have an equal.
        groups: sets of equal items.
        conflicts: sets whose labels differ by more than a tenth of the standard deviation.
        examples: those that differ most, in standard deviations.
        across: conflicting sets with an item that is tested and one that the same fold learns
            from: the model is taught that the answer is wrong.
    """

    items: int
    groups: int
    conflicts: int
    examples: tuple[Conflict, ...]
    across: int = 0


@dataclasses.dataclass(frozen=True)
class SharedGroups:
    """A grouping column, such as the patient.

    Attributes:
        column: its name.
        tested: groups among the test items.
        shared: those of them that an item learned from belongs to.
        count: test items in shared groups.
        share: of all test items.
        examples: shared groups, the largest among the test items first.
    """

    column: str
    tested: int
    shared: int
    count: int
    share: float
    examples: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class LeakReport:
    """What the test items of a data set share with those learned from (train and valid).

    Attributes:
        modality: of the data.
        items: all items.
        tested: items that some fold tests.
        variants: whether the items are variants of one wild type, so near by design.
        exact: test items that equal an item learned from.
        repeats: equal items anywhere, and their labels.
        near: test items nearly equal to one learned from; None where no measure is known.
        mutations: (number, share) pairs for variants: the share of test items whose nearest
            variant learned from is that many substitutions away.
        groups: grouping columns.
        checked: metadata columns looked at.
        revealing: those that tell a label.
    """

    modality: str
    items: int
    tested: int
    variants: bool
    exact: Exact
    repeats: Repeats
    near: Near | None
    mutations: tuple[tuple[int, float], ...]
    groups: tuple[SharedGroups, ...]
    checked: tuple[str, ...]
    revealing: tuple[Revealing, ...]

    @property
    def findings(self) -> tuple[str, ...]:
        """What was found, in a word each; near variants of one wild type are no finding."""
        found = {
            "exact duplicates": self.exact.count,
            "conflicting labels": self.repeats.conflicts,
            "conflicting labels across the split": self.repeats.across,
            "near duplicates": self.near is not None and self.near.count and not self.variants,
            "shared groups": any(group.shared for group in self.groups),
            "label-revealing columns": len(self.revealing),
        }
        return tuple(name for name, there in found.items() if there)
