"""The command `serve.py` as a user runs it, for a server of this process's own name, and what a server leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from servekit.drain import duty_folder
from servekit.paths import ROOT, run_folder
from servekit.state import ServerState, read_state

NAME = f"test-cli-{os.getpid()}"
SERVE = [sys.executable, str(ROOT / "scripts" / "serve.py")]


def started_in_the_background(*more: str) -> ServerState:
    """A server of this name that is ready; `more` are further arguments."""
    command = [*SERVE, "llava-shapes", "--no-build", "--background", "--ports", "auto", "--name", NAME, *more]
    subprocess.run(command, capture_output=True, timeout=300, check=True)
    state = read_state(NAME)
    assert state is not None
    return state


def until_busy() -> None:
    """Waits until a worker of this server has a batch."""
    while not any(path.suffix == ".busy" for path in duty_folder(NAME).iterdir()):
        time.sleep(0.01)


def processes(state: ServerState) -> list[list[str]]:
    """Command lines that belong to this server: Java and what started it, the front, workers."""
    marks = (state.scratch, f"{run_folder(state.name)}/")
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(mark in line for mark in marks):
            found.append(process.info["cmdline"])
    return found


def gone(state: ServerState) -> bool:
    """No process, no scratch folder, no keys and no server.json remain."""
    end = time.monotonic() + 10
    while processes(state) and time.monotonic() < end:
        time.sleep(0.2)
    left = [Path(state.scratch), Path(state.key_file), state.file]
    return not processes(state) and not any(path.exists() for path in left)
