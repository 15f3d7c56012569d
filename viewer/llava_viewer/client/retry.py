"""Which refusals are worth sending the same request again, and how long to wait before it.

Flow: error of an attempt -> `Patience.wait_s` -> seconds to sleep, or None: give the error to the caller (`patiently`).
Predictions change nothing on the server, so sending one twice is safe; what decides is whether it can help.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from llava_viewer.client.errors import ServerBusy, ServerUnreachable, timed_out
from llava_wire.errors import RequestError

Result = TypeVar("Result")

DEFAULT_RETRY_S = 30.0
"""Long enough for a worker of a small model to come back, or a queue to shorten."""
_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 8.0
_LAST_S = 0.05
"""Before the end, where the last attempt begins at the latest."""
_MOST = {"worker_died": 2, "unavailable": 5}
"""A request that kills what it meets must not be sent for ever: others share the worker. Connections that break off
come several at a time while a server starts again."""


class Patience:
    """The attempts of one request, under one budget.

    Args:
        retry_s: seconds after the start in which a new attempt may begin; 0 for never.
        timeout_s: seconds for the request as a whole, all attempts and pauses together.
        known: whether the server has answered this client before; when it has not, a refused connection means a wrong
            address rather than a restart, and is told at once.
        clock: seconds, for tests.
    """

    def __init__(
        self, retry_s: float, timeout_s: float, *, known: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._retry_s = retry_s
        self._timeout_s = timeout_s
        self._known = known
        self._clock = clock
        self._begin = clock()
        self._attempts = 0
        self._deaths: Counter[str] = Counter()
        self._renewals = 0

    @property
    def whole_s(self) -> float:
        """Seconds for the request as a whole."""
        return self._timeout_s

    @property
    def left_s(self) -> float:
        """Seconds that the next attempt may take."""
        if self._attempts == 0:
            return self._timeout_s
        return round(max(self._timeout_s - (self._clock() - self._begin), 0.001), 3)

    def wait_s(self, error: RequestError) -> float | None:
        """Seconds to wait before the next attempt, or None when there is none.

        The pause doubles from a quarter of a second to eight, and is drawn between half and all of that, so that many
        clients that were refused together do not come back together. A server that says how long it wants to be left
        alone is taken at its word, and at up to half as much again for the same reason; where that is longer than what
        is left, there is no other attempt.
        """
        if not self._helps(error):
            return None
        left_s = min(self._retry_s, self._timeout_s) - (self._clock() - self._begin)
        named_s = error.retry_after_s if isinstance(error, ServerBusy) else 0.0
        if named_s > 0:
            named_s = max(named_s, _FIRST_WAIT_S)
            pause_s = min(named_s * random.uniform(1.0, 1.5), max(named_s, left_s - _LAST_S))
        else:
            pause_s = min(_FIRST_WAIT_S * 2 ** min(self._attempts, 10), _LONGEST_WAIT_S) * random.uniform(0.5, 1.0)
        self._attempts += 1
        return pause_s if pause_s <= left_s - _LAST_S else None

    def _helps(self, error: RequestError) -> bool:
        if error.code == "overloaded":
            return True
        if isinstance(error, ServerUnreachable):
            return self._known
        if error.code == "unauthorized" and self._known:
            # The server is starting again and has no key file yet, or the key was renewed on the request's way.
            self._renewals += error.field != "key_file"
            return self._renewals <= 1
        if error.code in _MOST:
            self._deaths[error.code] += 1
            return self._deaths[error.code] <= _MOST[error.code]
        return False


def patiently(
    attempt: Callable[[float], Result], patience: Patience, failed: Callable[[RequestError], RequestError]
) -> Result:
    """The result of the first attempt that succeeds.

    Args:
        attempt: takes the seconds that it may last.
        failed: is told of every error, and gives what is raised for one that is not worth another attempt.

    Raises:
        RequestError: that one.
    """
    before: RequestError | None = None
    while True:
        try:
            return attempt(patience.left_s)
        except RequestError as error:
            if before is not None and (error.code, error.field) == ("deadline", "timeout_s"):
                # The last attempt had the rest of the time alone.
                raise timed_out(patience.whole_s, before) from error
            named = failed(error)
            pause_s = patience.wait_s(error)
            if pause_s is None:
                raise named from error.__cause__
            before = error
        time.sleep(pause_s)
