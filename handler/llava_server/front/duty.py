"""Whether this worker still takes requests: the worker's side of a stop that finishes what was accepted.

Flow: whoever stops the server writes `drain.json` into a folder, with how many requests were waiting -> the worker lets
so many more in, refuses what comes later -> its marks in the folder say when what was accepted is done.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from llava_wire.errors import RequestError
from llava_wire.system.inner import BUSY, DRAIN_FILE, DUTY_VARIABLE, PAST


class Duty:
    """One worker's duty.

    Args:
        folder: where `drain.json` appears and marks go, or None.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._left: int | None = None

    @classmethod
    def from_environment(cls) -> Duty:
        """The duty of a worker that a server's start script made."""
        folder = os.environ.get(DUTY_VARIABLE)
        return cls(Path(folder) if folder else None)

    @contextlib.contextmanager
    def batch(self, size: int) -> Iterator[int]:
        """Marks the worker as busy with a batch; gives how many of its requests, the first ones, are still let in."""
        if self._folder is None:
            yield size
            return
        self._mark(BUSY, True)
        try:
            taken = self._take(size)
            yield taken
            if taken < size:
                self._mark(PAST, True)
        finally:
            self._mark(BUSY, False)

    def _take(self, size: int) -> int:
        assert self._folder is not None
        if self._left is None:
            try:
                self._left = int(json.loads((self._folder / DRAIN_FILE).read_text("utf-8"))["waiting"])
            except (OSError, ValueError, KeyError, TypeError):
                return size
        taken = min(size, self._left)
        self._left -= taken
        return taken

    def _mark(self, kind: str, there: bool) -> None:
        """Sets or takes away a mark; a folder that is full or gone must not cost an answer."""
        assert self._folder is not None
        path = self._folder / f"{os.getpid()}{kind}"
        with contextlib.suppress(OSError):
            if there:
                path.touch()
            else:
                path.unlink(missing_ok=True)


def off_duty() -> RequestError:
    """The refusal of a request that came after the stop began."""
    return RequestError("unavailable", "server", "server is shutting down; retry")
