"""What a request consists of, as bytes, and what its record gets back from it.

Flow: picture + question (or a record to replay) + options -> the fields of a request; its picture -> the record.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from llava_viewer.look.picture import PictureError, prepare_picture
from llava_wire import encode
from llava_wire.errors import RequestError
from llava_wire.record import Record


def question_fields(image: bytes | Path, prompt: str, options: Mapping[str, Any]) -> dict[str, bytes]:
    """The fields of a question; RequestError for what cannot be sent, OSError for an unreadable picture file."""
    return {"image": _bytes(image), "prompt": _utf8(prompt), "options": _json(options)}


def replay_fields(record: Record, image: bytes | Path | None, options: Mapping[str, Any]) -> dict[str, bytes]:
    """The fields of a replay, with the picture that is given or else carried by the record."""
    fields = {"record": encode(_without_maps(record)), "options": _json(options)}
    if image is not None:
        fields["image"] = _bytes(image)
    elif record.picture is not None:
        fields["image"] = record.picture[1]
    return fields


def with_picture(record: Record, data: bytes) -> Record:
    """The record carrying the upright, metadata-free picture; without one where this machine cannot read the file."""
    try:
        return record.with_picture(*prepare_picture(data))
    except PictureError as error:
        # The answer is there and may have cost minutes; it is worth more than the picture.
        warnings.warn(f"the record carries no picture: {error}", stacklevel=3)
        return record


def _without_maps(record: Record) -> Record:
    """What a replay needs of a record: a file must hold a view, so the smallest one stays."""
    smallest = min(record.views.values(), key=lambda view: view.stored.nbytes)
    return replace(record, views={smallest.name: smallest}, run={}, picture=None, alternatives=())


def _bytes(image: bytes | Path) -> bytes:
    return image if isinstance(image, bytes) else Path(image).read_bytes()


def _utf8(prompt: str) -> bytes:
    try:
        return prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RequestError(
            "invalid", "prompt", f"got a lone surrogate at character {error.start}, expected text; remove it"
        ) from error


def _json(options: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(dict(options), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise RequestError("invalid", "options", f"got {error}, expected plain JSON values; convert them") from error
