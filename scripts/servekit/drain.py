"""Lets a server finish what it has accepted before it is stopped; TorchServe's own stop resets it.

Flow: how many requests wait -> `drain.json` for the workers (`llava_server.front.duty`), which refuse what comes
later with 503 -> every worker past what was accepted, or idle with nothing waiting -> the server may be stopped.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import psutil

from llava_wire.system.inner import BUSY, DRAIN_FILE, PAST
from llava_wire.system.replacing import replacing
from servekit.paths import SetupError, run_folder
from servekit.state import ServerState, call, current_token, worker_states

DUTY_FOLDER = "duty"
_SETTLE_S = 0.5
"""From a worker's last word to the last byte of a reply."""


def duty_folder(name: str) -> Path:
    """Where the workers of a server look for the end of their duty."""
    return run_folder(name) / DUTY_FOLDER


def draining(name: str) -> bool:
    """Whether a server takes no requests any more because it is about to stop."""
    return (duty_folder(name) / DRAIN_FILE).exists()


def drain_server(state: ServerState, grace_s: float) -> bool:
    """Ends the taking in of requests and waits for those that were accepted.

    Args:
        grace_s: seconds after which the rest is given up.

    Returns:
        whether everything that was accepted was answered.
    """
    folder = duty_folder(state.name)
    end = time.monotonic() + grace_s
    # Read first: what a worker takes from the queue meanwhile only widens what is let in.
    waiting = sum(waiting_requests(state, model) for model in state.models)
    try:
        with replacing(folder / DRAIN_FILE) as partial:
            partial.write_text(json.dumps({"waiting": waiting}) + "\n", encoding="utf-8")
    except OSError:
        return False
    while time.monotonic() < end:
        if all(_done(state, model, folder) for model in state.models):
            time.sleep(_SETTLE_S)
            return True
        time.sleep(0.1)
    return False


def _done(state: ServerState, model: str, folder: Path) -> bool:
    """Whether each worker of a model has refused something already, or the model is idle."""
    pids = [int(worker["pid"]) for worker in worker_states(state, model) if worker.get("status") == "READY"]
    if pids and all((folder / f"{pid}{PAST}").exists() for pid in pids):
        return True
    # By the marks, not by what the front end says of its workers: it says nothing to a key that is lost.
    busy = any(psutil.pid_exists(int(mark.stem)) for mark in folder.glob(f"*{BUSY}"))
    return not busy and waiting_requests(state, model) == 0


def waiting_requests(state: ServerState, model: str) -> int:
    """How many requests wait in a model's queue; 0 when the server does not say."""
    try:
        described = call(state, f"/models/{model}", current_token(state, "management"))
        return int(described[0]["jobQueueStatus"]["pendingRequests"])
    except (OSError, ValueError, KeyError, IndexError, TypeError, SetupError):
        return 0
