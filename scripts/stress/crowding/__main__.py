"""One load as a process of its own, so that what is measured beside it does not wait for it.

Flow: arguments -> "ready" on stdout -> for every line on stdin one run -> one JSON line: what each sender saw, seconds
of the run, seconds of CPU of this process. Example: python -m stress.crowding large_json --server default
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from servekit.cli import run
from servekit.paths import SetupError
from servekit.state import ServerState, current_token, read_state
from stress.crowding.loads import LOADS, Material, Target


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("load", choices=sorted(LOADS))
    parser.add_argument("--server", required=True, help="the name of one of this checkout's servers")
    parser.add_argument("--count", type=int, help="how many at once (default: of the load)")
    parser.add_argument("--picture", type=Path, help="a small picture, for replays")
    parser.add_argument("--record", type=Path, help="the record of a question about it")
    given = parser.parse_args()
    load = LOADS[given.load]
    picture, record = (path.read_bytes() if path else b"" for path in (given.picture, given.record))
    fire = load.prepare(Material(_state(given.server).models[0], picture, record))
    print("ready", flush=True)
    for _ in sys.stdin:
        state = _state(given.server)
        begin, cpu = time.monotonic(), time.process_time()
        seen = fire(Target(state.http, state.grpc, current_token(state)), given.count or load.count)
        taken = {"seconds": round(time.monotonic() - begin, 2), "cpu_s": round(time.process_time() - cpu, 2)}
        print(json.dumps({"seen": seen, **taken}), flush=True)
    return 0


def _state(name: str) -> ServerState:
    state = read_state(name)
    if state is None:
        raise SetupError(f"server {name!r}: got none, expected one that runs; start it")
    return state


if __name__ == "__main__":
    run(main)
