"""A run's questions to a server, as many at a time as bring more answers.

Flow: items -> threads, each with one request -> `Client.predict_bytes`, which sends again what is worth it -> replies.
A server that is away for a while is waited for, within one budget for the run.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from llava_viewer.client.base import Client
from llava_viewer.client.errors import ServerUnreachable
from llava_viewer.data.items import Item
from llava_viewer.runs.asking import Answered, Chunk, image_of
from llava_wire.errors import RecordError, RequestError

MOST_IN_FLIGHT = 64
_FIRST_IN_FLIGHT = 8
_REST = 4
"""Looks at the rate between a try that brought nothing and the next."""
_WORTH_IT = 1.07
"""How much faster twice as many requests must be answered to be kept."""
_PAUSE_S = 2.0
_TELL_S = 15.0
"""Between two lines that tell of a server that is away."""
_DEATHS = 2
"""How often an item is sent again, by itself, after a worker died over it."""


class Flight:
    """How many requests are on their way at a time: twice as many are tried now and then, and kept when that brings
    more answers a second.

    Args:
        fixed: this many; None to find out.
        clock: seconds, for tests.
    """

    def __init__(self, fixed: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.kept = self.limit = fixed or _FIRST_IN_FLIGHT
        self._fixed, self._clock = fixed is not None, clock
        self._rate, self._rest = 0.0, 0
        self._count, self._since = 0, clock()

    def answered(self) -> None:
        """One more answer came."""
        self._count += 1
        if self._fixed or self._count < 4 * self.limit:
            return
        rate = self._count / max(self._clock() - self._since, 1e-9)
        if self.limit > self.kept and rate < self._rate * _WORTH_IT:
            self.limit, self._rest = self.kept, _REST  # one slow moment must not decide for ever
        else:
            self.kept, self._rate = self.limit, rate
            self._rest = max(0, self._rest - 1)
            self.limit = self.kept if self._rest else min(2 * self.kept, MOST_IN_FLIGHT)
        self._count, self._since = 0, self._clock()


class Served:
    """A server that answers a run.

    Args:
        client: of it.
        options: of every request.
        images: the folder that paths of images count from.
        budget_s: seconds without any answer after which the run stops.
        in_flight: requests at a time; None for as many as bring more answers.
        say: gets lines for people.
    """

    def __init__(
        self,
        client: Client,
        options: Mapping[str, Any],
        images: Path,
        *,
        budget_s: float,
        in_flight: int | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._client, self._options, self._images = client, options, images
        self._budget_s, self._say = budget_s, say
        self.flight = Flight(in_flight)
        self._heard, self._heard_s = False, time.monotonic()
        self._away, self._told_s = threading.Lock(), -math.inf
        self._ended = threading.Event()

    def answers(self, chunks: Iterator[Chunk]) -> Generator[Answered, None, None]:
        """See `Asks.answers`."""
        items = (item for chunk in chunks for item in chunk.items)
        self._heard_s = time.monotonic()
        self._ended.clear()
        pool = ThreadPoolExecutor(MOST_IN_FLIGHT, thread_name_prefix="request")
        waiting: dict[Future[bytes | Exception], Item] = {}
        try:
            more = True
            while more or waiting:
                while more and len(waiting) < self.flight.limit:
                    item = next(items, None)
                    more = item is not None
                    if item is not None:
                        waiting[pool.submit(self._answer, item)] = item
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    item = waiting.pop(future)
                    self.flight.answered()
                    yield item, future.result()
            self._say(f"{self.flight.kept} requests were in flight at a time")
        finally:
            self._ended.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _answer(self, item: Item) -> bytes | Exception:
        """An item's record, or the error that is its own, or the one that nothing cured within the budget."""
        try:
            image = image_of(item, self._images)
        except (OSError, RecordError) as error:
            return error
        deaths = 0
        while True:
            try:
                reply = self._client.predict_bytes(image, item.prompt, self._options)
            except RequestError as error:
                if self._may_come_back(error):
                    if not self._wait_for_it(error):
                        return error
                    continue
                if error.code == "worker_died" and deaths < _DEATHS:
                    deaths += 1
                    self._ended.wait(_PAUSE_S)
                    continue
                return error
            self._heard, self._heard_s = True, time.monotonic()
            return reply

    def _may_come_back(self, error: RequestError) -> bool:
        """Whether a server that has answered before is only away: one that starts again may lack its model and keys."""
        if isinstance(error, ServerUnreachable) or error.code in ("unavailable", "overloaded"):
            return True
        return self._heard and error.code in ("not_found", "unauthorized")

    def _wait_for_it(self, error: RequestError) -> bool:
        """Waits a little for a server that is away; False when it was for too long, never there, or the run ends."""
        silent_s = time.monotonic() - self._heard_s
        if silent_s > self._budget_s or (isinstance(error, ServerUnreachable) and not self._heard):
            return False
        now = time.monotonic()
        with self._away:  # one of many says it
            if tells := now - self._told_s >= _TELL_S:
                self._told_s = now
        if tells:
            self._say(f"waiting for the server, up to {self._budget_s - silent_s:.0f} s more: {error}")
        return not self._ended.wait(_PAUSE_S)
