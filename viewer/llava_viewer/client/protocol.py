"""What a way to the server must do, and how long and how much a request may take on any of them.

Flow: fields + bounds -> `Transport.send` or `.stream` -> reply bytes, or a `RequestError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

DEFAULT_TIMEOUT_S = 600.0
"""More than the longest `deadline_ms` of the models in model_store, so that the server's answer comes first."""
CONNECT_TIMEOUT_S = 10.0
DEFAULT_REPLY_BYTES = 40 << 20
"""`max_response_size` of the server's front end: `max_response_bytes` of the models (24 MiB) as JSON, and some room."""


class Transport(Protocol):
    """What a way to the server must do."""

    def send(
        self, fields: Mapping[str, bytes], *, npz: bool, timeout_s: float, most_bytes: int = DEFAULT_REPLY_BYTES
    ) -> bytes:
        """Sends the request's fields and returns the reply's bytes.

        Args:
            fields: image, prompt or record, and options as bytes; "ready" alone asks whether the model answers.
            npz: whether the reply should be a record file rather than JSON.
            timeout_s: seconds until the request is given up: name lookup, connecting, TLS, sending and the whole reply.
            most_bytes: the largest reply that is read.

        Raises:
            RequestError: refused, by the handler or by the server in front of it, not answered, or answered with more.
        """

    def stream(
        self, fields: Mapping[str, bytes], *, timeout_s: float, most_bytes: int = DEFAULT_REPLY_BYTES
    ) -> Iterator[bytes]:
        """As `send`, and yields the reply's bytes as they come; the time goes on between the pieces."""

    def close(self) -> None:
        """Closes the connections."""
