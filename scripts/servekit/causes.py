"""Why a start failed, in one line: the logs of a server -> the first exception in them, or its last words."""

from __future__ import annotations

import re
from pathlib import Path

_FILES = ("model_log.log", "ts_log.log", "console.log")
"""The worker's words, then TorchServe's, then Java's own."""


def logged(logs: Path) -> str:
    """What was logged so far in the server's log folder."""
    return "\n".join(_read(logs / name) for name in _FILES)


def cause(logs: Path) -> str:
    """The line of the log that names the cause: the first exception, since later ones only follow from it."""
    said = _read(logs / "console.log").strip().splitlines()
    words = f"last words: {said[-1].strip()}" if said else "killed, perhaps for lack of memory"
    return (exceptions(logs) or [f"no exception in the log; {words}"])[0][:300]


def exceptions(logs: Path) -> list[str]:
    """The exceptions in the log; a worker's before Java's, without the one that hides the others."""
    lines = logged(logs).splitlines()
    found = (re.search(r"[\w.]*(?:Error|Exception): ?.*", line) for line in lines if "ts.torch_handler" not in line)
    return [match.group().strip() for match in found if match]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
