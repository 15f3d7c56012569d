"""What must hold under every load, and whether it did.

Flow: the raw numbers of all runs of one load -> `Pressed` -> `failures`: one line for each claim that does not hold.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from stress.crowding.loads import Ends
from stress.crowding.replies import LEFT_OPEN, Seen, in_words, turned_away
from stress.drills.beside import RETRY_S, RIGHT, Answer

BARE_LIMIT_S = 5.0
"""A small request is answered, or sent away with a time to come again, within this."""
DIED = ("500", "507", "INTERNAL", "RESOURCE_EXHAUSTED")
"""TorchServe's words for a request whose worker died, the last without a time to come again; allowed where the load
itself ends workers."""
PATIENT_LIMIT_S = RETRY_S
PATIENT_SHARE = 0.95
SILENCE_S = 60.0
"""For so long nobody may have been answered while `make ping` says READY."""
_SOON_S = 10.0
LOG_BYTES = 1 << 20
"""So much the logs without an end may grow in all runs of a load together."""

_ENDS: dict[Ends, str] = {
    "replies": "answers, and refusals that say what is wrong or when to come again",
    "closed": "connections that the server closes in time",
}

MEMORY_MB: dict[str, float] = {"java": 2560.0, "front": 1024.0, "worker": 2048.0}
"""The most resident memory: Java's heap and direct memory are 1 GiB each, the others have no bound but this."""


@dataclass
class Run:
    """One run of a load.

    Args:
        load: what each of its senders saw.
        load_s, cpu_s: seconds that the load took, and of CPU that its process took.
        answers: the small requests beside it.
        ended: how many processes ended, by kind.
        peaks_mb, left_mb: the most resident memory, and that at the end, by kind.
        recovered_s: seconds after the load until the model answered over both transports; None when it did not.
        log_bytes: by how much the logs without an end grew.
        server_cpu_s: seconds of CPU that the server took, by kind.
        pings: seconds from the start and the exit code of `make ping`.
        others_cores: how many cores everything else on the machine took meanwhile.
    """

    load: list[Seen] = field(default_factory=list)
    load_s: float = 0.0
    cpu_s: float = 0.0
    answers: list[Answer] = field(default_factory=list)
    ended: dict[str, int] = field(default_factory=dict)
    peaks_mb: dict[str, float] = field(default_factory=dict)
    left_mb: dict[str, float] = field(default_factory=dict)
    server_cpu_s: dict[str, float] = field(default_factory=dict)
    recovered_s: float | None = 0.0
    log_bytes: int = 0
    pings: list[tuple[float, int]] = field(default_factory=list)
    others_cores: float = 0.0

    def plain(self) -> dict[str, Any]:
        """For JSON: raw, but for the many senders of a load, which are counted by word with their slowest."""
        slowest: dict[str, float] = {}
        for seen in self.load:
            slowest[seen.word] = max(seen.taken_s, slowest.get(seen.word, 0.0))
        return {
            **asdict(self),
            "load": {word: {"count": count, "slowest_s": slowest[word]} for word, count in words(self.load).items()},
            "answers": [[one.at_s, one.taken_s, one.way, one.word, one.patient] for one in self.answers],
        }


@dataclass
class Pressed:
    """All runs of one load.

    Args:
        name, words: of the load, with its count.
        count: how many at once.
        ends: what each sender must come to.
        runs: what was measured.
        workers_end: how many workers a run may cost; the load's own deed may be one.
        bare_limit_s: within this a small request is answered or sent away; longer only where the load's deed holds up
            requests that a worker already has.
    """

    name: str
    words: str
    count: int
    ends: Ends
    runs: list[Run] = field(default_factory=list)
    workers_end: int = 0
    bare_limit_s: float = BARE_LIMIT_S

    def answers(self, *, patient: bool) -> list[Answer]:
        """The small requests of all runs."""
        return [one for run in self.runs for one in run.answers if one.patient is patient]

    def load(self) -> dict[str, int]:
        """What the load's senders saw in all runs."""
        return dict(words([seen for run in self.runs for seen in run.load]))

    def within(self) -> int:
        """How many requests of clients that send again were answered rightly and in time."""
        return sum(one.word == RIGHT and one.taken_s <= PATIENT_LIMIT_S for one in self.answers(patient=True))

    def ended(self) -> dict[str, int]:
        """Processes that ended in all runs, by kind."""
        total: Counter[str] = Counter()
        for run in self.runs:
            total.update(run.ended)
        return dict(total)

    def peaks_mb(self) -> dict[str, float]:
        """The most resident memory in any run, by kind."""
        return {kind: max(run.peaks_mb.get(kind, 0.0) for run in self.runs) for kind in MEMORY_MB}

    def plain(self) -> dict[str, Any]:
        """For JSON and the table."""
        bare, patient = self.answers(patient=False), self.answers(patient=True)
        return {
            "name": self.name,
            "words": self.words.format(count=self.count),
            "count": self.count,
            "runs": len(self.runs),
            "failures": failures(self),
            "load": self.load(),
            "bare": dict(Counter(one.word for one in bare).most_common()),
            "bare_slowest_s": max((one.taken_s for one in bare), default=0.0),
            "patient_asked": len(patient),
            "patient_within": self.within(),
            "patient": dict(Counter(one.word for one in patient).most_common()),
            "patient_slowest_s": max((one.taken_s for one in patient), default=0.0),
            "ended": self.ended(),
            "peaks_mb": self.peaks_mb(),
            "server_cpu_s": [run.server_cpu_s for run in self.runs],
            "log_bytes": sum(run.log_bytes for run in self.runs),
            "others_cores": round(statistics.mean(run.others_cores for run in self.runs), 2),
            "raw": [run.plain() for run in self.runs],
        }


