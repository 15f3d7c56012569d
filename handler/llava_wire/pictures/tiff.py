"""Which pictures a TIFF file holds, and of what kind, without decoding any of them.

Flow: bytes -> header -> the chain of directories and those below them -> `Page`s -> the one to read (`largest`) ->
`unreadable` (why its pixels have no one meaning) -> the bytes that a decoder is given (`with_first`).

A decoder reads the first page. It is often the smallest: cameras and scanners put a thumbnail there. So the largest is
made the first one, by writing its place into the header.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_PAGES = 1000
_MAX_ENTRIES = 100_000
"""Directory entries in all: directories may overlap, and a small file could claim any number of them."""
_MAX_VALUES = 768
"""Of one tag: a colour map of 8 bits has as many."""
_SIZES = {1: 1, 3: 2, 4: 4, 8: 2, 9: 4, 13: 4, 16: 8, 18: 8}
"""Bytes of the value types that are read here: whole numbers, of which none is negative, and directories' places."""
_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, SAMPLES, PLANAR = 256, 257, 258, 259, 262, 266, 277, 284
COLOR_MAP, CHILDREN, INKS, SAMPLE_FORMAT, SUBSAMPLING = 320, 330, 332, 339, 530
SUBFILE, DNG_VERSION = 254, 50706
_KEPT = frozenset({WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, SAMPLES, PLANAR, COLOR_MAP, CHILDREN,
                   INKS, SAMPLE_FORMAT, SUBSAMPLING, SUBFILE, DNG_VERSION})  # fmt: skip
_RAW = {32803, 34892}
"""A sensor's pixels, before a colour was made of them."""
_MASK = 4
_PHOTOMETRICS = {0: "grey, white is 0", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "CIELab",
                 9: "ICCLab", 10: "ITULab", 32844: "LogL", 32845: "LogLuv"}  # fmt: skip
_READABLE = frozenset({0, 1, 2, 3, 5, 6})
USUAL_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946})
"""None, fax, LZW, JPEG, deflate and PackBits: those that every decoder knows."""
_FAX = frozenset({2, 3, 4, 32771})
"""Compressions of black and white, which leave no doubt that 0 is white where the file does not say."""


@dataclass(frozen=True)
class Page:
    """One directory: a picture of the file.

    Args:
        offset: where the directory lies.
        tags: the values of the tags that decide size and kind; at most `_MAX_VALUES` of each.
        places: where those values lie in the file.
    """

    offset: int
    tags: dict[int, tuple[int, ...]]
    places: dict[int, int] = field(repr=False)

    def get(self, tag: int, default: int) -> int:
        """A tag's first value."""
        return next(iter(self.tags.get(tag, ())), default)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px."""
        return self.get(WIDTH, 0), self.get(HEIGHT, 0)

    @property
    def pixels(self) -> int:
        """How many pixels it has."""
        return self.size[0] * self.size[1]

    @property
    def photometric(self) -> int:
        """What the numbers mean; 0 where the file does not say, as decoders take it."""
        return self.get(PHOTOMETRIC, 0)

    @property
    def bits(self) -> tuple[int, ...]:
        """Bits of each sample."""
        given = self.tags.get(BITS, (1,))
        return given * min(self.get(SAMPLES, 1), 16) if len(given) == 1 else given

    @property
    def inverted(self) -> bool:
        """Whether it is grey whose 0 is white of a kind that decoders do not turn: 16 bits, or 8 in reversed order."""
        reversed_8 = set(self.bits) == {8} and self.get(FILL_ORDER, 1) == 2
        return self.photometric == 0 and (set(self.bits) == {16} or reversed_8)

    def describe(self) -> str:
        """Its kind in words, for a refusal."""
        named = _PHOTOMETRICS.get(self.photometric, f"photometric {self.photometric}")
        bits = "+".join(str(bits) for bits in self.bits[:8])
        planes = ", in planes" if self.get(PLANAR, 1) == 2 else ""
        return f"a TIFF of {bits} bits ({named}{planes}, compression {self.get(COMPRESSION, 1)})"


class TooManyPagesError(ValueError):
    """More pages, or more entries, than are looked at."""


def read_pages(data: bytes) -> tuple[Page, ...]:
    """The file's pictures: those of the chain, then those below them; without masks. Damage ends the list.

    Raises:
        TooManyPagesError: there are more than `MAX_PAGES`.
    """
    found = tuple(_walk(data))
    return tuple(page for page in found if page.photometric != _MASK and not page.get(SUBFILE, 0) & _MASK)


def largest(pages: tuple[Page, ...]) -> Page:
    """The page with the most pixels, the first of them; `pages` must not be empty."""
    return max(pages, key=lambda page: page.pixels)


def camera_raw(data: bytes, pages: tuple[Page, ...]) -> bool:
    """Whether the file is a camera's raw picture, of which only previews could be read."""
    return data[8:10] == b"CR" or any(page.photometric in _RAW or DNG_VERSION in page.tags for page in pages)


