"""The picture that travels with a record: upright, without metadata, its pixels exactly those that the model was given.

Flow: a picture file -> metadata cut out of the JPEG, or upright RGB pixels as PNG -> (member name, bytes).
"""

from __future__ import annotations

import hashlib
import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image as PillowImage
from PIL import features

from llava_wire.pictures.jpeg import scan_refusal
from llava_wire.pictures.kinds import FORMATS, PictureFile, UnsupportedPictureError, picture_file, undecodable
from llava_wire.pictures.phones import AVIF, HEIF
from llava_wire.pictures.upright import bomb_pixels, damage_of, read_upright, size_refusal, stated_size
from llava_wire.record import Record

MAX_PIXELS = 80_000_000
_CARRIED = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
"""How the files begin that a record may carry; decoders of other formats are not for strangers' records."""
_DIGEST_ROWS = 512
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
"""JPEG markers that carry no length: TEM and the restart markers."""
_SOS, _EOI = 0xDA, 0xD9


_FILTERS = threading.Lock()
"""Python's warning filters are one for all threads; two that change them at once could leave them changed."""


class PictureError(ValueError):
    """Bytes that cannot be read as a picture, or a picture too large to open."""


def open_picture(data: bytes, *, carried: bool = False) -> PillowImage.Image:
    """The picture's pixels as the server sees them: upright 8-bit RGB, without metadata.

    Args:
        data: a picture file.
        carried: it is a record's own, and so PNG or JPEG.

    Raises:
        PictureError: the bytes cannot be read as a picture, or it has more than `MAX_PIXELS`.
    """
    if not carried:
        return _read(data)[0]
    if not data.startswith(_CARRIED):
        raise PictureError(f"image: got a file that starts with {data[:8]!r} in a record, expected PNG or JPEG there")
    return _OWN.pixels(data)


class _Own:
    """The pixels of one record's picture, which a command asks for several times; one at a time stays in memory."""

    def __init__(self) -> None:
        self._kept: tuple[bytes, PillowImage.Image] | None = None

    def pixels(self, data: bytes) -> PillowImage.Image:
        """The pixels; nobody changes them."""
        kept = self._kept
        if kept is None or kept[0] is not data:
            self._kept = kept = None
            kept = (data, _read(data)[0])
            self._kept = kept
        return kept[1]


_OWN = _Own()


def picture_size(data: bytes) -> tuple[int, int]:
    """Width and height in px of a picture file when it is upright, from its headers; no pixel is decoded.

    Raises:
        PictureError: the headers cannot be read as a picture's.
    """
    with _read_by_pillow():
        file = picture_file(data)
        return stated_size(_opened(io.BytesIO(file.data), formats=(file.format,)), file)


def prepare_picture(data: bytes) -> tuple[str, bytes]:
    """The picture for a record as (member name, bytes), with the pixels the server computes from the same file.

    An upright JPEG keeps its compressed data and loses its metadata segments; everything else becomes a PNG of the
    turned RGB pixels.

    Args:
        data: a picture file.

    Raises:
        PictureError: the bytes cannot be read as a picture.
    """
    pixels, kept_jpeg = _read(data)
    if kept_jpeg:
        # Without its metadata a JPEG that was turned by them has other pixels, and becomes a PNG.
        stripped = _without_metadata(data)
        if stripped is not None and _rgb_digest(stripped) == _digest(pixels):
            return "picture.jpg", stripped
    buffer = io.BytesIO()
    # A copy of the bare pixels: Pillow would write colour profile and resolution of the original.
    PillowImage.frombytes("RGB", pixels.size, pixels.tobytes()).save(buffer, "PNG", optimize=False)
    return "picture.png", buffer.getvalue()


def check_picture(record: Record, data: bytes, *, carried: bool = False, number: int = 0) -> str | None:
    """Why these bytes are not a picture that the record was made from, or None when they are.

    The same file is recognised by its digest, and a copy with other metadata by its upright pixels' digest.

    Args:
        record: the record.
        data: a picture file.
        carried: it is the record's own.
        number: which of the record's pictures it should be, from 0.

    Raises:
        PictureError: the bytes cannot be read as a picture.
    """
    image = record.facts.images[number]
    if hashlib.sha256(data).hexdigest() == image.sha256:
        return None
    pixels = open_picture(data, carried=carried)
    if pixels.size != (image.width_px, image.height_px):
        return (
            f"image: got {pixels.width} x {pixels.height} px, expected the record's {image.width_px} x "
            f"{image.height_px} px; this is another image"
        )
    found = _digest(pixels)
    if found != image.pixels_sha256:
        return (
            f"image: got pixels with sha256 {found[:12]}..., expected {image.pixels_sha256[:12]}...; "
            "this is another image, or one that was edited or saved again"
        )
    return None


