"""Which format and kind a stranger's picture file is, and the bytes of it that a decoder is given.

Flow: bytes -> format by the first bytes -> what speaks against reading it -> the picture to read, without what decoders
stumble over -> `PictureFile`. Nothing is decoded here. The server and the client ask the same, so that they read the
same pixels and refuse the same files.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from llava_wire.pictures import phones, png, tiff
from llava_wire.pictures.phones import AVIF, HEIF
from llava_wire.schema import Note

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", HEIF, AVIF)
"""The formats that are read, by Pillow's names; the last two where their decoders are installed."""
_FIRST_BYTES = (
    (b"\x89PNG", "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"GIF8", "GIF"), (b"BM", "BMP"),
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"II+\0", "TIFF"), (b"MM\0+", "TIFF"),
)  # fmt: skip
_OTHERS = (
    (b"%PDF", "a PDF", "save its page as a PNG"),
    (b"\xff\x0a", "a JPEG XL image", "save it as PNG or JPEG"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image", "save it as PNG or JPEG"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image", "save it as PNG or JPEG"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image", "save it as PNG or JPEG"),
    (b"II\xbc\x01", "a JPEG XR image", "save it as PNG or JPEG"),
    (b"8BPS", "a Photoshop file", "export it as PNG or JPEG"),
    (b"FUJIFILMCCD-RAW", "a camera's raw image", "develop it, or send its JPEG"),
    (b"IIU\0", "a camera's raw image", "develop it, or send its JPEG"),
    (b"IIR", "a camera's raw image", "develop it, or send its JPEG"),
    (b"MMOR", "a camera's raw image", "develop it, or send its JPEG"),
    (b"RIFF", "a sound or film", "send an image of it"),
    (b"data:", "a data URI", "send the bytes alone, in JSON as base64 without the prefix"),
)
_MARKUP = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(?:\?xml|!doctype|html|svg)", re.IGNORECASE)
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\x01\xd0-\xd8])")
"""The next JPEG marker with a length (or the end marker): not a stuffed byte, a restart or a start."""
_JPEG_FRAMES = {0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical",
                0xC9: "arithmetic-coded", 0xCA: "arithmetic-coded", 0xCB: "lossless arithmetic-coded",
                0xCD: "hierarchical", 0xCE: "hierarchical", 0xCF: "hierarchical", 0xF7: "JPEG-LS"}  # fmt: skip
"""Kinds of JPEG that decoders may not know; baseline, extended and progressive ones they do."""
_BMP_BITS, _BMP_COMPRESSIONS = (1, 4, 8, 16, 24, 32), (0, 1, 2)


ANIMATION = Note("pages", "image", "The file is an animation; its first image was read.")


class UnsupportedPictureError(ValueError):
    """A whole picture of a format or kind that is not read: "got ..., allowed ...; do ..."."""


@dataclass(frozen=True)
class PictureFile:
    """A picture file of a readable format.

    Args:
        format: one of `FORMATS`.
        data: what a decoder is given: the picture to read comes first, metadata that could inflate is gone.
        negative: whether the decoded grey must be turned.
        unopened: the file's kind in words, where a decoder that cannot open it does not know the kind; else None, and
            the file is damaged.
        undecoded: the same for a decoder that opens it and then fails.
        notes: what was chosen among the file's pictures.
    """

    format: str
    data: bytes
    negative: bool = False
    unopened: str | None = None
    undecoded: str | None = None
    notes: tuple[Note, ...] = ()


def picture_file(data: bytes) -> PictureFile:
    """Looks at a file's headers.

    Raises:
        UnsupportedPictureError: its format or kind is not read.
    """
    found = phones.brands(data)
    kind = next((kind for first, kind in _FIRST_BYTES if data.startswith(first)), phones.phone_format(found))
    if data.startswith(b"RIFF") and data[8:12] in (b"WEBP", b""):
        kind = "WEBP"
    if kind is None:
        raise _other(data, found)
    if kind in (HEIF, AVIF):
        return PictureFile(kind, data, notes=(ANIMATION,) if phones.FILMS & set(found) else ())
    if kind == "PNG":
        return _png(data)
    if kind == "TIFF":
        return _tiff(data)
    unusual = {"JPEG": _unusual_jpeg, "BMP": _unusual_bmp}.get(kind, lambda _: None)(data)
    return PictureFile(kind, data, unopened=unusual, undecoded=unusual)


def unsupported(what: str) -> UnsupportedPictureError:
    """The refusal of a kind ("a TIFF of ...") that turned out not to be readable."""
    return UnsupportedPictureError(
        f"got {what}, expected {', '.join(FORMATS)} of the usual kinds; save it as an 8-bit PNG"
    )


