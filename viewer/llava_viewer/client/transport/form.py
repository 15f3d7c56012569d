"""The body of a request over HTTP, and what a reply's body holds that was compressed on its way.

Flow: fields -> `form` -> content type and bytes; pieces of a reply -> `unpacked` -> no more bytes than allowed.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping

from llava_viewer.client.errors import broken_off, reply_too_large
from llava_wire.system.image_fields import is_image_field

_GZIP = 16 + zlib.MAX_WBITS
_PIECE_BYTES = 1 << 20


def form(fields: Mapping[str, bytes]) -> tuple[str, bytes]:
    """A multipart form: its content type and its bytes.

    Args:
        fields: values by name; pictures become files of the one name "image" in their order, and no field needs a type
            that the server would parse.
    """
    boundary = secrets.token_hex(16)
    parts: list[bytes] = []
    for name in sorted(fields, key=is_image_field):
        file = '; filename="image"\r\nContent-Type: application/octet-stream' if is_image_field(name) else ""
        said = "image" if is_image_field(name) else name
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{said}"{file}\r\n\r\n'
        parts += [head.encode("ascii"), fields[name], b"\r\n"]
    return f"multipart/form-data; boundary={boundary}", b"".join([*parts, f"--{boundary}--\r\n".encode("ascii")])


def unpacked(pieces: Iterable[bytes], encoding: str, most_bytes: int) -> Iterator[bytes]:
    """The pieces of a body as they were before a proxy compressed them.

    Args:
        pieces: the body, cut anywhere.
        encoding: the reply's Content-Encoding: none, identity or gzip.
        most_bytes: the largest body, unpacked; never more than 1 MiB of it is unpacked at once.

    Raises:
        RequestError: "too_large" for more, "unavailable" for what cannot be unpacked.
    """
    packed = encoding.strip().lower()
    if packed not in ("", "identity", "gzip", "x-gzip"):
        raise broken_off(f"content encoding {packed!r:.80}, which was not asked for")
    count = 0
    for piece in _inflated(pieces) if "gzip" in packed else pieces:
        count += len(piece)
        if count > most_bytes:
            raise reply_too_large(most_bytes)
        yield piece


def _inflated(pieces: Iterable[bytes]) -> Iterator[bytes]:
    unzip, rest = zlib.decompressobj(_GZIP), iter(pieces)
    try:
        for piece in rest:
            while True:
                data = unzip.decompress(piece, _PIECE_BYTES)
                piece = unzip.unconsumed_tail
                if data:
                    yield data
                if unzip.eof:
                    # The body's end is read too, or the connection could not be used again.
                    if unzip.unused_data or any(rest):
                        raise broken_off("more behind the end of gzip data")
                    return
                if not piece and len(data) < _PIECE_BYTES:
                    break
    except zlib.error as error:
        raise broken_off(f"damaged gzip data: {error}") from error
    raise broken_off("gzip data without an end")
