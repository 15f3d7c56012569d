"""Fires hostile requests at a real server, a fixed number from a seed, and judges every reply.

Flow: good cases with the engine's own answers -> a server of its own -> shots from several threads over HTTP and gRPC,
good requests among them -> counts by way in and outcome -> docs/benchmarks/fuzz.json. Exit code 1 for a process that
died, a hang, a wrong answer, memory that grows, or a reply that no document promises; `--only N` fires one shot again
and prints its reply.
"""

from __future__ import annotations

import json
import os
import platform
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from build_mar import build

from llava_viewer.client import Client
from llava_wire import decode, encode
from servekit.cli import parser, run, say
from servekit.paths import shown
from servekit.state import ServerState, worker_states
from stress.crowding.processes import Census
from stress.crowding.served import Served
from stress.fuzzing.judge import Verdict, judge
from stress.fuzzing.senders import Sender
from stress.fuzzing.shots import Shot, ShotMaker
from stress.soaking.cases import Case, difference, good_cases
from stress.soaking.memory import growth, levels

MODEL = "llava-shapes"
_KEPT_FAULTS = 100


class Range:
    """The shots of one seed at one server; outcomes are counted as they come.

    Args:
        state: the server.
        maker: makes the shots.
        good: cases with their truths; one is asked every `every` shots.
    """

    def __init__(self, state: ServerState, maker: ShotMaker, good: Sequence[Case], every: int) -> None:
        self._state, self._maker, self._good, self._every = state, maker, good, every
        self._lock = threading.Lock()
        self._local = threading.local()
        self._senders: list[Sender] = []
        self._clients: list[Client] = []
        self.outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        self.faults: list[str] = []
        self.fault_count = 0
        self.slowest_ms: list[tuple[float, int]] = []

    def fire(self, numbers: Sequence[int], threads: int) -> None:
        """Fires these shots from so many threads, and waits for every reply."""
        done = 0
        with ThreadPoolExecutor(threads, thread_name_prefix="stranger") as pool:
            for _ in pool.map(self._one, numbers):
                done += 1
                if done % 1000 == 0:
                    say(f"{done} of {len(numbers)}, {self.fault_count} faults")
        for sender in self._senders:
            sender.close()
        for client in self._clients:
            client.close()

    def _one(self, number: int) -> None:
        shot = self._maker.shot(number)
        sender = self._mine()
        reply = sender.send(shot)
        self._note(shot.way, judge(shot, reply), f"shot {number}")
        with self._lock:
            if reply.word == "reply":
                self.slowest_ms = sorted([*self.slowest_ms, (reply.taken_ms, number)], reverse=True)[:10]
        if self._every and number % self._every == 0:
            self._ask(self._good[number // self._every % len(self._good)], number)

    def _ask(self, case: Case, number: int) -> None:
        client: Client = self._local.grpc if number // self._every % 2 else self._local.http
        image, prompt = case.fields["image"], case.fields.get("prompt", b"").decode()
        try:
            if "record" in case.fields:
                given = decode(case.fields["record"])
                record = client.replay(given, case.options, image=image, keep_picture=False)
            else:
                record = client.predict(image, prompt, case.options, keep_picture=False)
            assert case.truth is not None
            wrong = difference(record, case.truth)
        except Exception as error:
            wrong = f"got {error!r}, expected the answer"
        self._note("good", Verdict("wrong" if wrong else "right", wrong), f"good request ({case.name}) at {number}")

    def _mine(self) -> Sender:
        """This thread's sender and clients."""
        if not hasattr(self._local, "sender"):
            key = Path(self._state.key_file)
            self._local.sender = Sender(self._state)
            self._local.http = Client.http(self._state.http, model=MODEL, token=key)
            self._local.grpc = Client.grpc(self._state.grpc, model=MODEL, token=key)
            with self._lock:
                self._senders.append(self._local.sender)
                self._clients += [self._local.http, self._local.grpc]
        sender: Sender = self._local.sender
        return sender

    def _note(self, way: str, verdict: Verdict, what: str) -> None:
        with self._lock:
            self.outcomes[way][verdict.outcome] += 1
            if verdict.fault:
                self.fault_count += 1
                if len(self.faults) < _KEPT_FAULTS:
                    self.faults.append(f"{what}, {way}: {verdict.fault}")


def workers(state: ServerState) -> list[int]:
    """The pids of the workers that are ready."""
    return [worker["pid"] for worker in worker_states(state, MODEL) if worker["status"] == "READY"]


def deaths(state: ServerState) -> int:
    """How often a worker ended, by the server's log."""
    text = (Path(state.logs) / "ts_log.log").read_text(encoding="utf-8", errors="replace")
    return text.count("Worker died") + text.count("Backend worker process died")


def fuzz(
    state: ServerState, seed: int, first: int, count: int, threads: int, every: int, root: int | None = None
) -> dict[str, Any]:
    """Fires the shots and gives the figures; the processes below `root` (this one by default) are the server's."""
    good = [case for case in good_cases(seed, 16) if case.name != "long"]
    truth = next(case.truth for case in good if case.truth is not None)
    maker = ShotMaker(seed, MODEL, encode(truth))
    before, deaths_before, begin = workers(state), deaths(state), time.monotonic()
    shooting = Range(state, maker, good, every)
    order = list(range(first, first + count))
    random.Random(f"order {seed}").shuffle(order)
    census = Census(root or os.getpid(), every_s=2.0)
    census.start()
    shooting.fire(order, threads)
    census.stop()
    after = workers(state)
    return {
        "seed": seed,
        "first": first,
        "requests": count,
        "good_requests": sum(shooting.outcomes["good"].values()),
        "threads": threads,
        "seconds": round(time.monotonic() - begin, 1),
        "worker_deaths": deaths(state) - deaths_before,
        "same_workers": before == after,
        "ended": census.ended(),
        "levels": levels(census.samples),
        "hung": sum(counts["hung"] for counts in shooting.outcomes.values()),
        "faults": shooting.fault_count,
        "outcomes": {way: dict(counts.most_common()) for way, counts in sorted(shooting.outcomes.items())},
        "slowest_ms": [{"shot": number, "ms": ms} for ms, number in shooting.slowest_ms],
        "what": shooting.faults,
    }


def again(state: ServerState, seed: int, number: int) -> Shot:
    """Fires one shot and prints what it was and what came back."""
    truth = next(case.truth for case in good_cases(seed, 1) if case.truth is not None)
    shot = ShotMaker(seed, MODEL, encode(truth)).shot(number)
    sender = Sender(state)
    reply = sender.send(shot)
    sender.close()
    print(shot, shot.body[:3000], reply, reply.body[:3000], judge(shot, reply), sep="\n")
    return shot


def main() -> int:
    """The command line."""
    options = parser("Fire hostile requests at a real server and judge every reply.", "python -m stress.fuzz")
    options.add_argument("--requests", type=int, default=20_000, help="hostile ones (default: %(default)d)")
    options.add_argument("--first", type=int, default=0, help="number of the first (default: %(default)d)")
    options.add_argument("--seed", type=int, default=1, help="(default: %(default)d)")
    options.add_argument("--threads", type=int, default=8, help="at once (default: %(default)d)")
    options.add_argument("--every", type=int, default=40, help="a good request every so many (default: %(default)d)")
    options.add_argument("--only", type=int, help="fire this shot alone and print it")
    options.add_argument("--out", type=Path, help="where the figures go as JSON")
    arguments = options.parse_args()
    build(MODEL)
    with Served(f"fuzz-{os.getpid()}", MODEL) as served:
        state = served.ensure()
        if arguments.only is not None:
            again(state, arguments.seed, arguments.only)
            return 0
        figures = fuzz(
            state, arguments.seed, arguments.first, arguments.requests, arguments.threads, arguments.every, served.pid
        )
    figures = {"machine": f"{platform.machine()}, {os.cpu_count()} CPUs", "model": MODEL, **figures}
    print(json.dumps(figures, indent=1, ensure_ascii=False))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        say(f"written: {shown(arguments.out)}")
    grown = growth(figures["levels"], figures["seconds"] / 60)
    for line in grown:
        say(line)
    sound = not figures["faults"] and not figures["worker_deaths"] and figures["same_workers"]
    return 0 if sound and not any(figures["ended"].values()) and not grown else 1


if __name__ == "__main__":
    run(main)