def undecodable(kind: str) -> UnsupportedPictureError:
    """The refusal of a format whose decoder is not installed."""
    name, cure = ("a HEIC image", "install pillow-heif") if kind == HEIF else ("an AVIF image", "a newer Pillow")
    allowed = ", ".join(one for one in FORMATS if one != kind)
    return UnsupportedPictureError(
        f"got {name}, for which no decoder is installed where it is read, expected {allowed}; save it as JPEG, "
        f"or {cure}"
    )


def _png(data: bytes) -> PictureFile:
    if png.is_apple(data):
        raise unsupported("a PNG of an iPhone app (CgBI)")
    if png.coloured_key(data):
        raise unsupported("a PNG with a transparent colour of 16 bits per channel")
    return PictureFile("PNG", png.bare(data), notes=(ANIMATION,) if png.frames(data) > 1 else ())


def _tiff(data: bytes) -> PictureFile:
    try:
        pages = tiff.read_pages(data)
    except tiff.TooManyPagesError as error:
        raise UnsupportedPictureError(f"got a TIFF of {error}, expected fewer; send one page") from error
    if not pages:
        return PictureFile("TIFF", data)
    if tiff.camera_raw(data, pages):
        raise UnsupportedPictureError(
            f"got a camera's raw image (DNG or the like), expected {', '.join(FORMATS)}; develop it and send a JPEG"
        )
    page = tiff.largest(pages)
    why = tiff.unreadable(page)
    if why is not None:
        raise UnsupportedPictureError(f"got {why}; convert it to PNG")
    kind = page.describe() if data[2:4] != b"\0+" else "a BigTIFF of big-endian numbers"
    rare = page.get(tiff.COMPRESSION, 1) not in tiff.USUAL_COMPRESSIONS
    return PictureFile(
        "TIFF",
        tiff.with_first(data, page),
        page.inverted,
        unopened=kind,
        undecoded=kind if rare else None,
        notes=_pages(pages, page),
    )


def _pages(pages: tuple[tiff.Page, ...], page: tiff.Page) -> tuple[Note, ...]:
    """What to know of a file with several pictures: which one was read, and why."""
    if len(pages) == 1:
        return ()
    text, first = f"The file holds {len(pages)} images; the first was read.", pages[0]
    if page is not first:
        text = (
            f"The file holds {len(pages)} images; number {pages.index(page) + 1}, the largest ({page.size[0]} x "
            f"{page.size[1]} px), was read, not the first ({first.size[0]} x {first.size[1]} px)."
        )
    return (Note("pages", "image", text),)


def _unusual_jpeg(data: bytes) -> str | None:
    """What is unusual about a JPEG's first frame."""
    position = 2
    while match := _JPEG_MARKER.search(data, position):
        marker, position = match[1][0], match.end()
        if marker in (0xD9, 0xDA) or position + 10 > len(data):
            return None
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            bits, lines, _, channels = struct.unpack_from(">BHHB", data, position + 2)
            found = [
                _JPEG_FRAMES.get(marker),
                f"{bits}-bit" if bits != 8 else None,
                f"{channels}-channel" if channels not in (1, 3, 4) else None,
                "a height given only at the end" if lines == 0 else None,
            ]
            words = [one for one in found if one]
            return f"a JPEG of an unusual kind ({', '.join(words)})" if words else None
        position += int.from_bytes(data[position : position + 2], "big")
    return None


def _unusual_bmp(data: bytes) -> str | None:
    """What is unusual about a BMP."""
    if len(data) < 34 or struct.unpack_from("<I", data, 14)[0] == 12:
        return None
    bits, compression = struct.unpack_from("<HI", data, 28)
    if bits in _BMP_BITS and compression in _BMP_COMPRESSIONS:
        return None
    return f"a BMP of an unusual kind ({bits} bits, compression {compression})"


def _other(data: bytes, brands: tuple[bytes, ...]) -> UnsupportedPictureError:
    """The refusal of a format, by its name where it has one."""
    named, way = f"{data[:8]!r}...", "convert the file"
    found = next(((name, out) for first, name, out in _OTHERS if data.startswith(first)), None)
    if found is not None:
        named, way = found
    elif brands:
        named, way = "a camera's raw image" if b"crx " in brands else "a film", "save it as JPEG or PNG"
    elif _MARKUP.match(data[:200]):
        named, way = "a web page or drawing (SVG, HTML)", "send a PNG or JPEG of it"
    return UnsupportedPictureError(f"got {named}, expected {', '.join(FORMATS)}; {way}")
