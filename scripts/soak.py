"""Keeps a real server under mixed fire for a while and judges every answer.

Flow: cases with the engine's own answers -> a server of its own -> requests at random moments over both transports,
workers killed meanwhile -> counts of outcomes, memory over time -> docs/benchmarks/soak.json; exit code 1 for any wrong
answer, any hung request and any worker that did not come back.
"""

from __future__ import annotations

import json
import os
import platform
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from build_mar import build
from servekit.cli import parser, run, say
from servekit.paths import shown
from servekit.server import ServerHandle, start_server

from soaking.cases import Case, bad_cases, good_cases
from soaking.ledger import HUNG, WRONG, Ledger
from soaking.revision import commit
from soaking.senders import Outcome, Senders
from soaking.watch import Killer, Watch

MODEL = "llava-shapes"
_THREADS = 48
_SHARES = {
    "good": 30, "patient": 16, "streaming": 14, "bad": 20, "hurried": 7, "dribbling": 4, "leaving": 5, "breaking": 4,
}  # fmt: skip
"""How often each kind of request is sent, in percent."""
Send = Callable[[Case, str, random.Random], Outcome]


class Fire:
    """The stream of requests: at random moments, `rate` a second on average.

    Args:
        senders: ways to the server.
        good, bad: the cases to draw from.
        ledger: where outcomes go.
        rng: decides moments, kinds, cases and transports.
    """

    def __init__(
        self, senders: Senders, good: Sequence[Case], bad: Sequence[Case], ledger: Ledger, rng: random.Random
    ) -> None:
        self._senders, self._good, self._bad, self._ledger, self._rng = senders, good, bad, ledger, rng
        self._long = [case for case in good if case.name == "long"]
        # Beams, replays and means over all steps are no streams, and beams cut short by a deadline are other beams.
        self._plain = [case for case in good if case.streams]

    def run(self, seconds: float, rate: float) -> None:
        """Sends for so long, then waits for every answer."""
        end = time.monotonic() + seconds
        said = time.monotonic()
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="sender") as pool:
            while time.monotonic() < end:
                pool.submit(self._one, *self._draw())
                time.sleep(self._rng.expovariate(rate))
                if time.monotonic() - said > 60:
                    said = time.monotonic()
                    say(f"{(end - said) / 60:.0f} minutes left: {self._ledger.line()}")

    def _draw(self) -> tuple[str, Case, str, int]:
        kind = self._rng.choices(list(_SHARES), list(_SHARES.values()))[0]
        pool = {
            "bad": self._bad,
            "hurried": [*self._plain, *self._long * len(self._plain)],
            "streaming": self._plain,
            "breaking": [*self._plain, *self._long * len(self._plain)],
        }.get(kind, self._good)
        http_only = kind in ("dribbling", "streaming", "breaking")
        way = "http" if http_only else self._rng.choice(("http", "grpc"))
        return kind, self._rng.choice(pool), way, self._rng.getrandbits(32)

    def _one(self, kind: str, case: Case, way: str, seed: int) -> None:
        send: Send = getattr(self._senders, kind)
        begin = time.monotonic()
        try:
            outcome = send(case, way, random.Random(seed))
        except Exception as error:
            outcome = Outcome(WRONG, f"{case.name}: got {error!r}, allowed an answer or a RequestError")
        self._ledger.add(kind, way, outcome.word, (time.monotonic() - begin) * 1000, outcome.detail)


def soak(server: ServerHandle, good: Sequence[Case], arguments: Any) -> dict[str, Any]:
    """Puts the server under fire and gives the figures."""
    rng = random.Random(f"fire {arguments.seed}")
    ledger, senders = Ledger(), Senders(server.state, MODEL)
    watch = Watch(server.state, every_s=max(2.0, arguments.minutes * 60 / 120))
    killer = Killer(server.state, arguments.kill_every, random.Random(f"killer {arguments.seed}"))
    watch.start()
    if arguments.kill_every > 0:
        killer.start()
    begin = time.monotonic()
    Fire(senders, good, bad_cases(good), ledger, rng).run(arguments.minutes * 60, arguments.rate)
    if killer.ident is not None:
        killer.stop()
    watch.stop()
    senders.close()
    summary = ledger.summary()
    return {
        "minutes": round((time.monotonic() - begin) / 60, 2),
        "requests_per_second": arguments.rate,
        "seed": arguments.seed,
        "wrong": ledger.count(WRONG),
        "hung": ledger.count(HUNG),
        **summary,
        "kills": killer.kills,
        "samples": watch.samples,
    }


def main() -> int:
    """The command line."""
    options = parser("Keep a server under mixed fire and judge every answer.", "python scripts/soak.py --minutes 60")
    options.add_argument("--minutes", type=float, default=5.0, help="(default: %(default)g)")
    options.add_argument("--rate", type=float, default=2.5, help="requests a second, on average (default: %(default)g)")
    options.add_argument(
        "--kill-every", type=float, default=150.0, help="mean seconds between kills of a worker; 0: never"
    )
    options.add_argument("--seed", type=int, default=1, help="(default: %(default)d)")
    options.add_argument("--cases", type=int, default=48, help="different good requests (default: %(default)d)")
    options.add_argument("--out", type=Path, help="where the figures go as JSON")
    arguments = options.parse_args()
    build(MODEL)
    revision = commit()
    say(f"asking the engine itself for {arguments.cases} answers")
    good = good_cases(arguments.seed, arguments.cases)
    with start_server([MODEL], name=f"soak-{os.getpid()}", ports="auto", progress=say) as server:
        figures = {
            "commit": revision,
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
            **soak(server, good, arguments),
        }
    lost = [kill for kill in figures["kills"] if kill["ready_again_s"] is None]
    say(f"sent {figures['sent']}, wrong {figures['wrong']}, hung {figures['hung']}, kills {len(figures['kills'])}")
    for detail in figures["details"]:
        say(detail)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        print(shown(arguments.out.resolve()))
    else:
        print(json.dumps(figures["outcomes"], indent=1))
    return 1 if figures["wrong"] or figures["hung"] or lost else 0


if __name__ == "__main__":
    run(main)
