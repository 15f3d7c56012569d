"""The files among a request's fields: image and record bytes, whichever way in and under whichever name.

Flow: named fields -> images in a list, in their order -> bytes; base64 and data URIs inside JSON alone.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from llava_server.ask.checking import invalid
from llava_server.ask.pictures import MAX_IMAGES, refuse_address
from llava_wire.errors import RequestError
from llava_wire.system.image_fields import image_field

FURTHER_IMAGES = tuple(image_field(number) for number in range(1, MAX_IMAGES))
"""What the further images of a request are called where each has a name of its own: "image_2" and so on."""
IMAGES = "images"
"""The list of images in a JSON body."""
_SPACES = " \t\n\r\v\f"
_REMOVED = _SPACES.encode()
_TYPE = "[A-Za-z0-9.+-]+"
_DATA_URI = re.compile(rf"data:({_TYPE}/{_TYPE})?(;{_TYPE}={_TYPE})*;base64,")


def gathered(fields: Mapping[str, Any], *, from_json: bool) -> Mapping[str, Any]:
    """The fields with all images under "image": a list of them where there are several.

    Args:
        fields: of a JSON body, which may have `images`; else of a form or a gRPC map, which may have `image_2` and so
            on; a form that repeats `image` has a list there.
        from_json: which of both.

    Raises:
        RequestError: "bad_request", for two ways at once and for numbers that are left out.
    """
    if from_json:
        if IMAGES not in fields:
            return fields
        if "image" in fields:
            raise RequestError("bad_request", IMAGES, "got it beside image, expected one of them; leave one out")
        if not isinstance(fields[IMAGES], list):
            raise invalid(IMAGES, type(fields[IMAGES]).__name__, "a list of images; send image for one alone")
        return {**{name: value for name, value in fields.items() if name != IMAGES}, "image": fields[IMAGES]}
    further = [name for name in FURTHER_IMAGES if name in fields]
    if not further:
        return fields
    wanted = ("image", *FURTHER_IMAGES[: len(further)])
    for name in wanted:
        if name not in fields:
            said = f"got none beside {further[-1]}, expected image, image_2 and so on; leave no number out"
            raise RequestError("bad_request", name, said)
    if isinstance(fields["image"], list):
        said = f"got it beside {len(fields['image'])} parts of the name image, expected one way; number all or none"
        raise RequestError("bad_request", further[0], said)
    rest = {name: value for name, value in fields.items() if name not in further}
    return {**rest, "image": [fields[name] for name in wanted]}


def images_in(value: Any, *, from_json: bool) -> Any:
    """An image's bytes, or a list of those of several.

    Args:
        value: what is under "image".
        from_json: whether it is base64 or a data URI.

    Raises:
        RequestError: naming the image at fault.
    """
    if isinstance(value, list):
        if len(value) > MAX_IMAGES:
            raise invalid("image", len(value), f"1 to {MAX_IMAGES}; send fewer", "a list of")
        return [_image(one, image_field(number), from_json) for number, one in enumerate(value)]
    return _image(value, "image", from_json)


def _image(value: Any, field: str, from_json: bool) -> bytes:
    if from_json and isinstance(value, str):
        text = value.lstrip(_SPACES)
        if found := _DATA_URI.match(text):
            value = text[found.end() :]
        else:
            refuse_address(text, field)
    return file_in(value, field, from_json=from_json)


def file_in(value: Any, field: str, *, from_json: bool) -> bytes:
    """A file's bytes; base64 only inside JSON, where there is nothing else.

    Raises:
        RequestError: naming the field.
    """
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if from_json and isinstance(value, str):
        try:
            text = value.encode("ascii").translate(None, _REMOVED)
            if len(text) % 4:
                raise ValueError("not a multiple of 4 characters")
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise RequestError(
                "bad_request",
                field,
                f"got text that is not base64 ({error}), expected base64 of the file; encode it",
            ) from error
    if from_json:
        raise RequestError("bad_request", field, f"got {type(value).__name__}, expected base64 text; encode the file")
    raise RequestError(
        "unsupported_media", field, "got a part of a text or JSON type, expected a file; send it as image/png, say"
    )
