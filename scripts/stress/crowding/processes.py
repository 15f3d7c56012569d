"""The processes of a server, by what they are: which ended, and how much memory each kind took.

Flow: the pid of `serve.py` -> its descendants, sampled -> deaths, memory and open files by kind.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Literal

import psutil

from servekit.state import JAVA_CLASS

Kind = Literal["java", "front", "worker"]
KINDS: tuple[Kind, ...] = ("java", "front", "worker")
_FRONTS = ("servekit.front", "servekit.gate")
_WORKER = "model_service_worker.py"
_AGE_S = 1.0


def kind_of(command: list[str]) -> Kind | None:
    """What a command line is; None for launchers, for what decodes phones' pictures, and for anything else."""
    if JAVA_CLASS in command:
        return "java"
    if any(_WORKER in argument for argument in command):
        return "worker"
    if any(argument == front or argument.startswith(f"{front}.") for argument in command for front in _FRONTS):
        return "front"
    return None


class Others:
    """How many cores processes that are neither this one nor below it take, from now on."""

    def __init__(self) -> None:
        self._begin, self._before_s = time.monotonic(), _others_s()

    def cores(self) -> float:
        """The mean until now."""
        return round(max(0.0, _others_s() - self._before_s) / (time.monotonic() - self._begin), 2)


class Census(threading.Thread):
    """Samples the processes below one pid, and itself, until it is stopped.

    Args:
        root: the pid, such as that of `serve.py`.
        every_s: seconds between two samples.
        logs: a folder whose size is sampled too.
    """

    def __init__(self, root: int, *, every_s: float = 0.5, logs: Path | None = None) -> None:
        super().__init__(daemon=True, name="census")
        self._root, self._every_s, self._logs = root, every_s, logs
        self._done = threading.Event()
        self._begin = time.monotonic()
        self._known: dict[psutil.Process, Kind] = {}
        self._cpu_s: dict[psutil.Process, tuple[float, float]] = {}
        self.samples: list[dict[str, float]] = []

    def run(self) -> None:
        """Until `stop`."""
        self._sample()
        while not self._done.wait(self._every_s):
            self._sample()

    def stop(self) -> None:
        """Ends the sampling, with one more sample."""
        self._done.set()
        self.join()
        self._sample()

    def ended(self) -> dict[str, int]:
        """How many processes of each kind were seen and are gone."""
        gone: dict[str, int] = dict.fromkeys(KINDS, 0)
        for process, kind in list(self._known.items()):
            gone[kind] += not _runs(process)
        return gone

    def peaks_mb(self) -> dict[str, float]:
        """The most resident memory of each kind, in MB."""
        return {kind: max((sample[f"{kind}_mb"] for sample in self.samples), default=0.0) for kind in KINDS}

    def cpu_s(self) -> dict[str, float]:
        """Seconds of CPU that each kind has taken between the first and the last sample."""
        taken = dict.fromkeys(KINDS, 0.0)
        for process, (first_s, last_s) in self._cpu_s.items():
            taken[self._known[process]] += last_s - first_s
        return {kind: round(seconds, 2) for kind, seconds in taken.items()}

    def left_mb(self) -> dict[str, float]:
        """The resident memory of each kind in the last sample, in MB."""
        return {kind: self.samples[-1][f"{kind}_mb"] if self.samples else 0.0 for kind in KINDS}

    def _sample(self) -> None:
        """Resident memory in MB and open files of each kind."""
        sample = {"at_s": round(time.monotonic() - self._begin, 1)}
        sample |= {f"{kind}_{what}": 0 for kind in KINDS for what in ("mb", "files")}
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                kind = kind_of(process.cmdline())
                # One that has just been forked still has its parent's command line.
                if kind is not None and time.time() - process.create_time() > _AGE_S:
                    self._known[process] = kind
                    now_s = sum(process.cpu_times()[:2])
                    self._cpu_s[process] = (self._cpu_s.get(process, (now_s, now_s))[0], now_s)
                    sample[f"{kind}_mb"] += round(process.memory_info().rss / 1e6, 1)
                    sample[f"{kind}_files"] += process.num_fds()
        if self._logs is not None:
            with contextlib.suppress(OSError):
                sample["logs_mb"] = round(sum(path.stat().st_size for path in self._logs.iterdir()) / 1e6, 3)
        self.samples.append(sample)

    def _processes(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self._root)
            return [process, *process.children(recursive=True)]
        return []


def _others_s() -> float:
    """Seconds of CPU that everything else on the machine has taken."""
    machine, own_s = psutil.cpu_times(), 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            # Those that have ended are in the times of whoever waited for them.
            own_s += sum(process.cpu_times()[:4])
    return float(machine.user + machine.nice + machine.system + machine.irq + machine.softirq - own_s)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
