"""What happens to the server during a soak: workers killed at random.

Flow: a running server -> SIGKILL to a worker now and then, seconds until it is READY again.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from typing import Any

from servekit.state import ServerState, worker_states

RECOVERY_S = 120.0


class Killer(threading.Thread):
    """Kills a worker at random moments and measures how long it takes to come back.

    Args:
        every_s: mean time between two kills; the next one waits until the worker is back.
        rng: decides the moments.
    """

    def __init__(self, state: ServerState, every_s: float, rng: random.Random) -> None:
        super().__init__(daemon=True, name="killer")
        self._state, self._every_s, self._rng = state, every_s, rng
        self._done = threading.Event()
        self._begin = time.monotonic()
        self.kills: list[dict[str, Any]] = []

    def run(self) -> None:
        """Until `stop`."""
        while not self._done.wait(self._rng.expovariate(1 / self._every_s)):
            pids = ready_pids(self._state)
            if not pids:
                continue
            pid, moment = self._rng.choice(pids), time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            back_s = seconds_until_ready(self._state, pid, RECOVERY_S)
            self.kills.append({"at_s": round(moment - self._begin, 1), "ready_again_s": back_s})

    def stop(self) -> None:
        """Ends the killing; a recovery that is under way is measured to its end."""
        self._done.set()
        self.join()


def ready_pids(state: ServerState) -> list[int]:
    """Process ids of the READY workers of every model."""
    workers = [worker for model in state.models for worker in worker_states(state, model)]
    return [int(worker["pid"]) for worker in workers if worker["status"] == "READY"]


def seconds_until_ready(state: ServerState, without: int, timeout_s: float) -> float | None:
    """Seconds until a worker is READY that is not the process `without`; None when that takes longer than allowed."""
    begin = time.monotonic()
    while time.monotonic() - begin < timeout_s:
        pids = ready_pids(state)
        if pids and without not in pids:
            return round(time.monotonic() - begin, 1)
        time.sleep(0.25)
    return None
