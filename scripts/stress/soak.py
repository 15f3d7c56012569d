"""Keeps a real server under mixed fire for a while and judges every answer.

Flow: cases with the engine's own answers -> a server of its own, as `make serve` starts it -> requests at random times
over both transports, heavy and unfriendly ones among them, workers killed meanwhile -> counts of outcomes, memory over
time -> docs/benchmarks/soak.json; exit code 1 for any wrong answer, any hung request, any process that ended without
being killed, any worker that did not come back, and memory or open files that grow.
"""

from __future__ import annotations

import json
import os
import platform
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from build_mar import build

from servekit.cli import parser, run, say
from servekit.paths import shown
from stress.crowding.processes import Census
from stress.crowding.served import Served
from stress.soaking.cases import Case, bad_cases, good_cases
from stress.soaking.heavy import HeavySenders, large_case
from stress.soaking.ledger import HUNG, WRONG, Ledger
from stress.soaking.memory import growth, levels
from stress.soaking.revision import commit
from stress.soaking.senders import Outcome, Senders
from stress.soaking.watch import Killer

MODEL = "llava-shapes"
_THREADS = 48
_SHARES = {
    "good": 28, "patient": 15, "streaming": 13, "bad": 17, "hurried": 6, "dribbling": 4, "leaving": 4, "breaking": 3,
    "large": 4, "crowded": 2, "crafted": 2, "holding": 2,
}  # fmt: skip
"""How often each kind of request is sent, in percent."""
Send = Callable[[Case, str, random.Random], Outcome]


class Fire:
    """The stream of requests: at random moments, `rate` a second on average.

    Args:
        senders: ways to the server; each kind of request is a method of one of them.
        good, bad: the cases to draw from; large: that of a large picture.
        ledger: where outcomes go.
        rng: decides moments, kinds, cases and transports.
    """

    def __init__(
        self,
        senders: Sequence[object],
        good: Sequence[Case],
        bad: Sequence[Case],
        large: Case,
        ledger: Ledger,
        rng: random.Random,
    ) -> None:
        self._senders, self._good, self._ledger, self._rng = senders, good, ledger, rng
        # Beams, replays and means over all steps are no streams, and beams cut short by a deadline are other beams.
        plain = [case for case in good if case.streams]
        # So often that hurried and broken requests meet an answer that is still being written.
        long = [case for case in good if case.name == "long"] * len(plain)
        self._pools = {
            "bad": bad,
            "hurried": [*plain, *long],
            "streaming": plain,
            "breaking": [*plain, *long],
            "large": [large],
            "crafted": plain,
        }

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
        pool = self._pools.get(kind, self._good)
        http_only = kind in ("dribbling", "streaming", "breaking")
        way = "http" if http_only else self._rng.choice(("http", "grpc"))
        return kind, self._rng.choice(pool), way, self._rng.getrandbits(32)

    def _one(self, kind: str, case: Case, way: str, seed: int) -> None:
        send: Send = next(getattr(one, kind) for one in self._senders if hasattr(one, kind))
        begin = time.monotonic()
        try:
            outcome = send(case, way, random.Random(seed))
        except Exception as error:
            outcome = Outcome(WRONG, f"{case.name}: got {error!r}, expected an answer or a RequestError")
        self._ledger.add(kind, way, outcome.word, (time.monotonic() - begin) * 1000, outcome.detail)


def soak(served: Served, good: Sequence[Case], large: Case, arguments: Any) -> dict[str, Any]:
    """Loads the server and gives the numbers."""
    state = served.ensure()
    rng = random.Random(f"fire {arguments.seed}")
    ledger, senders = Ledger(), Senders(state, MODEL)
    heavy = HeavySenders(state, MODEL, senders.transports, senders.plain)
    census = Census(served.pid, every_s=max(2.0, arguments.minutes * 60 / 120), logs=Path(state.logs))
    killer = Killer(state, arguments.kill_every, random.Random(f"killer {arguments.seed}"))
    census.start()
    if arguments.kill_every > 0:
        killer.start()
    begin = time.monotonic()
    fire = Fire((senders, heavy), good, bad_cases(good), large, ledger, rng)
    fire.run(arguments.minutes * 60, arguments.rate)
    if killer.ident is not None:
        killer.stop()
    census.stop()
    heavy.close()
    senders.close()
    figures = {
        "minutes": round((time.monotonic() - begin) / 60, 2),
        "requests_per_second": arguments.rate,
        "seed": arguments.seed,
        "wrong": ledger.count(WRONG),
        "hung": ledger.count(HUNG),
        **ledger.summary(),
        "kills": killer.kills,
        "ended": census.ended(),
        "levels": levels(census.samples),
        "samples": census.samples,
    }
    return {"failures": failures(figures), **figures}


def failures(figures: Mapping[str, Any]) -> list[str]:
    """What a soak must not show, one line each."""
    found = [f"{what}: got {figures[what]} requests, expected none" for what in ("wrong", "hung") if figures[what]]
    lost = sum(kill["ready_again_s"] is None for kill in figures["kills"])
    if lost:
        found.append(f"kills: got {lost} without a ready worker afterwards, expected none")
    for kind, most in (("java", 0), ("front", 0), ("worker", len(figures["kills"]))):
        if figures["ended"][kind] > most:
            found.append(f"{kind}: got {figures['ended'][kind]} that ended, expected {most}")
    return found + growth(figures["levels"], figures["minutes"])


def main() -> int:
    """The command line."""
    options = parser("Keep a server under mixed fire and judge every answer.", "python -m stress.soak --minutes 60")
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
    large = large_case(arguments.seed)
    with Served(f"soak-{os.getpid()}", MODEL) as served:
        figures = {
            "commit": revision,
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
            **soak(served, good, large, arguments),
        }
    say(f"sent {figures['sent']}, wrong {figures['wrong']}, hung {figures['hung']}, kills {len(figures['kills'])}")
    for detail in figures["details"]:
        say(detail)
    for line in figures["failures"]:
        say(line)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        print(shown(arguments.out.resolve()))
    else:
        print(json.dumps(figures["outcomes"], indent=1))
    return 1 if figures["failures"] else 0


if __name__ == "__main__":
    run(main)
