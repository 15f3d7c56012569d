"""A worker's sign of life: a file that says every second that the process runs, and since when it has been busy.

Flow: a thread of its own -> `<pid>.beat` beside the marks of `llava_server.front.duty` -> whoever judges a worker.
A beat that grows old means a process that is gone, stopped, or held up outside Python; a beat that is fresh and has
been busy for long means one batch that does not end.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from llava_wire.system.inner import BEAT, DUTY_VARIABLE

PERIOD_S = 1.0
"""Seconds between two beats."""
_PARTIAL = ".beat-partial"


class Heartbeat:
    """One worker's heartbeat.

    Args:
        folder: where the file goes, or None for none.
        model: the name of what the worker serves.
    """

    def __init__(self, folder: Path | None, model: str) -> None:
        self._folder = folder
        self._model = model
        self._busy_since: float | None = None
        self._end = threading.Event()

    @classmethod
    def from_environment(cls, model: str) -> Heartbeat:
        """The heartbeat of a worker that a server's start script made."""
        folder = os.environ.get(DUTY_VARIABLE)
        return cls(Path(folder) if folder else None, model)

    def start(self) -> None:
        """Beats once a period from here to the end of the process, and takes away the files of dead workers."""
        if self._folder is None:
            return
        _remove_dead(self._folder)
        self._beat(self._folder)
        threading.Thread(target=self._run, args=(self._folder,), name="heartbeat", daemon=True).start()

    def stop(self) -> None:
        """Ends the beating; the file stays and grows old."""
        self._end.set()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """The worker is busy inside."""
        self._busy_since = time.time()
        try:
            yield
        finally:
            self._busy_since = None

    def _run(self, folder: Path) -> None:
        while not self._end.wait(PERIOD_S):
            self._beat(folder)

    def _beat(self, folder: Path) -> None:
        """Writes the file beside its place and renames it, so that nobody reads half of it."""
        path, partial = (folder / f"{os.getpid()}{ending}" for ending in (BEAT, _PARTIAL))
        since = self._busy_since
        said = {
            "pid": os.getpid(),
            "model": self._model,
            "busy_since": None if since is None else round(since, 3),
            "written": round(time.time(), 3),
        }
        try:
            partial.write_text(json.dumps(said) + "\n", encoding="utf-8")
            partial.replace(path)
        except OSError:
            # A full disk takes no bytes, but a file that exists can still be seen to be touched.
            with contextlib.suppress(OSError):
                os.utime(path)
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def _remove_dead(folder: Path) -> None:
    """Takes away what dead workers left; a folder that is gone is nobody's trouble here."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.suffix in (BEAT, _PARTIAL) and path.stem.isdecimal() and not _alive(int(path.stem)):
                path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # somebody else's
    return True
