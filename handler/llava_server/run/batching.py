"""Which requests run together: checked requests, in their order, to batches that fit the device."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from llava_server.fit import estimate as sizes
from llava_server.fit.room import Room
from llava_server.load.loading import LoadedModel
from llava_server.run.prepare import Checked, Prepared


@dataclass(frozen=True)
class Waiting:
    """A checked request with its place in the caller's list, its picture on the way."""

    index: int
    checked: Checked
    picture: Future[Prepared]


def split(waiting: Sequence[Waiting], room: Room, loaded: LoadedModel) -> list[list[Waiting]]:
    """Consecutive batches of one decoding that fit, every request padded to the largest extent among them.

    Where a text's length changes its keys, a longer neighbour would change a request's answer, so each runs alone.
    """
    batches: list[list[Waiting]] = []
    for entry in waiting:
        shared = entry.checked.plan.decoding.batch
        if batches and batches[-1][-1].checked.plan.decoding.batch == shared != "" and not loaded.length_dependent:
            together = [e.checked for e in (*batches[-1], entry)]
            extent = functools.reduce(sizes.Extent.joined, (checked.extent for checked in together))
            if room.holds([sizes.sized(checked.plan, loaded.facts, extent) for checked in together]):
                batches[-1].append(entry)
                continue
        batches.append([entry])
    return batches
