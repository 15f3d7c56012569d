"""Requests that cost a server more than their sender: large pictures, millions of fields, crafted records.

Flow: sizes and counts -> bytes that are made once and sent many times.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import random
import zipfile
from collections.abc import Mapping
from typing import Any, Literal

from PIL import Image

from stress.crowding.messages import message

BORDER = "crowd"
FORM_TYPE = f"multipart/form-data; boundary={BORDER}"
FIELDS_TYPE = "application/x-www-form-urlencoded"
JSON_TYPE = "application/json"
OPTIONS: dict[str, Any] = {"max_new_tokens": 2}
OPTIONS_JSON = json.dumps(OPTIONS).encode()
LISTED = 163_918
"""So many entries of a list deflate to less than 50 kB."""
PROMPT = b"Hello?"
Craft = Literal["queries", "candidates", "notes", "ids"]
CRAFTS: tuple[Craft, ...] = ("queries", "candidates", "notes", "ids")


@functools.cache
def large_picture(side_px: int = 1868, seed: int = 1) -> bytes:
    """A sound PNG of noise, not deflated: three bytes a pixel, 10.47 MB with the default, which 10 MiB allow."""
    noise = random.Random(seed).randbytes(side_px * side_px * 3)
    buffer = io.BytesIO()
    Image.frombytes("RGB", (side_px, side_px), noise).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def json_question(picture: bytes, options: Mapping[str, Any] = OPTIONS) -> bytes:
    """A question about a picture as a JSON body."""
    content = {"image": base64.b64encode(picture).decode(), "prompt": PROMPT.decode(), "options": options}
    return json.dumps(content).encode()


def form(parts: dict[str, bytes]) -> bytes:
    """A multipart body of `FORM_TYPE`; picture and record are files."""
    body = bytearray()
    for name, data in parts.items():
        file = f'; filename="{name}"\r\nContent-Type: application/octet-stream' if name in ("image", "record") else ""
        body += f'--{BORDER}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + data + b"\r\n"
    return bytes(body + f"--{BORDER}--\r\n".encode())


def many_fields(size_bytes: int) -> bytes:
    """A body of `FIELDS_TYPE` with a field for every two bytes: `a&a&a&...`."""
    return b"a&" * (size_bytes // 2)


def many_names(size_bytes: int) -> bytes:
    """A body of `FIELDS_TYPE` with a field of a name of its own, and no value, for every eight bytes."""
    return b"&".join(b"%07x" % number for number in range(size_bytes // 8))


def many_parts(count: int) -> bytes:
    """A multipart body of so many empty parts, each of a name of its own."""
    head = f"--{BORDER}\r\nContent-Disposition: form-data; name=".encode()
    return (
        head
        + (b"\r\n\r\n\r\n" + head).join(b"%06x" % number for number in range(count))
        + (f"\r\n\r\n\r\n--{BORDER}--\r\n".encode())
    )


def many_members(size_bytes: int) -> bytes:
    """A JSON object with a member of a name of its own for every twelve bytes."""
    return b"{" + b",".join(b'"%07x":0' % number for number in range(size_bytes // 12)) + b"}"


def many_keys(model: str, count: int) -> bytes:
    """A PredictionsRequest whose map has so many keys, ten bytes each."""
    # Field 3 of length 8: an entry whose field 1, the key, has length 6.
    entries = b"".join(b"\x1a\x08\x0a\x06%06x" % number for number in range(count))
    return message(model, []) + entries


def call(model: str, picture: bytes) -> bytes:
    """A PredictionsRequest: a question about a picture."""
    return message(model, [("image", picture), ("prompt", PROMPT), ("options", OPTIONS_JSON)])


def crafted(record: bytes, craft: Craft, count: int) -> bytes:
    """A sound record with one list of its facts drawn out to `count` equal entries, which deflate to next to nothing.

    Args:
        record: a record file.
        craft: the list.
        count: its length.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(record)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "record.json":
                data = json.dumps(_drawn_out(json.loads(data), craft, count), separators=(",", ":")).encode()
            new.writestr(name, data)
    return buffer.getvalue()


def _drawn_out(facts: dict[str, Any], craft: Craft, count: int) -> dict[str, Any]:
    if craft == "queries":
        facts["queries"] = facts["queries"][:1] * count
    elif craft == "candidates":
        facts["tokens"][0]["top"] = facts["tokens"][0]["top"][:1] * count
    elif craft == "notes":
        facts["notes"] = [{"code": "a", "field": "image", "text": "b"}] * count
    else:
        prompt = facts["prompt"]
        prompt["ids"], prompt["pieces"] = prompt["ids"][:1] * count, prompt["pieces"][:1] * count
        prompt["texts"] = []
    return facts
