"""Which families the methods of this house were shown on, and how; what listings and docs/methods.md say of it.

Tests hold it: `tests/integration/test_<method>.py` computes each method's maps a second way, and every family of this
house has a test that runs all methods (`check_methods` of `tests/support/family_proofs.py`).
"""

from __future__ import annotations

from llava_doors.door import FAMILIES, METHODS, Declaration

_FIRST = ("llava",)
"""Where every method is held against a computation of its own."""
_ON_EVERY_FAMILY = frozenset({"attention", "text_attention"})
"""Methods whose values are held against transformers' eager rows on every family."""


def proved_for(method: Declaration) -> dict[str, tuple[str, ...]]:
    """The families that a method was shown on.

    Args:
        method: behind the door of methods.

    Returns:
        "computed": those on which its maps equal those of a computation of its own; "replayed": those on which maps of
        an answer and of its replay agree. Empty for a method of another package, about which nothing is known here.
    """
    if METHODS.known().get(method.name) is not method or not _of_this_house(method, "methods"):
        return {}
    families = tuple(name for name, one in FAMILIES.known().items() if _of_this_house(one, "families"))
    return {"computed": families if method.name in _ON_EVERY_FAMILY else _FIRST, "replayed": families}


def _of_this_house(declaration: Declaration, room: str) -> bool:
    return declaration.implementation.startswith(f"llava_doors.{room}.")
