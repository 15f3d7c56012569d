"""What became of every request: counts by kind, transport and outcome, times, and each wrong answer word for word.

Flow: (kind, transport, outcome, ms) from many threads -> `Ledger` -> plain numbers.
"""

from __future__ import annotations

import statistics
import threading
from collections import Counter, defaultdict
from typing import Any

WRONG, HUNG = "wrong", "hung"
_KEPT_DETAILS = 50


class Ledger:
    """Outcomes of requests; usable from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        self._taken_ms: dict[str, list[float]] = defaultdict(list)
        self._details: list[str] = []
        self.sent = 0

    def add(self, kind: str, transport: str, outcome: str, taken_ms: float, detail: str = "") -> None:
        """Notes one request; `detail` says what was wrong, where something was."""
        with self._lock:
            self.sent += 1
            self._counts[kind][transport][outcome] += 1
            self._taken_ms[kind].append(taken_ms)
            if detail and len(self._details) < _KEPT_DETAILS:
                self._details.append(f"{kind} over {transport}: {detail}")

    def count(self, outcome: str) -> int:
        """How many requests had this outcome."""
        with self._lock:
            return sum(counts[outcome] for ways in self._counts.values() for counts in ways.values())

    def line(self) -> str:
        """The outcomes so far, in one line."""
        with self._lock:
            total: Counter[str] = Counter()
            for ways in self._counts.values():
                for counts in ways.values():
                    total.update(counts)
        return ", ".join(f"{name} {number}" for name, number in total.most_common())

    def summary(self) -> dict[str, Any]:
        """Counts, times in milliseconds, and what was wrong."""
        with self._lock:
            return {
                "sent": self.sent,
                "outcomes": {
                    kind: {way: dict(counts.most_common()) for way, counts in sorted(ways.items())}
                    for kind, ways in sorted(self._counts.items())
                },
                "taken_ms": {kind: _spread(values) for kind, values in sorted(self._taken_ms.items())},
                "details": list(self._details),
            }


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    late = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return {"median": round(statistics.median(ordered), 1), "99 %": round(late, 1), "max": round(ordered[-1], 1)}
