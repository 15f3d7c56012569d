"""What the numbers of a map are: their name, their unit, and what may be done with them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """A quantity of maps.

    Args:
        name: in a few words: "attention", "contribution to the logit".
        unit: "share" (of a row that sums to 1), "ratio", "nats", "logit", or another word; empty for a plain number.
        signed: whether values below 0 have a meaning.
        additive: whether the sum over patches has one.
    """

    name: str
    unit: str = ""
    signed: bool = False
    additive: bool = False

    @property
    def is_share(self) -> bool:
        """Whether values are parts of a row that sums to 1; only then does a record say how each row splits."""
        return self.unit == "share" and not self.signed


ATTENTION = Quantity("attention", "share", additive=True)
"""What maps of records of version 1 are."""
