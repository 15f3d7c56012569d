"""A front before made-up servers: its own process, or in this one with the bytes that arrive behind it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import uvloop

from servekit.front.access import Access
from servekit.front.health import Health
from servekit.front.limits import Limits
from servekit.front.room import Rooms
from servekit.front.settings import FrontSettings
from servekit.front.web import Web
from servekit.ports import _free_ports
from servekit.watch.keeper import Keeper

ALICE = "alice-key-0123456789"
LIMITS = Limits(request_bytes=20 << 20, held_bytes=160 << 20, passed_bytes=80 << 20)
HEAD = f"POST /predictions/m HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ALICE}\r\n".encode()

_T = TypeVar("_T")
Exchange = Callable[[int, list[bytes]], Awaitable[None]]


class Place(NamedTuple):
    """What a keeper needs of a server's state."""

    scratch: str
    logs: str


def settings_for(folder: Path, inner_http: int, inner_grpc: int = 1, **changes: Any) -> FrontSettings:
    """Settings of a front with a file of keys, and TorchServe's, in a folder."""
    keys, own, duty = folder / "keys.yaml", folder / "key_file.json", folder / "duty"
    duty.mkdir(exist_ok=True)
    keys.write_text(f"keys: {{alice: {ALICE}}}", "utf-8")
    keys.chmod(0o600)
    own.write_text(json.dumps({"inference": {"key": "inner"}}), "utf-8")
    http, grpc = _free_ports("127.0.0.1", 2)
    settings = FrontSettings(
        host="127.0.0.1", http=http, grpc=grpc, inner_http=inner_http, inner_grpc=inner_grpc, models=(),
        keys=str(keys), key_file=str(own), duty=str(duty), certificate="", private_key="", limits=LIMITS,
    )  # fmt: skip
    return replace(settings, **changes)


@contextlib.contextmanager
def running(settings: FrontSettings, folder: Path) -> Iterator[FrontSettings]:
    """The front's own process, which has nothing to say in its log at the end."""
    keeper = Keeper(settings, Place(str(folder), str(folder)))  # type: ignore[arg-type]
    end = time.monotonic() + 60
    while not (listens(settings.http) and listens(settings.grpc)):
        assert time.monotonic() < end, (folder / "front.log").read_text("utf-8")
        time.sleep(0.05)
    try:
        yield settings
    finally:
        keeper._process.kill()
        keeper._process.wait(timeout=10)
    assert (folder / "front.log").read_text("utf-8") == ""


def listens(port: int) -> bool:
    """Whether something accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def told(port: int, sent: bytes, *, ended: bool = True) -> bytes:
    """All that comes back for these bytes."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(sent)
        if ended:
            connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(65536):
            got += piece
    return got


def in_a_loop_of_its_own(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Runs it in another thread: browser tests of the same process leave a running loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(uvloop.run, coroutine).result()


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def in_process(folder: Path, exchange: Exchange, reply: bytes = OK, limits: Limits = LIMITS) -> None:
    """A front in this process before a server that notes the bytes of each connection and answers a whole request."""

    async def run() -> None:
        arrived: list[bytes] = []

        async def behind(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            number = len(arrived)
            arrived.append(b"")
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                arrived[number] = head = await reader.readuntil(b"\r\n\r\n")
                sizes = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                arrived[number] += await reader.readexactly(int(sizes[0].partition(b":")[2]) if sizes else 0)
                writer.write(reply)
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(behind, "127.0.0.1", 0, limit=1 << 20)
        settings = settings_for(folder, server.sockets[0].getsockname()[1], limits=limits)
        access = Access(settings)
        one = Web(settings, access, Rooms(limits), Health(settings, access))
        web = await asyncio.start_server(one.connected, "127.0.0.1", 0, limit=65536)
        async with server, web:
            await exchange(web.sockets[0].getsockname()[1], arrived)
            await asyncio.gather(*one._connections)

    in_a_loop_of_its_own(run())