def _read(data: bytes) -> tuple[PillowImage.Image, bool]:
    """The upright pixels, and whether they come of a JPEG whose own data may be kept."""
    kept_jpeg = False

    def check(opened: PillowImage.Image, file: PictureFile) -> None:
        nonlocal kept_jpeg
        pixels = opened.width * opened.height
        if pixels > MAX_PIXELS:
            raise PictureError(f"image: {size_refusal(pixels, MAX_PIXELS, opened.size)}")
        refusal = scan_refusal(file.data, pixels, MAX_PIXELS) if opened.format in ("JPEG", "MPO") else None
        if refusal:
            raise PictureError(f"image: {refusal}")
        kept_jpeg = opened.format in ("JPEG", "MPO") and opened.mode in ("RGB", "L")

    with _read_by_pillow():
        pixels: PillowImage.Image = read_upright(data, _opened, check).pixels
    return pixels, kept_jpeg


@contextmanager
def _read_by_pillow() -> Iterator[None]:
    """What decoders raise and warn of: one kind of error, and no warnings.

    Raises:
        PictureError: in place of whatever a decoder raised.
    """
    try:
        # What Pillow warns of (metadata, sizes) is refused or does not matter here, and would puzzle whoever sees it.
        with _FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except PictureError:
        raise
    except UnsupportedPictureError as error:
        raise PictureError(f"image: {error}") from error
    except Exception as error:  # Pillow raises many kinds of errors for damaged files
        bomb = bomb_pixels(error)
        if bomb is not None:
            raise PictureError(f"image: {size_refusal(bomb, MAX_PIXELS)}") from error
        raise PictureError(
            f"image: got an unreadable image ({damage_of(error)}), expected {', '.join(FORMATS)}"
        ) from error


def _opened(stream: io.BytesIO, formats: tuple[str, ...]) -> PillowImage.Image:
    """Pillow's `Image.open`, and pillow-heif's class for HEIC; registered, it would change everybody's Pillow."""
    if formats == (AVIF,) and not features.check("avif"):
        raise undecodable(AVIF)
    if formats != (HEIF,):
        return PillowImage.open(stream, formats=formats)
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise undecodable(HEIF) from error
    return HeifImageFile(stream)


def _digest(pixels: PillowImage.Image) -> str:
    found = hashlib.sha256()
    for top in range(0, pixels.height, _DIGEST_ROWS):  # all bytes at once would hold the picture twice
        found.update(pixels.crop((0, top, pixels.width, min(top + _DIGEST_ROWS, pixels.height))).tobytes())
    return found.hexdigest()


def _rgb_digest(data: bytes) -> str:
    """The digest of a file's RGB pixels, or "" when it cannot be read."""
    try:
        with PillowImage.open(io.BytesIO(data), formats=("JPEG",)) as opened:
            return _digest(opened.convert("RGB"))
    except Exception:  # as above
        return ""


def _without_metadata(data: bytes) -> bytes | None:
    """A JPEG without comments and application segments that do not decide its numbers; None when it is malformed.

    What follows the end marker (a second picture, a thumbnail, a video) goes too.
    """
    kept = [b"\xff\xd8"]
    try:
        for marker, segment in _segments(data):
            if marker == 0xFE or 0xE0 <= marker <= 0xEF:
                segment = _needed_segment(marker, segment)
            kept.append(segment)
    except (IndexError, ValueError):
        return None
    return b"".join(kept) if kept[-1] == b"\xff\xd9" else None


def _needed_segment(marker: int, segment: bytes) -> bytes:
    """The segment when decoders need it for the colours (JFIF without its thumbnail, Adobe), else nothing.

    A colour profile goes: the model sees the numbers without it, and so should whoever looks at the report.
    """
    payload = segment[4:]
    if marker == 0xE0 and payload.startswith(b"JFIF\0") and len(payload) >= 14:
        return b"\xff\xe0\x00\x10" + payload[:12] + b"\0\0"
    if marker == 0xEE and payload.startswith(b"Adobe"):
        return segment
    return b""


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The segments between start and end marker as (marker, whole segment); a scan brings its coded data along.

    Raises:
        ValueError, IndexError: the file is malformed.
    """
    if data[:2] != b"\xff\xd8":
        raise ValueError("no start marker")
    position = 2
    while True:
        if data[position] != 0xFF:
            raise ValueError("no marker")
        while data[position + 1] == 0xFF:  # fill bytes
            position += 1
        marker = data[position + 1]
        if marker == _EOI:
            yield marker, b"\xff\xd9"
            return
        if marker in _STANDALONE:
            yield marker, data[position : position + 2]
            position += 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        end = position + 2 + length
        if length < 2 or end > len(data):
            raise ValueError("no whole segment")
        if marker == _SOS:
            end = _scan_end(data, end)
        yield marker, data[position:end]
        position = end


def _scan_end(data: bytes, position: int) -> int:
    """Where the coded data of a scan ends: at the first marker that is neither a stuffed byte nor a restart."""
    while True:
        position = data.index(b"\xff", position)
        if data[position + 1] == 0x00 or 0xD0 <= data[position + 1] <= 0xD7:
            position += 2
        elif data[position + 1] == 0xFF:
            position += 1
        else:
            return position
