"""Servers that do what no server should, on real sockets: over HTTP byte by byte, over HTTP/2 frame by frame.

Flow: a behaviour, a function of one connection -> `HostileServer` on a free port -> how many bytes went to the client.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable

_SEND_BUFFER_BYTES = 16 << 10
"""Small, so that what was sent was taken by the client or lies in its own socket."""
_LONGEST_S = 20.0
"""No behaviour goes on for longer; a client that is still there then did not keep its time."""
_END_STREAM, _END_HEADERS = 1, 4


class Wire:
    """One connection, seen from the server.

    Args:
        sock: the accepted socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sent_bytes = 0
        self.read_bytes = 0
        self._end = time.monotonic() + _LONGEST_S

    def read(self, most: int = 1 << 16) -> bytes:
        """Some bytes of the client's; ConnectionError when it has left."""
        data = self.sock.recv(most)
        if not data:
            raise ConnectionError("the client left")
        self.read_bytes += len(data)
        return data

    def request(self) -> bytes:
        """The client's whole request over HTTP."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.read()
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        )
        while len(body) < length:
            body += self.read()
        return head

    def send(self, data: bytes) -> None:
        """Sends all of it, counted as it goes."""
        view = memoryview(data)
        while view:
            if time.monotonic() > self._end:
                raise ConnectionError("the client stayed too long")
            count = self.sock.send(view[: 16 << 10])
            self.sent_bytes += count
            view = view[count:]

    def flood(self, data: bytes) -> None:
        """Sends it again and again until the client leaves."""
        block = data * max(1, (64 << 10) // len(data))
        while True:
            self.send(block)

    def drip(self, data: bytes, pause_s: float = 0.02) -> None:
        """Sends it byte by byte, again and again, until the client leaves."""
        while True:
            for n in range(len(data)):
                self.send(data[n : n + 1])
                time.sleep(pause_s)

    def wait(self) -> None:
        """Says nothing until the client leaves."""
        while True:
            self.read()

    def reset(self) -> None:
        """Breaks the connection off without saying goodbye."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    # HTTP/2, as far as one call of gRPC needs it.

    def frame(self, kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> None:
        """Sends one frame."""
        self.send(frame(kind, flags, stream, payload))

    def call(self) -> None:
        """Reads a gRPC client's beginning, and waits a moment for its request."""
        self.frame(4)
        data = b""
        while b"llava-shapes" not in data:
            data += self.read()
        self.frame(4, 1)

    def begin(self, *headers: tuple[bytes, bytes]) -> None:
        """The head of a gRPC reply."""
        self.frame(1, _END_HEADERS, 1, REPLY_HEAD + b"".join(literal(*pair) for pair in headers))

    def message(self, payload: bytes, packed: bool = False, length: int | None = None) -> None:
        """One message of a gRPC reply, in frames that a client takes."""
        size = len(payload) if length is None else length
        data = struct.pack(">BI", packed, size) + payload
        for start in range(0, len(data), 1 << 14):
            self.frame(0, 0, 1, data[start : start + (1 << 14)])

    def status(self, code: int, *headers: tuple[bytes, bytes]) -> None:
        """The end of a gRPC reply."""
        head = literal(b"grpc-status", b"%d" % code) + b"".join(literal(*pair) for pair in headers)
        self.frame(1, _END_HEADERS | _END_STREAM, 1, head)


class HostileServer:
    """Treats every connection to it as `behaviour` says; a context manager.

    Args:
        behaviour: what to do with a connection; it may end in an OSError when the client leaves.
        accepts: whether connections are taken at all.
    """

    def __init__(self, behaviour: Callable[[Wire], None], *, accepts: bool = True) -> None:
        self._behaviour = behaviour
        self._accepts = accepts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self.port = int(self._listener.getsockname()[1])
        self.wires: list[Wire] = []

    @property
    def sent_bytes(self) -> int:
        """All that clients took."""
        return sum(wire.sent_bytes for wire in self.wires)

    def __enter__(self) -> HostileServer:
        if self._accepts:
            threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone would leave the thread in accept.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for wire in self.wires:
            with contextlib.suppress(OSError):
                wire.sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.settimeout(_LONGEST_S)
                wire = Wire(sock)
                self.wires.append(wire)
                threading.Thread(target=self._treat, args=(wire,), daemon=True).start()

    def _treat(self, wire: Wire) -> None:
        with wire.sock, contextlib.suppress(OSError):
            self._behaviour(wire)


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """A frame of HTTP/2: 0 DATA, 1 HEADERS, 3 RST_STREAM, 4 SETTINGS, 6 PING, 7 GOAWAY, 9 CONTINUATION."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header of HTTP/2 without compression; name and value of up to 126 bytes, the value of more too."""
    length = bytes([len(value)]) if len(value) < 127 else b"\x7f" + _rest(len(value) - 127)
    return b"\x00" + bytes([len(name)]) + name + length + value


def _rest(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


REPLY_HEAD = b"\x88" + literal(b"content-type", b"application/grpc")
