"""Where maps of several methods point, on scenes of known truth: the strongest patch against the named object's box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record
from shapes.pointing import naming_tokens
from shapes.sightings import Item
from support.methods import png
from teach.peaks import peaks_inside

BATCH = 16


@dataclass(frozen=True)
class Pointing:
    """Hits of one method.

    Args:
        right, late, turned: [word] bool, the word's own row; the row after it; its map with rows and columns swapped.
        roles: [word], "colour" or "shape".
    """

    right: np.ndarray
    late: np.ndarray
    turned: np.ndarray
    roles: np.ndarray

    def mean(self, role: str | None = None, how: str = "right") -> float:
        """The share of words, of a role or all, whose strongest patch lies in the box."""
        chosen = getattr(self, how)
        return float(chosen[self.roles == role].mean() if role else chosen.mean())


def hits(
    engine: Engine, items: Sequence[Item], views: Sequence[dict[str, Any]], batch: int = BATCH
) -> dict[str, Pointing]:
    """Where the words of descriptions point, by the names of the views; so many answers share a deadline."""
    items = [item for item in items if item.question.kind == "describe"]
    options = {"views": [*views], "precision": "float32", "max_new_tokens": 48}
    found: dict[str, list[tuple[bool, bool, bool]]] = {view["name"]: [] for view in views}
    roles: list[str] = []
    for start in range(0, len(items), batch):
        some = items[start : start + batch]
        results = engine.run([GenerateRequest.build(png(item), item.question.text, options) for item in some])
        for item, record in zip(some, results, strict=True):
            assert isinstance(record, Record), record
            objects, rects = item.scene.objects, record.geometry.patch_rects()
            for naming in naming_tokens([token.text for token in record.tokens], objects, item.question.text):
                box = objects[naming.index].box
                roles.append(naming.role)
                for name, view in record.views.items():
                    own, late = view.maps_float()[naming.step : naming.step + 2]
                    found[name].append(tuple(bool(peaks_inside(m, rects, [box])) for m in (own, late, own.T)))
    return {
        name: Pointing(*np.array(judged).reshape(-1, 3).T, np.array(roles))  # type: ignore[call-arg]
        for name, judged in found.items()
    }
