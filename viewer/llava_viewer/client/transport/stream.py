"""An answer as it is being written: the lines of a streamed reply.

Flow: bytes as they come -> whole lines -> `StreamedToken`s, then the `Record`; a stream that ends before its record was
cut off, and says so.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from llava_viewer.client.errors import broken_off
from llava_viewer.client.protocol import DEFAULT_REPLY_BYTES
from llava_wire.codes.quantize import BLOCKS, DTYPES, dequantise, readable
from llava_wire.container import decode
from llava_wire.errors import RecordError, RequestError
from llava_wire.plain import from_plain
from llava_wire.quantity import ATTENTION, Quantity
from llava_wire.record import Record
from llava_wire.schema import SHARE_NAMES, Token

_MOST_NESTED = 1 << 20
"""Lists and objects in a line: a parsed one takes up to 24 times its bytes. A record has some thousands."""
_TOLERANCE = 1e-3
"""How far rounding may carry a share or a map over its bounds, as in records."""
_Floats = npt.NDArray[np.float32]
_PRECISIONS = {dtype: precision for precision, dtype in DTYPES.items() if precision != BLOCKS}


@dataclass(frozen=True)
class StreamedToken:
    """One token of an answer that is still being written.

    Args:
        step: the step that predicted it; 0 is the prefill.
        token: as it will be in the record.
        maps: by view, float32 [(layer), (head) or (layer_head), row, col] ([..., patch] over several grids), the
            token's row as the record will hold it; empty for a step that the request did not name.
        shares: by view whose quantity is a share, float32 [..., 4], how the row splits over bos, image, prompt text
            and answer text.
        separators: by view, float32 [...], what of the prompt's share lies on the images' tokens that are in no grid;
            only where there are some.
    """

    step: int
    token: Token
    maps: dict[str, npt.NDArray[np.float32]]
    shares: dict[str, npt.NDArray[np.float32]]
    separators: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)


def read_stream(
    pieces: Iterable[bytes], most_bytes: int = DEFAULT_REPLY_BYTES
) -> Generator[StreamedToken | Record, None, None]:
    """The parts of a streamed reply, the record last.

    Args:
        pieces: the reply's bytes, cut anywhere.
        most_bytes: the longest line that is kept.

    Raises:
        RequestError: the error that ended the answer, or "unavailable" when the stream ended without its last line.
        RecordError: a line that is none of a stream.
    """
    tokens = 0
    for line in _lines(pieces, most_bytes):
        part = _part(line, tokens)
        yield part
        if isinstance(part, Record):
            return
        tokens += 1
    raise broken_off(f"{tokens} tokens and no record")


def _lines(pieces: Iterable[bytes], most_bytes: int) -> Iterator[bytes]:
    """Whole lines; what follows the last line break was cut off and is none."""
    rest = bytearray()
    for piece in pieces:
        searched = len(rest)
        rest += piece
        while (end := rest.find(b"\n", searched)) >= 0:
            yield bytes(rest[:end])
            del rest[: end + 1]
            searched = 0
        if len(rest) > most_bytes:
            raise RecordError("too_large", f"stream: got a line of {len(rest)} bytes, expected {most_bytes}")


def _part(line: bytes, number: int) -> StreamedToken | Record:
    nested = line.count(b"[") + line.count(b"{")
    if nested > _MOST_NESTED:
        raise _invalid(number, f"{nested} lists and objects")
    try:
        content = json.loads(line)
        refusal = RequestError.from_body(content)
    except (ValueError, RecursionError) as error:
        raise _invalid(number, f"no JSON ({error})") from error
    if refusal is not None:
        raise refusal
    kind = content.get("type") if isinstance(content, dict) else None
    try:
        if kind == "record":
            return decode(base64.b64decode(content["npz_base64"], validate=True))
        if kind == "token":
            return _token(content, number)
    except RecordError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise _invalid(number, f"{type(error).__name__} {error}") from error
    raise _invalid(number, f"type {kind!r}" if isinstance(kind, str) else "no type")


def _token(content: dict[str, Any], number: int) -> StreamedToken:
    step = content["step"]
    if type(step) is not int or step != number:
        raise _invalid(number, "another step")
    maps, shares, separators = {}, {}, {}
    for name, view in content["views"].items():
        maps[str(name)], parts, apart = _row(view, number)
        if parts is not None:
            shares[str(name)] = parts
        if apart is not None:
            separators[str(name)] = apart
    token: Token = from_plain(Token, content["token"], "token")
    return StreamedToken(number, token, maps, shares, separators)


def _row(view: dict[str, Any], number: int) -> tuple[_Floats, _Floats | None, _Floats | None]:
    """Maps, shares and separators of one view in a line, its sizes and numbers those that a record's may be."""
    dtype, encoding, shape, axes = view["dtype"], view["encoding"], view["shape"], view["axes"]
    quantity: Quantity = from_plain(Quantity, view["quantity"], "quantity") if "quantity" in view else ATTENTION
    if dtype not in _PRECISIONS or encoding not in readable(_PRECISIONS[dtype], quantity):
        raise _invalid(number, f"dtype {dtype!r:.40}, encoding {encoding!r:.40}")
    cells = 1 if isinstance(axes, list) and axes[-1:] == ["patch"] else 2
    if (
        not isinstance(shape, list)
        or not cells <= len(shape) <= cells + 2
        or not all(type(side) is int for side in shape)
    ):
        raise _invalid(number, "a shape that is none of maps")
    data = base64.b64decode(view["maps_base64"], validate=True)
    if min(shape) < 1 or math.prod(shape) * np.dtype(dtype).itemsize != len(data):
        raise _invalid(number, f"{len(data)} bytes of maps beside a shape of {len(shape)} other sides")
    stored = np.frombuffer(data, dtype).reshape(shape)
    scales, lead = _numbers(view["scales"]), stored.shape[:-cells]
    parts = _numbers(view["shares"]) if quantity.is_share else None
    apart = _numbers(view["separators"]) if parts is not None and "separators" in view else None
    if (
        scales.shape != lead
        or (parts is not None and parts.shape != (*lead, len(SHARE_NAMES)))
        or (apart is not None and apart.shape != lead)
    ):
        beside = "" if parts is None else f" and shares {parts.shape}"
        raise _invalid(number, f"scales {scales.shape}{beside} beside maps {stored.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        maps = dequantise(stored, scales, encoding)
    # A map's sum is a share of attention: no number of it is below 0 or above 1. Others are as their quantity says.
    most = 1.0 if quantity.is_share else math.inf
    bounds = [(maps, -math.inf if quantity.signed else 0.0, most), (scales, 0.0, math.inf)]
    for values, least, most in [*bounds, *((one, 0.0, 1.0) for one in (parts, apart) if one is not None)]:
        if not ((values >= least - _TOLERANCE) & (values <= most + _TOLERANCE) & np.isfinite(values)).all():
            raise _invalid(number, "numbers that no attention gives")
    return maps, parts, apart


def _numbers(value: Any) -> npt.NDArray[np.float32]:
    """A number or nested lists of numbers as an array; what float32 does not hold becomes infinite."""
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "iuf":
        raise ValueError("no numbers")
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32)


def _invalid(number: int, found: str) -> RecordError:
    return RecordError("invalid", f"stream: got {found} in line {number + 1}, expected a token or the record")
