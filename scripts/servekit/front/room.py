"""How much there may be at once: bytes and calls that requests take, in the order in which they came, and give back.

Flow: a request's size -> `Rooms.body` (the front's own memory) -> `Rooms.passage` (TorchServe's) -> both given back.
Small requests wait for no bytes, because as many as there may be calls and connections fit in any case: whoever asks
little does not stand in line behind large pictures.
"""

from __future__ import annotations

import asyncio
from collections import deque
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

    def _next(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.left:
            amount, turn = self._waiting.popleft()
            if not turn.done():
                self.left -= amount
                turn.set_result(None)


class Hold:
    """What one request has taken of rooms; given back at the end of the block, or with `give_back`."""

    def __init__(self) -> None:
        self._taken: list[tuple[Room, int]] = []

    async def take(self, room: Room, amount: int, patience_s: float = 0.0) -> None:
        """Takes more, as `Room.take` does."""
        if amount > 0:
            await room.take(amount, patience_s)
            self._taken.append((room, amount))

    def give_back(self) -> None:
        """Gives all of it back, once."""
        while self._taken:
            room, amount = self._taken.pop()
            room.give(amount)

    def handed_on(self) -> Hold:
        """The same in other hands, which now have to give it back."""
        other = Hold()
        self._taken, other._taken = other._taken, self._taken
        return other

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, kind: object, value: object, traceback: object) -> None:
        self.give_back()


@dataclass
class Rooms:
    """What all requests of a front share, over HTTP and gRPC."""

    limits: Limits
    _held: Room = field(init=False)
    _passed: Room = field(init=False)
    _calls: Room = field(init=False)
    _reading: Room = field(init=False)

    def __post_init__(self) -> None:
        self._held, self._passed = Room(self.limits.held_bytes), Room(self.limits.passed_bytes)
        self._calls, self._reading = Room(CALLS), Room(_READERS)

    async def reading(self, hold: Hold) -> None:
        """A turn to read a message of unknown size, over gRPC; raises NoRoom when none came in time."""
        await hold.take(self._reading, 1, SOON_S)

    async def body(self, hold: Hold, size: int, *, copies: int = 1, is_here: bool = False) -> None:
        """Room in the front for so many copies of a body of so many bytes; one that is here already cannot wait.

        Raises:
            NoRoom: there was none in time.
        """
        await hold.take(self._held, copies * _counted(size), 0.0 if is_here else PATIENCE_S)

    async def passage(self, hold: Hold, size: int) -> None:
        """Room in TorchServe for a request of so many bytes.

        Raises:
            NoRoom: there was none in time.
        """
        await hold.take(self._passed, _counted(size), PATIENCE_S)
        await hold.take(self._calls, 1, SOON_S)


def _counted(size: int) -> int:
    return size if size > SMALL_BYTES else 0
