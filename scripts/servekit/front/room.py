"""How much there may be at once: bytes and calls that requests take, in the order in which they came, and give back.

Flow: a request's size -> `Rooms.body` (the front's own memory) -> `Rooms.passage` (TorchServe's) -> both given back.
Small requests wait for no bytes, because as many as there may be calls and connections fit in any case: whoever asks
little does not stand in line behind large pictures.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from servekit.front.limits import CALLS, SMALL_BYTES, Limits

PATIENCE_S = 20.0
"""How long a large request may wait for room before it is told to come again."""
SOON_S = 3.0
"""The same for any request that waits for its turn among calls, not for bytes."""
_READERS = 24


class NoRoom(Exception):
    """There was no room in time."""


class Room:
    """So many bytes (or anything else that is counted) at once.

    Args:
        size: how many.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.left = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, amount: int, patience_s: float = 0.0) -> None:
        """Takes an amount, after those who wait already.

        Raises:
            NoRoom: it is more than there can ever be, or none was free within the time.
        """
        if amount <= 0:
            return
        if amount > self.size:
            raise NoRoom
        if not self._waiting and amount <= self.left:
            self.left -= amount
            return
        if patience_s <= 0:
            raise NoRoom
        turn = asyncio.get_running_loop().create_future()
        entry = (amount, turn)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(patience_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.give(amount)  # its turn came in the moment in which it gave up
            else:
                self._waiting.remove(entry)
                self._next()
            if isinstance(error, TimeoutError):
                raise NoRoom from None
            raise

    def give(self, amount: int) -> None:
        """Gives an amount back."""
        self.left += amount
        self._next()

    @contextlib.asynccontextmanager
    async def taken(self, amount: int, patience_s: float = 0.0) -> AsyncIterator[None]:
        """Takes an amount for the length of the block."""
        await self.take(amount, patience_s)
        try:
            yield
        finally:
            if amount > 0:
                self.give(amount)

    def _next(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.left:
            amount, turn = self._waiting.popleft()
            if not turn.done():
                self.left -= amount
                turn.set_result(None)


@dataclass
class Rooms:
    """What all requests of a front share, over HTTP and gRPC."""

    limits: Limits
    _held: Room = field(init=False)
    _passed: Room = field(init=False)
    _calls: Room = field(init=False)
    reading: Room = field(init=False)
    """Messages of unknown size that arrive at the same time, over gRPC."""

    def __post_init__(self) -> None:
        self._held, self._passed = Room(self.limits.held_bytes), Room(self.limits.passed_bytes)
        self._calls, self.reading = Room(CALLS), Room(_READERS)

    @contextlib.asynccontextmanager
    async def body(self, size: int, *, copies: int = 1, is_here: bool = False) -> AsyncIterator[None]:
        """Room in the front for so many copies of a body of so many bytes; one that is here already cannot wait.

        Raises:
            NoRoom: there was none in time.
        """
        async with self._held.taken(copies * _counted(size), 0.0 if is_here else PATIENCE_S):
            yield

    @contextlib.asynccontextmanager
    async def passage(self, size: int) -> AsyncIterator[None]:
        """Room in TorchServe for a request of so many bytes.

        Raises:
            NoRoom: there was none in time.
        """
        async with self._passed.taken(_counted(size), PATIENCE_S), self._calls.taken(1, SOON_S):
            yield


def _counted(size: int) -> int:
    return size if size > SMALL_BYTES else 0