def words(seen: Sequence[Seen]) -> Counter[str]:
    """How many senders saw what, most first."""
    return Counter(dict(Counter(one.word for one in seen).most_common()))


def failures(pressed: Pressed) -> list[str]:
    """The claims that do not hold, one line each; empty when all do."""
    found = []
    ended = pressed.ended()
    for kind, most in (("java", 0), ("front", 0), ("worker", pressed.workers_end * len(pressed.runs))):
        if ended.get(kind, 0) > most:
            found.append(f"{kind}: got {ended[kind]} that ended in {len(pressed.runs)} runs, expected {most}")
    bare = pressed.answers(patient=False)
    lost = DIED if pressed.workers_end else ()
    late = [
        one
        for one in bare
        if one.taken_s > pressed.bare_limit_s or not (one.word in (RIGHT, *lost) or turned_away(one.word))
    ]
    if late:
        saw = ", ".join(f"{count} {word}" for word, count in Counter(one.word for one in late).most_common(4))
        found.append(
            f"small requests: got {len(late)} of {len(bare)} late or without an answer (slowest "
            f"{max(one.taken_s for one in late):g} s; {saw}), expected an answer or 503 with Retry-After in "
            f"{pressed.bare_limit_s:g} s"
        )
    asked = len(pressed.answers(patient=True))
    if pressed.within() < PATIENT_SHARE * asked:
        found.append(
            f"with retries: got {pressed.within()} of {asked} answered in {PATIENT_LIMIT_S:g} s, expected "
            f"{PATIENT_SHARE:.0%} or more"
        )
    silent = [run for run in pressed.runs if run.recovered_s is None]
    if silent:
        found.append(f"afterwards: got {len(silent)} of {len(pressed.runs)} runs without an answer, expected none")
    if wrong := {word: count for word, count in pressed.load().items() if not _may_end(pressed.ends, word)}:
        saw = ", ".join(f"{count} {word}" for word, count in wrong.items())
        found.append(f"the load itself: got {saw}; expected {_ENDS[pressed.ends]}")
    for kind, peak_mb in pressed.peaks_mb().items():
        if peak_mb > MEMORY_MB[kind]:
            found.append(f"memory of {kind}: got {peak_mb:.0f} MB at the most, expected {MEMORY_MB[kind]:.0f}")
    grown = sum(run.log_bytes for run in pressed.runs)
    if grown > LOG_BYTES:
        found.append(f"logs without an end: got {grown} bytes more, expected {LOG_BYTES}")
    if lies := sum(untrue_pings(run.answers, run.pings) for run in pressed.runs):
        found.append(f"make ping: got READY {lies} times when nobody had been answered for {SILENCE_S:g} s")
    return found


def _may_end(ends: Ends, word: str) -> bool:
    return in_words(word) if ends == "replies" else word != LEFT_OPEN


def untrue_pings(answers: Sequence[Answer], pings: Sequence[tuple[float, int]]) -> int:
    """How often ping said READY (exit code 0) when nobody had been answered for a minute, nor was soon after.

    What was answered soon after says that a server which had been silent was itself again.
    """
    ends = [0.0, *(one.at_s + one.taken_s for one in answers if one.word == RIGHT)]
    return sum(code == 0 and not any(at_s - SILENCE_S <= end <= at_s + _SOON_S for end in ends) for at_s, code in pings)


def verdicts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The failures of many loads, each with its name."""
    return [f"{row['name']}: {line}" for row in rows for line in row["failures"]]
