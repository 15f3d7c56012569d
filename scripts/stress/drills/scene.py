"""A server under watch: clients that ask one after another while something goes wrong.

Flow: two bare and two patient clients in threads -> a fault -> until every bare client is answered again -> `Row`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llava_viewer.client import Client, RequestError
from servekit.state import ServerState
from stress.soaking.cases import Case, difference

LIMIT_S = 240.0
_CALL_S = 60.0
_PAUSE_S = 0.1
_ORDINARY_S = 1.0
"""A request of the drills takes a twentieth of this."""


@dataclass
class Row:
    """What one fault did.

    Args:
        fault: what was done.
        bare: what clients that send nothing twice saw, by transport: outcomes other than right answers, and how often.
        recovery_s: from the fault until answers are right and in ordinary time again; 0 when they never were otherwise.
        slowest_s: the longest that a request took meanwhile.
        asked, lost: requests of clients that send again, and how many of those got no right answer.
        lost_as: the errors of the lost ones.
        note: what else is worth knowing.
    """

    fault: str
    bare: dict[str, dict[str, int]] = field(default_factory=dict)
    recovery_s: float = 0.0
    slowest_s: float = 0.0
    asked: int = 0
    lost: int = 0
    lost_as: list[str] = field(default_factory=list)
    note: str = ""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class _Prober(threading.Thread):
    """One client that asks without end, and remembers when and what came back."""

    def __init__(self, client: Client, case: Case, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._client, self._case, self._ended = client, case, stop
        self.seen: list[tuple[float, float, str]] = []
        self.errors: list[str] = []

    def run(self) -> None:
        """Until the scene ends."""
        while not self._ended.is_set():
            begin = time.monotonic()
            word = self._ask()
            self.seen.append((begin, time.monotonic(), word))
            time.sleep(_PAUSE_S)

    def answered_after(self, moment: float) -> bool:
        """Whether the last request was begun after this moment and answered."""
        return bool(self.seen) and self.seen[-1][0] > moment and self.seen[-1][2] == "right"

    def _ask(self) -> str:
        assert self._case.truth is not None
        try:
            record = self._client.predict(
                self._case.fields["image"], self._case.fields["prompt"].decode(), self._case.options, keep_picture=False
            )
        except RequestError as error:
            self.errors.append(str(error))
            return f"{error.code} ({error.status})"
        return difference(record, self._case.truth) or "right"


def play(fault: str, state: ServerState, case: Case, act: Callable[[], str | None], *, settle_s: float = 1.0) -> Row:
    """Does something to a server while clients ask it.

    Args:
        fault: its name in the table.
        case: what the clients ask.
        act: does it, and returns a note; it may take its time.
        settle_s: seconds of right answers after which the scene ends.
    """
    ended = threading.Event()
    with _clients(state, 0.0) as bare, _clients(state, LIMIT_S) as patient:
        probers = {name: _Prober(client, case, ended) for name, client in bare.items()}
        others = [_Prober(client, case, ended) for client in patient.values()]
        for prober in (*probers.values(), *others):
            prober.start()
        time.sleep(1.0)
        begin = time.monotonic()
        note = act() or ""
        acted = time.monotonic()
        while time.monotonic() - acted < LIMIT_S:
            time.sleep(0.1)
            if all(prober.answered_after(acted + settle_s) for prober in (*probers.values(), *others)):
                break
        ended.set()
        for prober in (*probers.values(), *others):
            prober.join(LIMIT_S)
    return _row(fault, probers, others, begin, note)


def _row(fault: str, bare: dict[str, _Prober], patient: list[_Prober], begin: float, note: str) -> Row:
    failed = {name: [entry for entry in prober.seen if entry[2] != "right"] for name, prober in bare.items()}
    recovered = max(_recovered(prober.seen, begin) for prober in bare.values())
    everything = [entry for prober in (*bare.values(), *patient) for entry in prober.seen if entry[1] > begin]
    asked = [entry for prober in patient for entry in prober.seen]
    return Row(
        fault=fault,
        bare={name: dict(Counter(word for _, _, word in entries)) for name, entries in failed.items()},
        recovery_s=round(recovered, 1),
        slowest_s=round(max(end - start for start, end, _ in everything), 1),
        asked=len(asked),
        lost=sum(word != "right" for _, _, word in asked),
        lost_as=[error for prober in patient for error in prober.errors],
        note=note,
    )


def _recovered(seen: Sequence[tuple[float, float, str]], begin: float) -> float:
    """Seconds from `begin` until the first right answer in ordinary time after which nothing else came."""
    odd = [index for index, (start, end, word) in enumerate(seen) if word != "right" or end - start > _ORDINARY_S]
    odd = [index for index in odd if seen[index][1] > begin]
    if not odd:
        return 0.0
    last = odd[-1]
    if seen[last][2] == "right":
        return seen[last][1] - begin
    return seen[last + 1][1] - begin if last + 1 < len(seen) else float("inf")


@contextlib.contextmanager
def _clients(state: ServerState, retry_s: float) -> Iterator[dict[str, Client]]:
    key_file, timeout_s, [model] = Path(state.key_file), max(retry_s, _CALL_S), state.models
    with (
        Client.http(state.http, model=model, token=key_file, timeout_s=timeout_s, retry_s=retry_s) as http,
        Client.grpc(state.grpc, model=model, token=key_file, timeout_s=timeout_s, retry_s=retry_s) as grpc,
    ):
        yield {"HTTP": http, "gRPC": grpc}
