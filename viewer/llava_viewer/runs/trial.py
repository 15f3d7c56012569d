"""What a run would take, from a few of its items that are really asked.

Flow: items spread over the data -> asked twice, the first time to warm up -> bytes and seconds an item -> all of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from llava_viewer.data.items import Item
from llava_viewer.runs.asking import Asks, Chunk, of_run
from llava_viewer.store.part import BLOCK
from llava_viewer.store.rows import row_of
from llava_wire.container import decode

TRIED = 16


@dataclass(frozen=True)
class Trial:
    """What a few items took.

    Args:
        asked, failed: how many; first: the first refusal, "" without any.
        item_bytes: of a record with its row, the mean; item_s: seconds an item, asked as a run asks.
    """

    asked: int
    failed: int
    first: str
    item_bytes: float
    item_s: float


def tried(items: Sequence[Item], asks: Asks) -> Trial:
    """Asks a few items, and keeps nothing.

    Raises:
        RequestError: what every item would meet.
    """
    step = max(1, len(items) // TRIED)
    chosen = items[::step][:TRIED]
    sizes: list[int] = []
    errors: list[str] = []
    began_s: float | None = None
    # The first half warms up what answers.
    again = [replace(item, n=item.n + len(items)) for item in chosen]
    for item, reply in asks.answers(iter([Chunk(0, chosen), Chunk(1, again)])):
        if isinstance(reply, Exception):
            if of_run(reply):
                raise reply
            errors.append(f"{item.id}: {reply}")
        else:
            row = row_of(item.facts(), decode(reply), rule="", right=None)
            row_bytes = len(json.dumps(row, ensure_ascii=False).encode())
            sizes.append(-(-len(reply) // BLOCK) * BLOCK + BLOCK + row_bytes)
        if len(sizes) + len(errors) == len(chosen):
            began_s = time.monotonic()
    passed_s = time.monotonic() - began_s if began_s is not None else 0.0
    return Trial(
        len(chosen), len(errors) // 2, errors[0] if errors else "", sum(sizes) / max(len(sizes), 1),
        passed_s / max(len(chosen), 1),
    )  # fmt: skip
