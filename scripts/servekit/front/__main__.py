"""The front's process: `python -m servekit.front SETTINGS.json`."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import resource
import ssl
import sys
from pathlib import Path

import uvloop

from servekit.front.access import Access
from servekit.front.calls import Calls
from servekit.front.health import Health
from servekit.front.limits import CONNECTIONS
from servekit.front.room import Rooms
from servekit.front.settings import FrontSettings
from servekit.front.web import Web

_TRIM_S = 10.0


async def serve(settings: FrontSettings) -> None:
    """Serves both ports until the process ends."""
    context = None
    if settings.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings.certificate, settings.private_key)
    access, rooms = Access(settings), Rooms(settings.limits)
    health = Health(settings, access)
    calls = await Calls(settings, access, rooms, health).start()
    async with await Web(settings, access, rooms, health).start(context):
        trimming = asyncio.create_task(_give_memory_back())
        await health.watch()
        trimming.cancel()
    await calls.stop(None)


async def _give_memory_back() -> None:
    """Gives the system what large bodies have left in the heap's gaps, where the C library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim is not None:
        await asyncio.sleep(_TRIM_S)
        trim(0)


def main() -> None:
    """The process."""
    # Each connection may need one more, to TorchServe.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8 * CONNECTIONS
    if soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(FrontSettings.read(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
