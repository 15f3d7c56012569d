"""Says whether a server is up and every worker ready.

Flow: server.json -> /ping and the workers' states -> one line per model; exit code 1 when one is not ready.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request

from servekit.cli import parser, run
from servekit.paths import Trouble
from servekit.server import DEFAULT_NAME
from servekit.state import current_token, require_running, worker_states


def main() -> int:
    """The command line."""
    arguments = parser("Ask a running server for its health.", "python scripts/ping.py --name default")
    arguments.add_argument("--name", default=DEFAULT_NAME, help="the server's name (default: %(default)s)")
    state = require_running(arguments.parse_args().name)
    request = urllib.request.Request(f"{state.http}/ping", headers={"Authorization": f"Bearer {current_token(state)}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            health = json.loads(answer.read())["status"]
    except (urllib.error.URLError, OSError, ValueError, KeyError) as error:
        raise Trouble(f"ping: got {error} from {state.http}, allowed an answer; see {state.logs}") from error
    all_ready = True
    for model in state.models:
        states = [str(worker.get("status")) for worker in worker_states(state, model)]
        all_ready &= bool(states) and set(states) == {"READY"}
        print(f"{model}: {health}, workers {', '.join(states) or 'none'}")
    return 0 if all_ready else 1


if __name__ == "__main__":
    run(main)
