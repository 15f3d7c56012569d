"""Says whether a server is alive, and whether every worker is ready; made for people and for probes.

Flow: server.json -> the front's /ping and the workers' states -> one line per model; exit code 1 when something is not
well.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from servekit.cli import parser, run
from servekit.drain import draining
from servekit.paths import SetupError
from servekit.ports import listening
from servekit.server import DEFAULT_NAME
from servekit.state import ServerState, require_running, worker_states
from servekit.tls import trusting


def health(state: ServerState) -> dict[str, Any]:
    """What the front says: {"status": ..., "troubles": [...]}; raises `SetupError` when it does not answer."""
    try:
        try:
            answer = urllib.request.urlopen(f"{state.http}/ping", timeout=10, context=trusting(state.certificate))
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            said = json.loads(answer.read())
            return {"status": str(said["status"]), "troubles": list(said.get("troubles", []))}
    except (urllib.error.URLError, OSError, ValueError, KeyError, TypeError) as error:
        raise SetupError(f"ping: got {error} from {state.http}, expected an answer; see {state.logs}") from error


def ready(state: ServerState, said: dict[str, Any]) -> bool:
    """Whether every worker is READY and answers, gRPC is bound and no stop has begun; prints a line per model."""
    stopping = draining(state.name)
    host, _, port = state.grpc.rpartition(":")
    all_ready = not stopping and said["status"] == "Healthy" and listening(host, int(port))
    for model in state.models:
        states = [str(worker.get("status")) for worker in worker_states(state, model)]
        all_ready &= bool(states) and set(states) == {"READY"}
        silent = [trouble for trouble in said["troubles"] if trouble["model"] == model]
        words = "".join(f", {one['kind']} silent for {one['for_s']:.0f} s" for one in silent)
        stop = ", stopping" if stopping else ""
        print(f"{model}: {said['status']}, workers {', '.join(states) or 'none'}{words}{stop}")
    return all_ready


def main() -> int:
    """The command line."""
    arguments = parser(
        "Ask a running server for its health: exit code 0 when it is ready, 1 when not.",
        "python scripts/ping.py --name default\n  python scripts/ping.py --alive",
    )
    arguments.add_argument("--name", default=DEFAULT_NAME, help="the server's name (default: %(default)s)")
    arguments.add_argument(
        "--alive",
        action="store_true",
        help="a liveness probe: 0 when TorchServe answers and passes requests on, whatever its workers do",
    )
    given = arguments.parse_args()
    state = require_running(given.name)
    said = health(state)
    if given.alive:
        print(said["status"])
        stuck = any(trouble["kind"] == "server" for trouble in said["troubles"])
        return 1 if stuck or said["status"] == "Starting" else 0
    return 0 if ready(state, said) else 1


if __name__ == "__main__":
    run(main)
