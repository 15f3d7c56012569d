"""What a request consists of, as bytes, and what its record gets back from it.

Flow: picture + question (or a record to replay) + options -> the fields of a request; its picture -> the record.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llava_viewer.look.picture import PictureError, prepare_picture
from llava_wire import encode
from llava_wire.errors import RequestError
from llava_wire.record import Record
from llava_wire.system.image_fields import image_field, is_image_field

Pictures = bytes | Path | Sequence[bytes | Path]
"""A picture file's bytes or its path, or several for a model that takes several."""
# Two letters at the least: one before a colon is a drive. A path has one slash where its address had two.
_ADDRESS = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]+:/|data:)")


def is_address(text: str) -> bool:
    """Whether what should name an image file is an address, or a data URI."""
    return _ADDRESS.match(text) is not None


def question_fields(image: Pictures, prompt: str, options: Mapping[str, Any]) -> dict[str, bytes]:
    """The fields of a question; RequestError for what cannot be sent, OSError for an unreadable picture file."""
    return {**_images(image), "prompt": _utf8(prompt), "options": _json(options)}


def replay_fields(record: Record, image: Pictures | None, options: Mapping[str, Any]) -> dict[str, bytes]:
    """The fields of a replay, with the pictures that are given or else carried by the record."""
    carried = [data for _, data in record.pictures]
    fields = _images(image) if image is not None else _images(carried) if carried else {}
    return {"record": encode(_without_maps(record)), "options": _json(options), **fields}


def pictures_in(fields: Mapping[str, bytes]) -> list[bytes]:
    """The picture files among the fields of a request, in order."""
    return [data for name, data in fields.items() if is_image_field(name)]


def with_pictures(record: Record, files: Sequence[bytes]) -> Record:
    """The record carrying upright, metadata-free pictures; without them where this machine cannot read a file."""
    try:
        return record.with_pictures([prepare_picture(data) for data in files])
    except PictureError as error:
        # The answer is there and may have cost minutes; it is worth more than the picture.
        warnings.warn(f"the record carries no image: {error}", stacklevel=3)
        return record


def _without_maps(record: Record) -> Record:
    """What a replay needs of a record: a file must hold a view, so the smallest one stays."""
    smallest = min(record.views.values(), key=lambda view: view.nbytes)
    views = {smallest.name: smallest}
    return replace(record, views=views, texts={}, run={}, picture=None, further_pictures=(), alternatives=())


def _images(image: Pictures) -> dict[str, bytes]:
    """The pictures by the names that a map has for them: "image", "image_2" and so on."""
    several = [image] if isinstance(image, bytes | Path | str) else list(image)
    if not several:
        raise RequestError("bad_request", "image", "got no image, expected one or more; name an image file")
    return {image_field(number): _bytes(one, image_field(number)) for number, one in enumerate(several)}


def _bytes(image: bytes | Path, field: str) -> bytes:
    if isinstance(image, bytes):
        return image
    if is_address(str(image)):
        said = f"got the address {str(image)[:80]}, expected a file; nothing is fetched: download it first"
        raise RequestError("bad_request", field, said)
    return Path(image).read_bytes()


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
