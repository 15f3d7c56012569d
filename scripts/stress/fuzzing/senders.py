"""Shots over the wire: raw bytes in a connection of their own, or a message over gRPC; what came back, whole.

Flow: `Shot` -> socket or channel -> `Reply`.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

import grpc

from servekit.state import ServerState, current_token
from stress.fuzzing.shots import Shot

TIMEOUT_S = 90.0
"""No shot takes nearly so long: one without a reply by then counts as hung."""
_INCOMPLETE_S = 2.0
"""How long the sender of half a request waits before it leaves."""
_MESSAGE_BYTES = 1 << 28


@dataclass(frozen=True)
class Reply:
    """What came back.

    Args:
        status: the HTTP status, or 0 where there is none.
        kind: the content type.
        body: the reply, or the one message of a gRPC call.
        word: "reply", "closed" (without a reply), "hung", "waiting" (for the rest of half a request), or the name of a
            gRPC status.
        detail: a gRPC status's text, or how the connection ended.
        taken_ms: from the first byte sent to the last received.
        again: the header, or trailing metadata, `retry-after`.
    """

    status: int
    kind: str
    body: bytes = field(repr=False)
    word: str = "reply"
    detail: str = ""
    taken_ms: float = 0.0
    again: str = ""


class Sender:
    """Sends shots to one server; one per thread."""

    def __init__(self, state: ServerState) -> None:
        parts = urlsplit(state.http)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._key = current_token(state)
        limits = [("grpc.max_receive_message_length", _MESSAGE_BYTES), ("grpc.max_send_message_length", _MESSAGE_BYTES)]
        # Channels of one process share connections unless they differ in an option.
        self._channel = grpc.insecure_channel(state.grpc, options=[*limits, ("grpc.use_local_subchannel_pool", 1)])

    def send(self, shot: Shot) -> Reply:
        """One shot and its reply; never raises for what a server does."""
        begin = time.monotonic()
        reply = self._grpc(shot) if shot.way.startswith("grpc") else self._http(shot)
        return replace(reply, taken_ms=round((time.monotonic() - begin) * 1000, 1))

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def _http(self, shot: Shot) -> Reply:
        is_raw = shot.way in ("raw", "held")
        timeout_s = _INCOMPLETE_S if is_raw else TIMEOUT_S
        with socket.create_connection(self._address, timeout=timeout_s) as connection:
            # The server may answer and close before it has read everything; its answer is still there to read.
            with contextlib.suppress(OSError):
                connection.sendall(self._bytes(shot))
            response = http.client.HTTPResponse(connection, method=shot.method)
            try:
                response.begin()
                body = response.read()
            except TimeoutError:
                return Reply(0, "", b"", "waiting" if is_raw else "hung")
            except (http.client.HTTPException, OSError) as error:
                return Reply(0, "", b"", "closed", type(error).__name__)
            kind, again = (response.headers.get(name, "") for name in ("content-type", "retry-after"))
            return Reply(response.status, kind, body, again=again)

    def _bytes(self, shot: Shot) -> bytes:
        key = f"Authorization: Bearer {self._key if shot.key else 'wrong'}"
        if shot.way in ("raw", "held"):
            return shot.body.replace(b"{auth}", key.encode())
        lines = [f"{shot.method} {shot.path} HTTP/1.1", "Host: fuzz", key, "Connection: close"]
        lines += [f"{name}: {value}" for name, value in shot.headers]
        lines.append(f"Content-Length: {len(shot.body)}")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + shot.body

    def _grpc(self, shot: Shot) -> Reply:
        metadata = (("authorization", f"Bearer {self._key if shot.key else 'wrong'}"),)
        try:
            if "Stream" in shot.path:
                parts = list(self._channel.unary_stream(shot.path)(shot.body, metadata=metadata, timeout=TIMEOUT_S))
                return Reply(0, "", parts[0] if len(parts) == 1 else b"", "reply", f"{len(parts)} parts")
            return Reply(0, "", self._channel.unary_unary(shot.path)(shot.body, metadata=metadata, timeout=TIMEOUT_S))
        except grpc.RpcError as error:
            word = error.code().name
            again = dict(error.trailing_metadata() or ()).get("retry-after", "")
            word = "hung" if word == "DEADLINE_EXCEEDED" else word
            return Reply(0, "", b"", word, str(error.details())[:300], again=str(again))
