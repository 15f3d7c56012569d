"""An answer as it is being written: the lines of a streamed reply.

Flow: bytes as they come -> whole lines -> `StreamedToken`s, then the `Record`; a stream that ends before its record was
cut off, and says so.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llava_viewer.client.errors import broken_off
from llava_wire.container import decode
from llava_wire.errors import RecordError, RequestError
from llava_wire.quantize import DTYPES, READABLE, dequantise
from llava_wire.record import Record
from llava_wire.schema import Token, from_plain

_LONGEST_LINE_BYTES = 1 << 30
_ENCODINGS = {DTYPES[precision]: encodings for precision, encodings in READABLE.items()}


@dataclass(frozen=True)
class StreamedToken:
    """One token of an answer that is still being written.

    Args:
        step: the step that predicted it; 0 is the prefill.
        token: as it will be in the record.
        maps: by view, float32 [(layer), (head) or (layer_head), row, col], the token's row as the record will hold it;
            empty for a step that the request did not name.
        shares: by view, float32 [..., 4], how the row splits over bos, image, prompt text and answer text.
    """

    step: int
    token: Token
    maps: dict[str, npt.NDArray[np.float32]]
    shares: dict[str, npt.NDArray[np.float32]]


def read_stream(pieces: Iterable[bytes]) -> Generator[StreamedToken | Record, None, None]:
    """The parts of a streamed reply, the record last.

    Args:
        pieces: the reply's bytes, cut anywhere.

    Raises:
        RequestError: the error that ended the answer, or "unavailable" when the stream ended without its last line.
        RecordError: a line that is none of a stream.
    """
    tokens = 0
    for line in _lines(pieces):
        part = _part(line, tokens)
        yield part
        if isinstance(part, Record):
            return
        tokens += 1
    raise broken_off(f"{tokens} tokens and no record")


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines; what follows the last line break was cut off and is none."""
    rest = bytearray()
    for piece in pieces:
        searched = len(rest)
        rest += piece
        while (end := rest.find(b"\n", searched)) >= 0:
            yield bytes(rest[:end])
            del rest[: end + 1]
            searched = 0
        if len(rest) > _LONGEST_LINE_BYTES:
            raise RecordError("too_large", f"stream: got a line of {len(rest)} bytes, allowed {_LONGEST_LINE_BYTES}")


def _part(line: bytes, number: int) -> StreamedToken | Record:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _invalid(number, f"no JSON ({error})") from error
    refusal = RequestError.from_body(content)
    if refusal is not None:
        raise refusal
    kind = content.get("type") if isinstance(content, dict) else None
    try:
        if kind == "record":
            return decode(base64.b64decode(content["npz_base64"], validate=True))
        if kind == "token":
            return _token(content, number)
    except (AttributeError, KeyError, TypeError, ValueError, binascii.Error) as error:
        if isinstance(error, RecordError):
            raise
        raise _invalid(number, f"{type(error).__name__} {error}") from error
    raise _invalid(number, f"type {str(kind)[:40]!r}")


def _token(content: dict[str, Any], number: int) -> StreamedToken:
    step = content["step"]
    if step != number:
        raise _invalid(number, f"step {str(step)[:40]}")
    maps, shares = {}, {}
    for name, view in content["views"].items():
        if view["dtype"] not in _ENCODINGS or view["encoding"] not in _ENCODINGS[view["dtype"]]:
            raise _invalid(number, f"dtype {str(view['dtype'])[:40]!r}, encoding {str(view['encoding'])[:40]!r}")
        data = base64.b64decode(view["maps_base64"], validate=True)
        stored = np.frombuffer(data, view["dtype"]).reshape([int(side) for side in view["shape"]])
        scales, parts = (np.asarray(view[key], dtype=np.float32) for key in ("scales", "shares"))
        if scales.shape != stored.shape[:-2] or parts.shape != (*stored.shape[:-2], 4):
            raise _invalid(number, f"scales {scales.shape} and shares {parts.shape} beside maps {stored.shape}")
        maps[str(name)], shares[str(name)] = dequantise(stored, scales, view["encoding"]), parts
    token: Token = from_plain(Token, content["token"], "token")
    return StreamedToken(number, token, maps, shares)


def _invalid(number: int, found: str) -> RecordError:
    return RecordError("invalid", f"stream: got {found} in line {number + 1}, allowed a token or the record")
