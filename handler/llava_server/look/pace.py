"""How fast the passes of methods go, held against the time of their request.

Flow: passes that are to run in all + deadline -> `Pace.before` each of them -> a refusal once the time is over, or
cannot be enough.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from llava_wire.errors import RequestError

_FIRST_S = 2.0
"""How long passes must have run for their pace to be judged."""
_HOPELESS = 2.0
"""A request that would take this many times what it has is refused before its time is over."""


@dataclass
class Pace:
    """The passes of one answer.

    Args:
        passes: method -> passes that it runs in all.
        deadline_s: the `time.monotonic()` at which they must end.
        allowed_ms: what the request has from its arrival on.
    """

    passes: Mapping[str, int]
    deadline_s: float
    allowed_ms: int

    def __post_init__(self) -> None:
        self._done = 0
        self._started_s = time.monotonic()

    def before(self, count: int) -> None:
        """Counts passes that are about to run.

        Raises:
            RequestError: "deadline", with the time that all of them would take.
        """
        now, total = time.monotonic(), max(sum(self.passes.values()), self._done + count)
        spent_s, had_s = now - self._started_s, self.deadline_s - self._started_s
        whole_s = spent_s / self._done * total if self._done else 0.0
        if now >= self.deadline_s or (spent_s > _FIRST_S and whole_s > _HOPELESS * had_s):
            need = f", which take about {whole_s:.0f} s" if self._done else ""
            raise RequestError(
                "deadline",
                "options.deadline_ms",
                f"got {self.allowed_ms} ms, expected time for {total} passes over prompt and answer{need}; list fewer "
                f"steps, ask {max(self.passes, key=lambda name: self.passes[name], default='the method')!r} for less "
                "by its parameters, or raise it",
            )
        self._done += count
