"""One load, run so many times at a server as `make serve` starts it, with small requests beside it.

Flow: `Served` -> per run: small requests begin, the load is fired, the server is itself again -> `Run`s -> `Pressed`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from servekit.cli import say
from servekit.paths import ROOT
from servekit.state import ServerState
from stress.crowding.loads import LOADS
from stress.crowding.processes import Census, Others
from stress.crowding.replies import Seen
from stress.crowding.served import Served
from stress.drills.beside import Beside
from stress.drills.claims import PATIENT_LIMIT_S, Pressed, Run
from stress.drills.generator import generator
from stress.soaking.cases import Case
from stress.soaking.watch import ready_pids, seconds_until_ready

_BEFORE_S = 1.0
_AFTER_S = 3.0
_RECOVERY_S = 60.0
_STOPPED_S = 180.0
"""How long a stopped worker is waited for."""
_PING_EVERY_S = 10.0
_ENDLESS = ("console.log", "serve.log", "gate.log", "front.log")
Act = Callable[[ServerState], tuple[list[Seen], float, float]]
"""Does something to a server: what its senders saw, seconds it took, seconds of CPU of the sender."""


def press(name: str, model: str, case: Case, *, runs: int, share: float, descriptors: int | None = None) -> Pressed:
    """Runs a load of `LOADS`.

    Args:
        name: its name; model: what is served.
        case: the small request, with its truth.
        runs: how often.
        share: of the load's own count; 0.5 is what an unguarded server dies of.
        descriptors: as for `Served`.
    """
    load = LOADS[name]
    count = max(1, round(load.count * share))
    pressed = Pressed(name, load.words, count, load.ends)
    with Served(f"drill-{name.replace('_', '-')}-{os.getpid()}", model, descriptors) as served:
        served.ensure()
        with generator(name, served.name, count, case) as fires:

            def act(state: ServerState) -> tuple[list[Seen], float, float]:
                fired = fires.fire()
                return [Seen(*seen) for seen in fired["seen"]], fired["seconds"], fired["cpu_s"]

            for number in range(runs):
                pressed.runs.append(_run(served, case, act))
                say(f"{name}, run {number + 1} of {runs}: {_line(pressed.runs[-1])}")
    return pressed


def press_worker(model: str, case: Case, *, runs: int) -> Pressed:
    """SIGSTOP to the worker, which then holds its requests and says nothing; with the server's own settings."""

    def act(state: ServerState) -> tuple[list[Seen], float, float]:
        begin, [pid, *_] = time.monotonic(), ready_pids(state)
        os.kill(pid, signal.SIGSTOP)
        try:
            seconds_until_ready(state, pid, _STOPPED_S)
        finally:
            if Path(f"/proc/{pid}/stat").exists():
                os.kill(pid, signal.SIGCONT)
        return [], round(time.monotonic() - begin, 2), 0.0

    pressed = Pressed(
        "worker_stopped", "the worker stopped (SIGSTOP)", 1, "replies", workers_end=1, bare_limit_s=PATIENT_LIMIT_S
    )
    with Served(f"drill-stopped-{os.getpid()}", model) as served:
        for number in range(runs):
            pressed.runs.append(_run(served, case, act))
            say(f"worker_stopped, run {number + 1} of {runs}: {_line(pressed.runs[-1])}")
    return pressed


def _run(served: Served, case: Case, act: Act) -> Run:
    state = served.ensure()
    census, beside, pings = Census(served.pid), Beside(state, case), _Pings(state.name)
    others, before_bytes = Others(), _log_bytes(state)
    beside.start()
    for watcher in (census, pings):
        watcher.start()
    try:
        time.sleep(_BEFORE_S)
        seen, taken_s, cpu_s = act(state)
        begin = time.monotonic()
        time.sleep(_AFTER_S)
        recovered = served.answering(_RECOVERY_S)
        recovered_s = None if recovered is None else round(time.monotonic() - begin - _AFTER_S, 1)
    finally:
        answers = beside.stop()
        pings.stop()
        census.stop()
    ended, others_cores = census.ended(), others.cores()
    if recovered is None:
        served.stop()
    return Run(
        load=seen,
        load_s=taken_s,
        cpu_s=cpu_s,
        answers=answers,
        ended=ended,
        peaks_mb=census.peaks_mb(),
        left_mb=census.left_mb(),
        server_cpu_s=census.cpu_s(),
        recovered_s=recovered_s,
        log_bytes=max(0, _log_bytes(recovered or state) - before_bytes),
        pings=pings.codes,
        others_cores=others_cores,
    )


class _Pings(threading.Thread):
    """What `make ping` says, every ten seconds."""

    def __init__(self, name: str) -> None:
        super().__init__(daemon=True, name="pings")
        self._command = [sys.executable, str(ROOT / "scripts" / "ping.py"), "--name", name]
        self._done = threading.Event()
        self._begin = time.monotonic()
        self.codes: list[tuple[float, int]] = []

    def run(self) -> None:
        """Until `stop`."""
        while not self._done.wait(_PING_EVERY_S):
            at_s = round(time.monotonic() - self._begin, 1)
            code = subprocess.run(
                self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
            ).returncode
            self.codes.append((at_s, code))

    def stop(self) -> None:
        """Asks no more."""
        self._done.set()
        self.join()


def _log_bytes(state: ServerState) -> int:
    """Size of the logs that have no end of their own."""
    paths = [Path(state.logs) / name for name in _ENDLESS]
    return sum(path.stat().st_size for path in paths if path.exists())


def _line(run: Run) -> str:
    plain = run.plain()
    small = sum(not one.patient for one in run.answers)
    slowest = max((one.taken_s for one in run.answers if not one.patient), default=0.0)
    return (
        f"{plain['load']}, {small} small requests (slowest {slowest:g} s), ended {run.ended}, {run.load_s:g} s; "
        f"CPU {run.server_cpu_s}, others took {run.others_cores:g} cores"
    )
