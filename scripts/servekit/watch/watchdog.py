"""Ends what does not answer any more, so that it starts again: a stopped worker, a TorchServe that passes nothing on.

Flow: health.json of the front -> `Watchdog.look` -> SIGKILL to a worker, which TorchServe starts again, or to
TorchServe, which `serve.py` does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable

import psutil

from servekit.drain import duty_folder
from servekit.front.health import HEALTH_FILE
from servekit.state import ServerState, java_running

WORKER_S = 60.0
"""A worker that has shown no sign of life for so long is ended."""
STOPPED_S = 10.0
"""The same for one that the system says is stopped (SIGSTOP), which nothing but a signal ends."""
SERVER_S = 45.0
"""A TorchServe whose workers are idle while it has kept a request from them for so long is ended."""


class Watchdog:
    """The watchdog of one server.

    Args:
        state: the server.
        say: told of everything that is ended.
    """

    def __init__(self, state: ServerState, say: Callable[[str], None]) -> None:
        self._state = state
        self._say = say
        self._file = duty_folder(state.name) / HEALTH_FILE
        self._ended: set[int] = set()

    def look(self) -> None:
        """Ends what has been silent for too long."""
        try:
            troubles = json.loads(self._file.read_text("utf-8"))["troubles"]
        except (OSError, ValueError, KeyError, TypeError):
            return
        for trouble in troubles:
            if trouble["kind"] == "worker" and trouble["for_s"] > (STOPPED_S if _stopped(trouble["pid"]) else WORKER_S):
                self._end(int(trouble["pid"]), f"worker of {trouble['model']}", trouble["for_s"])
            if trouble["kind"] == "server" and trouble["for_s"] > SERVER_S and java_running(self._state.pid):
                self._end(self._state.pid, "TorchServe", trouble["for_s"])

    def _end(self, pid: int, what: str, silent_s: float) -> None:
        if pid in self._ended or not self._is_ours(pid):
            return
        self._ended.add(pid)
        self._say(f"{what} (pid {pid}): silent for {silent_s:.0f} s, ending it")
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)

    def _is_ours(self, pid: int) -> bool:
        """Whether this is Java itself or one of its workers, and not a later process that got the number."""
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            return pid == self._state.pid or self._state.pid in [parent.pid for parent in process.parents()]
        return False


def _stopped(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    return False
