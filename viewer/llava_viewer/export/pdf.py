"""Drawings as PDF: one page in its size on paper, the picture of `raster` under text that can be found and copied.

Flow: `Drawing` -> `paint` -> JPEG -> a page; each `Text` once more over its letters, in fonts that draw nothing. Pixels
and not vectors: letters look as they were measured and patches have no seams; who wants vectors takes the SVG. No
dates, so that the same figure is the same bytes.
"""

from __future__ import annotations

import io
import zlib
from itertools import groupby
from pathlib import Path

from llava_viewer.export.drawing import MARGIN, Drawing, Text
from llava_viewer.export.fonts import width
from llava_viewer.export.raster import paint
from llava_viewer.files import MARK, written
from llava_viewer.look.text import visible

_QUALITY = 95
_FONT_CODES = 256
_UNIT = 1000
"""Units of a font in the size of its letters."""


def write_pdf(drawing: Drawing, path: Path, dpi: int) -> None:
    """Writes the drawing as a PDF of one page in its size; `dpi` is that of its picture.

    Raises:
        ValueError: the picture would be too large (`raster.paint`).
    """
    data = pdf_bytes(drawing, dpi)
    with written(path, through_links=False) as partial:
        partial.write_bytes(data)


def pdf_bytes(drawing: Drawing, dpi: int) -> bytes:
    """The whole file: PDF 1.4, as ISO 32000-1 has it."""
    picture, jpeg = paint(drawing, dpi), io.BytesIO()
    picture.save(jpeg, "JPEG", quality=_QUALITY, subsampling=0)
    wide, high = drawing.width + 2 * MARGIN, drawing.height + 2 * MARGIN
    texts = [mark for mark in drawing.marks if isinstance(mark, Text) and _words(mark)]
    letters = sorted({letter for mark in texts for letter in _words(mark)})
    advances = {letter: round(width(letter, _UNIT, fonts=drawing.fonts)) for letter in letters}
    objects: list[bytes] = [b"", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>", b""]

    def add(body: bytes) -> str:
        objects.append(body)
        return f"{len(objects)} 0 R"

    codes = {letter: number for number, letter in enumerate(letters)}
    lines = [_line(mark, codes, advances, high, drawing.fonts) for mark in texts]
    content = f"q {wide:.3f} 0 0 {high:.3f} 0 0 cm /I Do Q\n" + "".join(lines)
    shown = add(_stream("/Filter /FlateDecode", zlib.compress(content.encode())))
    size = f"/Width {picture.width} /Height {picture.height}"
    kind = f"/Type /XObject /Subtype /Image {size} /ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /DCTDecode"
    image = add(_stream(kind, jpeg.getvalue()))
    empty = {advance: add(_stream("", f"{advance} 0 d0".encode())) for advance in sorted(set(advances.values()))}
    fonts = []
    for start in range(0, len(letters), _FONT_CODES):
        own = letters[start : start + _FONT_CODES]
        told = add(_stream("", _told(own)))
        font = add(_font([advances[letter] for letter in own], empty, told))
        fonts.append(f"/F{start // _FONT_CODES} {font}")
    objects[0] = b"<< /Type /Catalog /Pages 2 0 R /ViewerPreferences << /DisplayDocTitle true >> >>"
    objects[2] = (
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {wide:.3f} {high:.3f}] /Contents {shown} "
        f"/Resources << /XObject << /I {image} >> /Font << {' '.join(fonts)} >> >> >>"
    ).encode()
    facts = {"Title": drawing.title, "Subject": drawing.description, "Creator": MARK, "Producer": MARK}
    about = add(b"<< %b >>" % b" ".join(b"/%b %b" % (key.encode(), _string(own)) for key, own in facts.items()))
    return _file(objects, about)


def _words(mark: Text) -> str:
    """What is drawn: one line, as `fonts.font_for` has it."""
    return " ".join(visible(mark.text).splitlines())


def _line(mark: Text, codes: dict[str, int], advances: dict[str, int], high: float, fonts: tuple[str, ...]) -> str:
    """A line of text where its letters are, as wide as these."""
    text = _words(mark)
    wide = width(text, mark.size, mark.weight, fonts)
    bare = sum(advances[letter] for letter in text) * mark.size / _UNIT
    x = mark.x - {"start": 0.0, "middle": wide / 2, "end": wide}[mark.anchor]
    runs = [
        f"/F{font} {mark.size:.3f} Tf <{''.join(f'{codes[letter] % _FONT_CODES:02x}' for letter in run)}> Tj"
        for font, run in groupby(text, lambda letter: codes[letter] // _FONT_CODES)
    ]
    stretched = 100 * wide / bare if bare > 0 else 100
    return f"BT {stretched:.3f} Tz 1 0 0 1 {x + MARGIN:.3f} {high - mark.y - MARGIN:.3f} Tm {' '.join(runs)} ET\n"


def _font(advances: list[int], empty: dict[int, str], told: str) -> bytes:
    """A font with nothing on its letters: of Type 3, which is in the file, so that no reader takes another for it.

    Args:
        advances: of its letters by code, in units.
        empty: the object of a letter as wide as that; told: the object that says which text they are.
    """
    names = " ".join(f"/c{code}" for code in range(len(advances)))
    drawn = " ".join(f"/c{code} {empty[advance]}" for code, advance in enumerate(advances))
    return (
        f"<< /Type /Font /Subtype /Type3 /FontBBox [0 -250 {_UNIT} {_UNIT}] "
        f"/FontMatrix [{1 / _UNIT} 0 0 {1 / _UNIT} 0 0] /CharProcs << {drawn} >> "
        f"/Encoding << /Type /Encoding /Differences [0 {names}] >> /FirstChar 0 /LastChar {len(advances) - 1} "
        f"/Widths [{' '.join(map(str, advances))}] /Resources << >> /ToUnicode {told} >>"
    ).encode()


def _told(letters: list[str]) -> bytes:
    """Which text the codes of a font are: a CMap."""
    pairs = [f"<{code:02x}> <{letter.encode('utf-16-be').hex()}>" for code, letter in enumerate(letters)]
    blocks = [pairs[start : start + 100] for start in range(0, len(pairs), 100)]
    listed = "".join(f"{len(block)} beginbfchar\n" + "\n".join(block) + "\nendbfchar\n" for block in blocks)
    return (
        "/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap\n/CMapName /Text def\n/CMapType 2 def\n"
        "1 begincodespacerange\n<00> <ff>\nendcodespacerange\n"
        f"{listed}endcmap\nCMapName currentdict /CMap defineresource pop\nend\nend"
    ).encode()


def _stream(facts: str, data: bytes) -> bytes:
    return b"<< %b /Length %d >>\nstream\n%b\nendstream" % (facts.encode(), len(data), data)


def _string(text: str) -> bytes:
    data = b"\xfe\xff" + visible(text).encode("utf-16-be")
    for sign in (b"\\", b"(", b")"):
        data = data.replace(sign, b"\\" + sign)
    return b"(%b)" % data.replace(b"\r", b"\\r")


def _file(objects: list[bytes], about: str) -> bytes:
    """Objects behind each other, and where each begins."""
    data, places = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    count = len(objects) + 1
    return bytes(data) + (
        b"xref\n0 %d\n0000000000 65535 f \n%btrailer\n<< /Size %d /Root 1 0 R /Info %b >>\nstartxref\n%d\n%%%%EOF\n"
        % (count, table, count, about.encode(), len(data))
    )
