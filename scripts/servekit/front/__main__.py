"""The front's process: `python -m servekit.front SETTINGS.json`."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import ssl
import sys
from pathlib import Path

from servekit.front.access import Access
from servekit.front.calls import Calls
from servekit.front.health import Health
from servekit.front.limits import CONNECTIONS
from servekit.front.room import Rooms
from servekit.front.settings import FrontSettings
from servekit.front.web import Web


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
        await health.watch()
    await calls.stop(None)


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
        asyncio.run(serve(FrontSettings.read(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
