"""Messages between two processes over a pipe: a length, a line of JSON, and bytes.

Flow: `write_frame` -> pipe -> `read_frame`; what the JSON says is the two programs' own business.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import IO, Any

_HEAD = struct.Struct("<II")
"""Bytes of the JSON, and how many parts follow; then 8 bytes for each part's length."""
_MOST_JSON_BYTES = 64 << 20


class FrameError(ValueError):
    """Bytes that are no frame, or a pipe that ended inside one."""


def write_frame(stream: IO[bytes], plain: Mapping[str, Any], parts: Sequence[bytes] = ()) -> None:
    """Writes one message and flushes it.

    Args:
        stream: the pipe.
        plain: plain JSON values.
        parts: bytes that go with them.
    """
    text = json.dumps(plain).encode()
    lengths = struct.pack(f"<{len(parts)}Q", *map(len, parts))
    stream.write(_HEAD.pack(len(text), len(parts)) + lengths + text)
    for part in parts:
        stream.write(part)
    stream.flush()


def read_frame(stream: IO[bytes]) -> tuple[dict[str, Any], list[bytes]] | None:
    """The next message, or None at the end of the pipe.

    Raises:
        FrameError: the pipe ended inside a message, or holds something else.
    """
    head = stream.read(_HEAD.size)
    if not head:
        return None
    if len(head) < _HEAD.size:
        raise FrameError(f"frame: got {len(head)} bytes, expected {_HEAD.size} or more")
    text_bytes, count = _HEAD.unpack(head)
    if text_bytes > _MOST_JSON_BYTES or count > 1024:
        raise FrameError(f"frame: got one of {text_bytes} bytes of JSON and {count} parts, expected a message")
    lengths = struct.unpack(f"<{count}Q", _exactly(stream, 8 * count))
    plain = json.loads(_exactly(stream, text_bytes))
    return plain, [_exactly(stream, length) for length in lengths]


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise FrameError(f"frame: got {len(data)} bytes, expected {count}; the other process ended")
    return data
