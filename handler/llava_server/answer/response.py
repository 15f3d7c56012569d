"""A record to response bytes.

Flow: `Record` -> npz bytes, or JSON with the npz inside.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from llava_wire.errors import RequestError
from llava_wire.record import Record
from llava_wire.writing import document, encode

NPZ_TYPE = "application/x-npz"
JSON_TYPE = "application/json"


def reply_of(record: Record) -> dict[str, Any]:
    """The JSON form of a record: its facts to read, and the file itself."""
    reply: dict[str, Any] = {
        "answer": record.answer,
        "record": document(record),
        "run": record.run,
        "npz_base64": base64.b64encode(encode(record)).decode("ascii"),
    }
    if record.alternatives:
        reply["alternatives"] = [document(other) for other in record.alternatives]
    return reply


def to_response(record: Record, fmt: str, max_bytes: int | None = None) -> tuple[bytes, str]:
    """A record as (body, content type).

    Args:
        record: the finished record.
        fmt: "npz" for the file itself, "json" for record.json plus the same file base64-encoded.
        max_bytes: the response limit, or None.

    Raises:
        RequestError: "does_not_fit" over the limit.
    """
    if fmt == "json":
        body, content_type = json.dumps(reply_of(record), ensure_ascii=False, allow_nan=False).encode(), JSON_TYPE
    else:
        body, content_type = encode(record), NPZ_TYPE
    if max_bytes is not None and len(body) > max_bytes:
        raise RequestError(
            "does_not_fit",
            "options",
            f"got {len(body)} bytes of response, expected {max_bytes}; name fewer views or steps",
        )
    return body, content_type
