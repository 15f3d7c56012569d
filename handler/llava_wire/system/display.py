"""How a record shows itself: through an installed package that can draw, found by its entry point.

Flow: `Record.overlay`, `Record._repr_html_` -> `display()` -> the module behind the entry point -> picture or HTML.
The wire format itself needs no picture library, and the model archive, which has no entry points, draws nothing.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any, Protocol

GROUP = "llava_gaze.display"


class Display(Protocol):
    """What the module behind an entry point of `GROUP` offers; `record` is a `llava_wire.record.Record`."""

    def overlay(self, record: Any, token: int | None, **how: Any) -> Any:
        """One map on the picture, as a Pillow image."""

    def html(self, record: Any) -> str:
        """The record as HTML for a notebook's output."""


@cache
def display() -> Display | None:
    """The first installed display by name, or None."""
    found = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return found[0].load() if found else None
