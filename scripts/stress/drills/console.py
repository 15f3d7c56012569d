"""Makes Java print: what strangers' bytes at its own gRPC port, and nested messages with its key, leave on the console.

Flow: a server -> Java's own address (behind whatever stands before it) -> plain HTTP, nested groups -> bytes printed
and kept.
"""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

import grpc

from servekit.java.trimming import MOST_BYTES
from servekit.paths import SetupError, run_folder
from servekit.ports import read_properties
from servekit.state import ServerState, current_token

_STRANGERS, _NESTED = 500, 200
_PREDICTIONS = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
_TRIMMED_S = 5.0
"""The file is looked at twice a second."""


def flooded(state: ServerState) -> tuple[int, int]:
    """Fills the console; gives the bytes that Java printed, as far as they were seen, and those that its file has kept.

    Raises:
        SetupError: when the file is larger than it may be.
    """
    console = Path(state.logs) / "console.log"
    properties = read_properties(run_folder(state.name) / "config.properties")
    host, port = properties["grpc_inference_address"], int(properties["grpc_inference_port"])
    printed_bytes, before = 0, console.stat().st_size

    def seen() -> None:
        nonlocal printed_bytes, before
        size = console.stat().st_size
        printed_bytes += max(0, size - before)
        before = size

    for _ in range(_STRANGERS):
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=5) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            stranger.recv(100)
    seen()
    key = (("authorization", f"Bearer {current_token(state)}"),)
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        call = channel.unary_unary(_PREDICTIONS)
        for _ in range(_NESTED):
            with contextlib.suppress(grpc.RpcError):
                call(b"\x0b" * 100_000, metadata=key, timeout=10)
            seen()
    time.sleep(_TRIMMED_S)
    kept_bytes = console.stat().st_size
    if kept_bytes > MOST_BYTES:
        raise SetupError(f"console.log: got {kept_bytes} bytes, expected {MOST_BYTES}")
    return printed_bytes, kept_bytes
