"""What a run tells while it works and at its end: how far, how fast, how long yet, and what came out.

Flow: rows, one by one -> `Progress`, a line now and then; the rows of a store -> `summary` -> a table for people.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llava_viewer.look import wording
from llava_viewer.store.part import Row

_EVERY_S = 10.0
_ENOUGH = 8
"""Answers of a batch come together: after the first of them a rate would be many times too low."""


class Progress:
    """Tells how far a run is.

    Args:
        items: how many there are in all; done: how many of them were done before.
        say: gets a line.
        clock: seconds, for tests.
    """

    def __init__(
        self, items: int, done: int, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._items, self._before, self._say, self._clock = items, done, say, clock
        self.count, self.errors = 0, 0
        self._began_s = self._told_s = clock()

    def begin(self) -> None:
        """From now on it is asked; what went before is no part of the rate."""
        if not self.count:
            self._began_s = self._clock()

    def row(self, row: Row) -> None:
        """One more item is answered, or has its error."""
        now = self._clock()
        self.count += 1
        self.errors += row["error"] is not None
        if now - self._told_s >= _EVERY_S:
            self._told_s = now
            self._say(self.line())

    @property
    def rate(self) -> float:
        """Items a second since it began to ask; 0 while nothing has come."""
        passed = self._clock() - self._began_s
        return self.count / passed if passed > 0 else 0.0

    def line(self) -> str:
        """How far it is, in one line."""
        done = self._before + self.count
        said = [f"{done:,} of {self._items:,} ({100 * done / max(self._items, 1):.1f}%)"]
        if self.rate and self.count >= min(_ENOUGH, self._items - self._before):
            said += [f"{self.rate:.3g} a second", f"{duration((self._items - done) / self.rate)} left"]
        return ", ".join([*said, *([wording.count(self.errors, "error")] if self.errors else [])])


@dataclass
class Summary:
    """What came out of a run, counted row by row.

    Args:
        errors: by code; tokens, share_sum: over answered items; size_bytes: of all records.
    """

    items: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    tokens: int = 0
    cut: int = 0
    size_bytes: int = 0
    shares: list[float] = field(default_factory=lambda: [0.0, 0.0])
    judged: list[int] = field(default_factory=lambda: [0, 0])

    def add(self, row: Row) -> None:
        """Counts one row."""
        self.items += 1
        if row["error"] is not None:
            self.errors[row["error"]["code"]] += 1
            self.examples.setdefault(row["error"]["code"], f"{row['id']}: {row['error']['message']}")
            return
        self.tokens += len(row["tokens"])
        self.cut += row["finish_reason"] != "stop"
        self.size_bytes += row["size"] or 0
        share = next(iter((row["shares"] or {}).values()), None)
        if share is not None:
            self.shares = [self.shares[0] + share, self.shares[1] + 1]
        if row["right"] is not None:
            self.judged = [self.judged[0] + row["right"], self.judged[1] + 1]


def summary_lines(found: Summary, items: int) -> list[str]:
    """The same for people.

    Args:
        found: what is there.
        items: how many there will be.
    """
    failed = found.errors.total()
    answered = found.items - failed
    lines: list[tuple[str, Any]] = [("items", f"{found.items:,} of {items:,}"), ("answered", f"{answered:,}")]
    lines += [
        (f"error: {code}", f"{count:,}   {found.examples[code]:.100}") for code, count in found.errors.most_common()
    ]
    if answered:
        lines.append(("tokens", f"{found.tokens / answered:.1f} an answer"))
        lines += [("not ended", f"{found.cut:,} answers (length or deadline)")] if found.cut else []
        lines.append(
            ("records", f"{_plain(wording.size(found.size_bytes))}, {found.size_bytes / answered:,.0f} bytes each")
        )
    if found.shares[1]:
        lines.append(("image share", _plain(wording.percent(found.shares[0] / found.shares[1]))))
    if found.judged[1]:
        right, judged = found.judged
        lines.append(("right", f"{right:,} of {judged:,} ({_plain(wording.percent(right / judged))})"))
    width = max(len(name) for name, _ in lines)
    return [f"{name.ljust(width)}  {value}" for name, value in lines]


def duration(seconds: float) -> str:
    """A time for people: "40 s", "12 min", "3 h 20 min", "2 d 5 h"."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _plain(text: str) -> str:
    return text.replace(wording.NBSP, " ")
