"""One request's bounds, kept where bytes meet the network: a network backend for httpcore that knows them.

Flow: `Exchange` -> `with exchange.going_on()` -> httpcore -> `Backend` and its streams: every connect, handshake, write
and read gets what is left of the time, and what was read is counted, heads, interim replies and chunk sizes included.
httpcore's own timeouts are one for each read, so a server that drips would never meet them.
"""

from __future__ import annotations

import contextlib
import ipaddress
import queue
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any

from llava_viewer.client.errors import reply_too_large, timed_out
from llava_viewer.client.protocol import CONNECT_TIMEOUT_S

_HEAD_BYTES = 64 << 10
_WRITE_BYTES = 1 << 20
_NESTED_WRITE_BYTES = 8 << 10
"""Small enough for a socket that has any room to take it at once, where httpcore alone can write."""
_current: ContextVar[Exchange] = ContextVar("exchange")


class Exchange:
    """What one request may still take.

    Args:
        timeout_s: seconds from now until it is given up.
        most_bytes: the largest reply; a sixteenth and 64 KiB more may come over the line, for
            heads, chunk sizes and the like.
    """

    def __init__(self, timeout_s: float, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._timeout_s = timeout_s
        self._end = time.monotonic() + timeout_s
        self._left_bytes = most_bytes + most_bytes // 16 + _HEAD_BYTES

    def left_s(self) -> float:
        """Seconds left; RequestError "deadline" when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise timed_out(self._timeout_s)
        return left

    def came(self, count_bytes: int) -> None:
        """Counts bytes off the line; RequestError "too_large" when they are too many."""
        self._left_bytes -= count_bytes
        if self._left_bytes < 0:
            raise reply_too_large(self.most_bytes)

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        """What this thread does with connections meanwhile is part of this exchange."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def each(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The pieces of a reply's body, each read as a part of this exchange."""
        iterator = iter(pieces)
        while True:
            with self.going_on():
                piece = next(iterator, None)
            if piece is None:
                return
            self.left_s()
            yield piece


class Backend:
    """Opens connections for httpcore whose every step keeps to the bounds of the exchange that it is part of.

    Args:
        core: httpcore, a package that not every installation has.
    """

    def __init__(self, core: Any) -> None:
        self._core = core
        self._inner = core.SyncBackend()

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **more: Any) -> _Stream:
        """A connection to one of the host's addresses; OSError when none has been found in time."""
        exchange = _current.get()
        end = time.monotonic() + CONNECT_TIMEOUT_S
        failure: Exception = OSError(f"{host} has no address")
        for address in _addresses(host, port, min(exchange.left_s(), CONNECT_TIMEOUT_S)):
            left = min(exchange.left_s(), end - time.monotonic())
            if left <= 0:
                break
            try:
                return _Stream(self._core, self._inner.connect_tcp(address, port, timeout=left, **more))
            except (self._core.ConnectError, self._core.ConnectTimeout) as error:
                failure = error
        raise failure

    def sleep(self, seconds: float) -> None:
        """httpcore sleeps between attempts to connect; it is told to make one."""
        time.sleep(seconds)


class _Stream:
    """A connection of httpcore's, with the exchange's time for each operation in place of httpcore's.

    Args:
        inner: httpcore's stream.
        layers: of TLS on the connection; two where a proxy speaks it too.
    """

    def __init__(self, core: Any, inner: Any, layers: int = 0) -> None:
        self._core = core
        self._inner = inner
        self._layers = layers

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        exchange = _current.get()
        data: bytes = self._inner.read(max_bytes, timeout=exchange.left_s())
        exchange.came(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        exchange, view = _current.get(), memoryview(buffer)
        if self._layers > 1:
            for start in range(0, len(view), _NESTED_WRITE_BYTES):
                self._inner.write(view[start : start + _NESTED_WRITE_BYTES], timeout=exchange.left_s())
            return
        sock = self._inner.get_extra_info("socket")
        while view:
            # httpcore would give every part that the socket takes the same time anew.
            sock.settimeout(exchange.left_s())
            try:
                view = view[sock.send(view[:_WRITE_BYTES]) :]
            except TimeoutError:
                continue
            except OSError as error:
                raise self._core.WriteError(error) from error

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> _Stream:
        left = min(_current.get().left_s(), CONNECT_TIMEOUT_S)
        return _Stream(self._core, self._inner.start_tls(ssl_context, server_hostname, timeout=left), self._layers + 1)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

    def close(self) -> None:
        self._inner.close()


def _addresses(host: str, port: int, left_s: float) -> list[str]:
    """The host's addresses; OSError when they are not known in time, since the system's own lookup knows no limit."""
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    found: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.put(list(dict.fromkeys(str(entry[4][0]) for entry in entries)))
        except (OSError, UnicodeError) as error:
            found.put(error)

    threading.Thread(target=look_up, daemon=True).start()
    try:
        result = found.get(timeout=left_s)
    except queue.Empty:
        raise TimeoutError(f"no address for {host} within {left_s:.3g} s") from None
    if isinstance(result, Exception):
        raise OSError(str(result)) from result
    return result
