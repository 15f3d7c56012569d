"""Says whether a server is alive, and whether every worker is ready; made for people and for probes.

Flow: server.json -> /ping and the workers' states -> one line per model; exit code 1 when something is not well.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request

from servekit.cli import parser, run
from servekit.drain import draining
from servekit.paths import Trouble
from servekit.ports import listening
from servekit.server import DEFAULT_NAME
from servekit.state import ServerState, current_token, require_running, worker_states
from servekit.tls import trusting


def health(state: ServerState) -> str:
    """What the front end says of itself; raises `Trouble` when it does not answer."""
    request = urllib.request.Request(f"{state.http}/ping", headers={"Authorization": f"Bearer {current_token(state)}"})
    try:
        with urllib.request.urlopen(request, timeout=10, context=trusting(state.certificate)) as answer:
            return str(json.loads(answer.read())["status"])
    except (urllib.error.URLError, OSError, ValueError, KeyError) as error:
        raise Trouble(f"ping: got {error} from {state.http}, allowed an answer; see {state.logs}") from error


def ready(state: ServerState, said: str) -> bool:
    """Whether every worker is READY, gRPC is bound and the server is not about to stop; prints a line per model."""
    stopping = draining(state.name)
    host, _, port = state.grpc.rpartition(":")
    all_ready = not stopping and listening(host, int(port))
    for model in state.models:
        states = [str(worker.get("status")) for worker in worker_states(state, model)]
        all_ready &= bool(states) and set(states) == {"READY"}
        print(f"{model}: {said}, workers {', '.join(states) or 'none'}{', stopping' if stopping else ''}")
    return all_ready


def main() -> int:
    """The command line."""
    arguments = parser(
        "Ask a running server for its health: exit code 0 when it is ready, 1 when not.",
        "python scripts/ping.py --name default\n  python scripts/ping.py --alive",
    )
    arguments.add_argument("--name", default=DEFAULT_NAME, help="the server's name (default: %(default)s)")
    arguments.add_argument(
        "--alive", action="store_true", help="a liveness probe: 0 when Java answers, whatever its workers do"
    )
    given = arguments.parse_args()
    state = require_running(given.name)
    said = health(state)
    if given.alive:
        print(said)
        return 0
    return 0 if ready(state, said) else 1


if __name__ == "__main__":
    run(main)
