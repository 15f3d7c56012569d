"""The image files of a request: how many, each of them bytes that may be a file. None is opened here.

Flow: bytes or a list of them -> the files in their order; what is an address or nothing is refused by the name of its
image. Nothing is ever fetched: a server that follows addresses can be sent anywhere, by anybody who may ask it.
"""

from __future__ import annotations

import re

from llava_server.ask.checking import invalid
from llava_wire.errors import RequestError
from llava_wire.system.image_fields import image_field

MAX_IMAGES = 16
"""Images of one request; a model's family, its settings and its context allow fewer."""
_ADDRESS = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]{0,31}):")
_LOOKED_AT = 64
"""Characters at the beginning, in which an address has its scheme."""


def picture_files(image: object) -> tuple[bytes, ...]:
    """The files of one image or of a list of them.

    Args:
        image: bytes of an image file, or a list of them.

    Raises:
        RequestError: naming the image at fault.
    """
    if not isinstance(image, list | tuple):
        return (_file(image, "image"),)
    if not 1 <= len(image) <= MAX_IMAGES:
        raise invalid("image", len(image), f"1 to {MAX_IMAGES}; send fewer", "a list of")
    return tuple(_file(one, image_field(i)) for i, one in enumerate(image))


def refuse_address(beginning: bytes | str, field: str) -> None:
    """Refuses what begins as an address does, or as a file's text form in a place for its bytes.

    Args:
        beginning: of the file, or text in place of one.
        field: what the image is called.

    Raises:
        RequestError: "bad_request".
    """
    start = beginning[:_LOOKED_AT]
    text = start.decode("ascii", "replace") if isinstance(start, bytes) else start
    found = _ADDRESS.match(text)
    scheme = found[1].lower() if found else ""
    if scheme == "data" and isinstance(beginning, str):
        said = "got a data URI that is not of base64, expected data:image/png;base64, and the file; encode it so"
        raise RequestError("bad_request", field, said)
    if scheme == "data" and "," in text:
        said = "got the text of a data URI, expected the file's bytes; decode it, or send it in a JSON body"
        raise RequestError("bad_request", field, said)
    if found and (text[found.end() :].startswith("//") or isinstance(beginning, str)):
        said = f"got an address ({scheme}:), expected the file itself; nothing is fetched: download it and send it"
        raise RequestError("bad_request", field, said)


def _file(image: object, field: str) -> bytes:
    if isinstance(image, str):
        refuse_address(image, field)
    if not isinstance(image, bytes | bytearray | memoryview):
        raise RequestError(
            "bad_request",
            field,
            f"got {type(image).__name__}, expected the bytes of an image file; send a file part",
        )
    if len(image) == 0:
        raise RequestError("bad_request", field, "got 0 bytes, expected an image file; send one")
    data = bytes(image)
    refuse_address(data, field)
    return data
