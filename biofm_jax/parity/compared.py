"""Comparisons for the ledger that are no import of a published sequence model.

Each is a name in the ledger, what it is held to, and a function that measures.
"""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Compared:
    """One comparison.

    Attributes:
        name: as typed, and of its row in the ledger.
        variant: what distinguishes it from the row's other ones.
        reference: what it is held to.
        measure: runs both, returns the figures by column and the number of parameters.
        needs: packages that it imports, beside torch.
    """

    name: str
    variant: str
    reference: str
    measure: Callable[[], tuple[dict[str, float], int]]
    needs: tuple[str, ...] = ()