def unreadable(page: Page) -> str | None:
    """What speaks against reading the page's numbers as 8-bit RGB ("got ..., allowed ..."), or None."""
    bits, planar = page.bits, page.get(PLANAR, 1)
    formats = set(page.tags.get(SAMPLE_FORMAT, (1,)))
    if formats != {1}:
        kinds = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
        kind = next((kinds[one] for one in sorted(formats) if one in kinds), "undefined")
        return f"a TIFF of {bits[0]}-bit {kind} numbers, expected 1 to 8 or 16 bits per channel, unsigned"
    if not set(bits) <= {1, 2, 4, 8, 16} or len(set(bits)) > 1:
        return f"{page.describe()}, expected 1 to 8 or 16 bits per channel"
    if PHOTOMETRIC not in page.tags and page.get(COMPRESSION, 1) not in _FAX:
        return "a TIFF that does not say whether 0 is black or white, expected one with PhotometricInterpretation"
    if page.photometric not in _READABLE or (page.photometric == 5 and page.get(INKS, 1) != 1):
        return f"{page.describe()}, expected grey, palette, RGB, CMYK and YCbCr"
    uncompressed = page.get(COMPRESSION, 1) == 1
    if uncompressed and planar == 2 and bits[0] == 16:
        return f"{page.describe()}, expected 16 bits in planes only when compressed"
    if uncompressed and page.photometric == 6 and page.tags.get(SUBSAMPLING, (2, 2)) != (1, 1):
        return f"{page.describe()} with fewer colours than pixels, expected that only when compressed"
    return None


def with_first(data: bytes, page: Page) -> bytes:
    """The file with this page as its first, without what decoders misread.

    Grey of a kind that decoders do not turn, or refuse, when its 0 is white is marked as one whose 0 is black, and
    whoever asks for these bytes turns it. Colour maps of 8 bits, as some programs wrote them, get their 16.
    """
    order, big = _header(data) or ("<", False)
    changed = bytearray(data)
    struct.pack_into(f"{order}{'Q' if big else 'I'}", changed, 8 if big else 4, page.offset)
    if page.inverted and PHOTOMETRIC in page.places:
        struct.pack_into(f"{order}H", changed, page.places[PHOTOMETRIC], 1)
    colours = page.tags.get(COLOR_MAP, ())
    if page.photometric == 3 and colours and max(colours) < 256 and page.bits[0] <= 8:
        struct.pack_into(f"{order}{len(colours)}H", changed, page.places[COLOR_MAP], *(257 * one for one in colours))
    return bytes(changed)


def _header(data: bytes) -> tuple[str, bool] | None:
    """Byte order and whether offsets have 8 bytes; None for what is no TIFF."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 16:
        return None
    magic = struct.unpack_from(f"{order}H", data, 2)[0]
    return (order, magic == 43) if magic in (42, 43) else None


def _walk(data: bytes) -> Iterator[Page]:
    header = _header(data)
    if header is None:
        return
    order, big = header
    waiting: list[int] = [struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)[0]]
    below: list[int] = []
    seen: set[int] = set()
    entries = 0
    while waiting:
        offset = waiting.pop(0)
        read = None if offset == 0 or offset in seen else _directory(data, offset, order, big)
        if read is not None:
            page, count, after = read
            seen.add(offset)
            entries += count
            if len(seen) > MAX_PAGES or entries > _MAX_ENTRIES:
                raise TooManyPagesError(f"more than {MAX_PAGES} pages or {_MAX_ENTRIES} tags")
            yield page
            waiting.append(after)
            below.extend(page.tags.get(CHILDREN, ()))
        if not waiting:
            # Pages below others come after the chain, whose pages people count.
            waiting, below = below, []


def _directory(data: bytes, offset: int, order: str, big: bool) -> tuple[Page, int, int] | None:
    """A directory as (page, number of entries, offset of the next one); None when it is cut."""
    head, entry, link = ("Q", 20, "Q") if big else ("H", 12, "I")
    start = offset + struct.calcsize(head)
    if start > len(data):
        return None
    count = struct.unpack_from(order + head, data, offset)[0]
    end = start + count * entry
    if end + struct.calcsize(link) > len(data):
        return None
    tags: dict[int, tuple[int, ...]] = {}
    places: dict[int, int] = {}
    for at in range(start, end, entry):
        tag, kind = struct.unpack_from(f"{order}HH", data, at)
        if tag not in _KEPT or kind not in _SIZES:
            continue
        number = min(struct.unpack_from(f"{order}{link}", data, at + 4)[0], _MAX_VALUES)
        size, inline = _SIZES[kind], 8 if big else 4
        place = at + 4 + struct.calcsize(link)
        if number * size > inline:
            place = struct.unpack_from(f"{order}{link}", data, place)[0]
        if number == 0 or place + number * size > len(data):
            continue
        tags[tag] = struct.unpack_from(f"{order}{number}{_CODES[size]}", data, place)
        places[tag] = place
    return Page(offset, tags, places), count, struct.unpack_from(order + link, data, end)[0]
