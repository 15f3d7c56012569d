"""Findings as JSON lines, each on the disk before the next is looked for, and time limits for what looks for them.

Flow: `Journal.note` -> one line in a file that several programs may share, and on stdout; `limited` ends what takes too
long with `OutOfTime`. A run that is cut off has lost nothing but the finding that it was at.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class OutOfTime(Exception):
    """A part took longer than it may."""


class Journal:
    """Writes findings.

    Args:
        path: the file that lines are added to; None for stdout alone.
        quiet: nothing on stdout.
        common: what every line says, such as the part of the schedule.
    """

    def __init__(self, path: Path | None = None, *, quiet: bool = False, **common: Any) -> None:
        self._quiet = quiet
        self._path = path
        self._common = common
        self._begin = time.perf_counter()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)

    def note(self, what: str, **facts: Any) -> None:
        """One finding: what it is, its numbers, and when it was made, in seconds since this journal was opened."""
        passed_s = round(time.perf_counter() - self._begin, 1)
        line = json.dumps({**self._common, "at_s": passed_s, "what": what, **_rounded(facts)}) + "\n"
        if self._path is not None:
            # One write of one line: lines of several programs never mix.
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(file, line.encode())
                os.fsync(file)
            finally:
                os.close(file)
        if not self._quiet:
            sys.stdout.write(line)
            sys.stdout.flush()


def read_findings(path: Path) -> list[dict[str, Any]]:
    """Every whole line of a findings file; the last may have been cut off."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Ends what runs inside, on the main thread, after so many seconds.

    Raises:
        OutOfTime: at the limit, as soon as Python runs again; what never comes back to Python needs a limit on its
            process as well.
    """

    def ring(signum: int, frame: types.FrameType | None) -> None:
        raise OutOfTime(f"got more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _rounded(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: float(f"{value:.5g}") if isinstance(value, float) else value for name, value in facts.items()}
