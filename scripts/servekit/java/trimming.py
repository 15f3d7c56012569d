"""Gives an end to logs that nothing else bounds: their first and their last part stay, what lies between goes.

Flow: a file that others append to -> once it is too large: its head, a mark, its tail, in place.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

MOST_BYTES = 1 << 20
KEPT_BYTES = 256 << 10
"""Of the head and of the tail each."""
LEFT_OUT = b"[... lines left out here: this log keeps its first and its last part ...]\n"


def trim(log: Path, most_bytes: int = MOST_BYTES, kept_bytes: int = KEPT_BYTES) -> None:
    """Shortens a log in place when it has grown beyond `most_bytes`; writers must have opened it for appending.

    Nothing stands between a writer and its file, so no writer can be held up or lose its output by this. Lines that are
    written in the moment between reading the tail and cutting can be lost. A log that cannot be changed stays as it is.
    """
    with contextlib.suppress(OSError):
        if log.stat().st_size <= most_bytes:
            return
        file = os.open(log, os.O_RDWR | os.O_APPEND)
        try:
            size = os.fstat(file).st_size
            head = os.pread(file, kept_bytes, 0)
            head = head[: head.rfind(b"\n") + 1] or head
            tail = os.pread(file, kept_bytes, size - kept_bytes)
            os.ftruncate(file, len(head))
            # To the file's end, wherever a writer has put that meanwhile.
            os.write(file, LEFT_OUT + tail[tail.find(b"\n") + 1 :])
        finally:
            os.close(file)


def trim_own(logs: Path) -> None:
    """Trims the logs of this project's own processes in a log folder; log4j ends its files (`*_log.log`) itself."""
    with contextlib.suppress(OSError):
        for log in logs.glob("*.log"):
            if not log.name.endswith("_log.log"):
                trim(log)
