"""How much the front takes at once: computed from what Java was given, and what cannot fit is refused."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from servekit.front.limits import BASE_BYTES, CALLS, COPIES, SMALL_BYTES, Limits
from servekit.front.room import Hold, NoRoom, Room, Rooms
from servekit.paths import CONFIG, SetupError
from servekit.ports import read_properties
from support.fronts import in_a_loop_of_its_own

MIB = 1 << 20


def test_all_that_may_be_in_java_fits_into_it() -> None:
    for heap, direct, workers in (("1g", "", 1), ("1g", "1g", 16), ("4g", "2048m", 64), ("900M", "", 2)):
        vmargs = f"-Xmx{heap}" + (f" -XX:MaxDirectMemorySize={direct}" if direct else "")
        limits = Limits.of({"max_request_size": str(20 * MIB), "vmargs": vmargs}, workers)
        least = min(
            {"1g": 1 << 30, "4g": 4 << 30, "2048m": 2 << 30, "900M": 900 * MIB}[one] for one in (heap, direct or heap)
        )
        assert (limits.passed_bytes + CALLS * SMALL_BYTES) * COPIES + BASE_BYTES <= least
        assert limits.request_bytes <= limits.passed_bytes <= workers * 80 * MIB
        assert limits.held_bytes >= limits.passed_bytes


def test_the_shipped_properties_fit() -> None:
    properties = read_properties(CONFIG)
    assert Limits.of(properties, 1).passed_bytes == 80 * MIB
    assert Limits.of(properties, 8).passed_bytes == 176 * MIB
    # What waits in TorchServe's own queue is small, or was counted.
    assert int(properties["job_queue_size"]) <= CALLS


@pytest.mark.parametrize(
    ("vmargs", "size", "words"),
    [
        ("", 1, "got no -Xmx"),
        ("-Xmx256m", 20 * MIB, "raise -Xmx"),
        ("-Xmx4g -XX:MaxDirectMemorySize=256m", 20 * MIB, "raise -Xmx"),
        ("-Xmx1g", 300 * MIB, "lower max_request_size"),
    ],
)
def test_properties_that_do_not_fit(vmargs: str, size: int, words: str) -> None:
    with pytest.raises(SetupError, match=words):
        Limits.of({"max_request_size": str(size), "vmargs": vmargs}, 1)


def test_a_small_body_needs_no_room_however_often_it_is_copied() -> None:
    async def run() -> None:
        rooms = Rooms(Limits(request_bytes=MIB, held_bytes=3 * MIB, passed_bytes=MIB))
        with Hold() as hold:
            await rooms.body(hold, MIB, copies=3, is_here=True)
            await rooms.body(hold, SMALL_BYTES, copies=3, is_here=True)
            with pytest.raises(NoRoom):
                await rooms.body(hold, SMALL_BYTES + 1, copies=3, is_here=True)
            kept = hold.handed_on()
        with pytest.raises(NoRoom):
            await rooms.body(Hold(), MIB, copies=3, is_here=True)
        kept.give_back()
        await rooms.body(Hold(), MIB, copies=3, is_here=True)

    in_a_loop_of_its_own(run())


def test_room_is_given_in_the_order_of_asking() -> None:
    async def run() -> None:
        room, order = Room(10), list[int]()

        async def ask(number: int, amount: int, patience_s: float = 5.0) -> None:
            with Hold() as hold:
                await hold.take(room, amount, patience_s)
                order.append(number)
                await asyncio.sleep(0.01)

        await room.take(8)
        asked = [asyncio.create_task(ask(number, amount)) for number, amount in enumerate((9, 1, 10))]
        hasty = asyncio.create_task(ask(9, 2, 0.02))
        left = asyncio.create_task(ask(8, 5))
        await asyncio.sleep(0.05)
        left.cancel()
        # A little one does not pass the one before it; one that is larger than all of it never waits.
        assert order == []
        with pytest.raises(NoRoom):
            await room.take(11, 5.0)
        with pytest.raises(NoRoom):
            await room.take(1)
        with pytest.raises(NoRoom):
            await hasty
        room.give(8)
        await asyncio.gather(*asked)
        with contextlib.suppress(asyncio.CancelledError):
            await left
        assert order == [0, 1, 2]
        assert room.left == 10

    in_a_loop_of_its_own(run())
