"""Unusual kinds of whole picture files: read with the right numbers by server and client alike, or refused by name."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from llava_server.ask.settings import Limits
from llava_server.read.picture_file import open_picture
from llava_viewer.look.picture import PictureError, prepare_picture
from llava_viewer.look.picture import open_picture as clients
from llava_wire import RequestError
from support.pictures import chunk, encoded, png, scene, strip, tiff

LIMITS = Limits()
SIDE = 16
RAMP = np.linspace(0, 65535, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE)


def pixels(data: bytes) -> np.ndarray:
    """What the model sees, [H, W, 3]; the client keeps the same."""
    opened = open_picture(data, LIMITS)
    assert clients(data).tobytes() == opened.pixels.tobytes()
    assert clients(prepare_picture(data)[1]).tobytes() == opened.pixels.tobytes()
    return np.asarray(opened.pixels)


def notes(data: bytes) -> list[str]:
    """What the record says of the file."""
    return [note.text for note in open_picture(data, LIMITS).notes]


def refusal(data: bytes) -> RequestError:
    """The server's refusal; the client refuses with the same words."""
    with pytest.raises(RequestError) as caught:
        open_picture(data, LIMITS)
    with pytest.raises(PictureError) as client:
        prepare_picture(data)
    if caught.value.code == "unsupported_media":
        assert str(client.value) == str(caught.value)
    return caught.value


def grey(photometric: int, bits: int, order: str, packed: bool = False) -> bytes:
    """The ramp as a TIFF of grey."""
    values = (RAMP >> (16 - bits)).astype(f"{order}u{bits // 8}").tobytes()
    tags = {tag[0]: tag for tag in strip((SIDE, SIDE), [bits], photometric)}
    if packed:
        values = zlib.compress(values)
        tags[259], tags[279] = (259, 3, [8]), (279, 4, [len(values)])
    return tiff([*tags.values()], values, order)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16])
def test_grey_whose_0_is_white_is_no_negative(bits: int, order: str, packed: bool) -> None:
    upper = (RAMP >> 8)[..., None].repeat(3, -1)
    np.testing.assert_array_equal(pixels(grey(1, bits, order, packed)), upper)
    np.testing.assert_array_equal(pixels(grey(0, bits, order, packed)), 255 - upper)


FLOATS = {
    "64-bit floating-point": strip((4, 4), [64] * 3, 2, [(339, 3, [3, 3, 3])]),
    "32-bit floating-point": strip((4, 4), [32], 1, [(339, 3, [3])]),
    "16-bit floating-point": strip((4, 4), [16] * 3, 2, [(339, 3, [3, 3, 3])]),
    "8-bit signed": strip((4, 4), [8], 1, [(339, 3, [2])]),
    "16-bit signed": strip((4, 4), [16], 1, [(339, 3, [2])]),
    "a TIFF of 32 bits (grey, compression 1), expected 1 to 8 or 16 bits": strip((4, 4), [32], 1),
    "a TIFF of 12 bits": strip((4, 4), [12], 1),
    "a TIFF of 12+12+12 bits (RGB": strip((4, 4), [12] * 3, 2),
    "a TIFF of 5+6+5 bits": strip((4, 4), [5, 6, 5], 2),
    "CIELab": strip((4, 4), [8] * 3, 8),
    "16 bits in planes only when compressed": strip((4, 4), [16] * 3, 2, [(284, 3, [2])]),
    "fewer colours than pixels": strip((4, 4), [8] * 3, 6, [(530, 3, [2, 2])]),
    "does not say whether 0 is black or white": [tag for tag in strip((4, 4), [8], 1) if tag[0] != 262],
    "a TIFF of 8+8+8+8 bits (CMYK": strip((4, 4), [8] * 4, 5, [(332, 3, [2])]),
    "a TIFF of 16+16 bits (grey": strip((4, 4), [16, 16], 1, [(338, 3, [2])]),
    "compression 34892": [*(tag for tag in strip((4, 4), [8] * 3, 2) if tag[0] != 259), (259, 3, [34892])],
    "a camera's raw image": strip((4, 4), [16], 32803),
}


@pytest.mark.parametrize("says", FLOATS)
@pytest.mark.parametrize("order", ["<", ">"])
def test_kinds_of_tiff_that_are_not_read_are_named(says: str, order: str) -> None:
    error = refusal(tiff(FLOATS[says], bytes(4000), order))
    assert (error.status, says in error.message) == (415, True), error.message
    assert "expected" in error.message
    assert ";" in error.message


def test_damage_to_a_tiff_of_a_usual_kind_is_damage() -> None:
    whole = encoded(scene(60, 60, 1), "TIFF", compression="tiff_lzw")
    assert refusal(whole[:4] + whole[-40:]).status == 422
    broken = bytearray(whole)
    at = 8 if struct.unpack_from("<I", whole, 4)[0] != 8 else len(whole) - 400
    broken[at : at + 300] = b"\xff" * 300
    assert refusal(bytes(broken)).status == 422


def two_pages(first: int, second: int, more: Sequence[tuple[int, int, Sequence[int]]] = ()) -> bytes:
    """A TIFF of a black and a white page with these sides; `more` are tags of the second."""
    black, white = bytes(first * first), b"\xff" * (second * second)
    pages = [strip((first, first), [8], 1), strip((second, second), [8], 1, more, at=2000 + len(black))]
    return tiff(pages[0], black + white, "<", pages[1])


def test_of_several_pages_the_largest_is_read_and_the_record_says_so() -> None:
    data = two_pages(8, 24)
    assert pixels(data).shape == (24, 24, 3)
    assert pixels(data).min() == 255
    assert notes(data) == [
        "The file holds 2 images; number 2, the largest (24 x 24 px), was read, not the first (8 x 8 px)."
    ]
    assert pixels(two_pages(24, 8)).max() == 0
    assert notes(two_pages(8, 8)) == ["The file holds 2 images; the first was read."]
    assert notes(two_pages(24, 24, [(254, 4, [4])])) == [], "a mask is no image"


def test_the_larger_page_is_held_to_the_limits() -> None:
    data = two_pages(8, 60)
    with pytest.raises(RequestError, match="got 60 x 60 = 3600 pixels, expected 1000"):
        open_picture(data, Limits(max_image_pixels=1000))


def test_pages_without_end_are_refused() -> None:
    """Directories of no tags, one behind the other; and few of many tags, which overlap."""
    many = b"".join(struct.pack("<HI", 0, 8 + 6 * (index + 1)) for index in range(1200))
    fat = b"".join(struct.pack("<HI", 60_000, 0) for _ in range(100)) + bytes(12 * 60_000)
    for data in (b"II*\0" + struct.pack("<I", 8) + many, b"II*\0" + struct.pack("<I", 8) + fat):
        links = bytearray(data)
        if data.endswith(bytes(12)):
            for index in range(99):
                end = 8 + 6 * index + 2 + 12 * 60_000
                links[end : end + 4] = struct.pack("<I", 8 + 6 * (index + 1))
        with pytest.raises(RequestError, match="more than 1000 pages or 100000 tags") as caught:
            open_picture(bytes(links), LIMITS)
        assert caught.value.status == 415


def test_a_loop_of_pages_ends() -> None:
    data = bytearray(two_pages(8, 24))
    second = data.index(struct.pack("<HHII", 256, 3, 1, 24)) - 2
    end = second + 2 + 12 * 9
    data[end : end + 4] = struct.pack("<I", 8)
    assert pixels(bytes(data)).shape == (24, 24, 3)


def test_a_raw_picture_is_not_read_as_its_thumbnail() -> None:
    """As DNG files are laid out: a thumbnail first, the sensor's pixels in a directory below."""
    raw = strip((32, 32), [16], 32803)
    data = bytearray(tiff(strip((8, 8), [8], 1, [(330, 4, [0])]), bytes(4000), "<", raw))
    at = data.index(struct.pack("<HHI", 330, 4, 1)) + 8
    link = 8 + 2 + 12 * 10
    data[at : at + 4], data[link : link + 4] = data[link : link + 4], bytes(4)
    error = refusal(bytes(data))
    assert (error.status, "camera's raw image (DNG or the like)" in error.message) == (415, True)
    version = tiff(strip((8, 8), [8], 1, [(50706, 3, [1, 4, 0, 0])]), bytes(4000))
    assert refusal(version).status == 415


def test_colour_maps_of_8_bits_are_not_black() -> None:
    colours = [*range(256), *range(255, -1, -1), *([7] * 256)]
    tags = strip((SIDE, SIDE), [8], 3, [(320, 3, colours)])
    data = tiff(tags, bytes(range(256)))
    expected = np.array(colours).reshape(3, 256).T.reshape(SIDE, SIDE, 3)
    np.testing.assert_array_equal(pixels(data), expected)
    deep = tiff([*tags[:-1], (320, 3, [257 * one for one in colours])], bytes(range(256)))
    np.testing.assert_array_equal(pixels(deep), expected)


def jpeg_of(marker: int, bits: int = 8, channels: int = 3, lines: int = 8) -> bytes:
    """A JPEG whose frame header says this; its data is that of a baseline one."""
    data = bytearray(encoded(scene(60, 60, 1), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4], data[at + 9] = marker, bits, channels
    data[at + 5 : at + 7] = struct.pack(">H", lines)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (jpeg_of(0xC1, bits=12), "12-bit"),
        (jpeg_of(0xC0, channels=2), "2-channel"),
        (jpeg_of(0xC5), "hierarchical"),
        (jpeg_of(0xC3, bits=16), "lossless, 16-bit"),
        (jpeg_of(0xF7), "JPEG-LS"),
        (jpeg_of(0xC0, lines=0), "a height given only at the end"),
    ],
)
def test_kinds_of_jpeg_that_are_not_read_are_named(data: bytes, says: str) -> None:
    error = refusal(data)
    assert (error.status, says in error.message) == (415, True), error.message


@pytest.mark.parametrize(("bits", "compression"), [(64, 0), (24, 4), (24, 5), (2, 0)])
def test_kinds_of_bmp_that_are_not_read_are_named(bits: int, compression: int) -> None:
    data = bytearray(encoded(scene(60, 60, 1), "BMP"))
    data[28:34] = struct.pack("<HI", bits, compression)
    error = refusal(bytes(data))
    assert (error.status, f"{bits} bits, compression {compression}" in error.message) == (415, True), error.message


BIG = b"MM\0+\0\x08\0\0" + struct.pack(">QQ", 16, 9) + b"".join(
    struct.pack(">HHQHxxxxxx", tag, 3, 1, value)
    for tag, value in ((256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 1))
) + bytes(8)  # fmt: skip


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\0\0\0\x18ftypcrx \0\0\0\0", "a camera's raw image"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "a film"),
        (b"\xff\x0a" + bytes(40), "a JPEG XL image"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "a sound or film"),
        (BIG, "a BigTIFF of big-endian"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
        (b"  <svg xmlns='http://www.w3.org/2000/svg'/>", "a web page or drawing (SVG, HTML)"),
        (b"<!DOCTYPE html><html>", "a web page or drawing (SVG, HTML)"),
        (b"data:image/png;base64,iVBORw0KGgo", "a data URI"),
        (b"8BPS\0\1", "a Photoshop file"),
        (png((1, 1), 8, 2, [bytes(3)]).replace(chunk(b"IHDR", b"")[4:8], b"CgBI", 1), "a PNG of an iPhone app"),
        (png((1, 1), 16, 2, [bytes(6)], (b"tRNS", bytes(6))), "a PNG with a transparent colour of 16 bits"),
    ],
)
def test_other_formats_are_named_with_the_way_out(data: bytes, says: str) -> None:
    error = refusal(data)
    assert (error.status, f"got {says}" in error.message) == (415, True), error.message


BOMB = zlib.compress(bytes(3 << 20))
CHUNKS = {
    "iCCP": (b"iCCP", b"icc\0\0" + BOMB),
    "zTXt": (b"zTXt", b"Comment\0\0" + BOMB),
    "iTXt": (b"iTXt", b"Comment\0\1\0\0\0" + BOMB),
    "zTXt, EXIF": (b"zTXt", b"Raw profile type exif\0\0" + BOMB),
    "iTXt, XMP": (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB),
    "tEXt": (b"tEXt", b"Comment\0" + b"x" * (3 << 20)),
    "broken iCCP": (b"iCCP", b"icc\0\0\1\2\3"),
    "eXIf": (b"eXIf", b"\xff" * 400),
    "unknown": (b"prVt", b"\1\2\3"),
    "cut acTL": (b"acTL", b"\0"),
    "acTL of none": (b"acTL", bytes(8)),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_metadata_does_not_decide_whether_a_png_is_read(name: str) -> None:
    row = bytes(range(12))
    data = png((4, 2), 8, 2, [row, row], CHUNKS[name])
    np.testing.assert_array_equal(pixels(data).reshape(2, 12), [list(row)] * 2)
    many = png((4, 2), 8, 2, [row, row], *[(b"zTXt", b"XML:com.adobe.xmp\0\0" + zlib.compress(bytes(1 << 20)))] * 90)
    assert pixels(many).shape == (2, 4, 3)


def test_an_orientation_in_a_pngs_text_still_counts() -> None:
    xmp = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp, zip=True)
    info.add_text("Comment", "x" * 100, zip=True)
    assert pixels(encoded(scene(60, 90, 1), "PNG", pnginfo=info)).shape == (60, 90, 3)


def test_an_animation_says_that_its_first_picture_was_read() -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    for fmt in ("PNG", "GIF", "WEBP"):
        data = encoded(
            frames[0], fmt, save_all=True, append_images=frames[1:], **({"lossless": True} if fmt == "WEBP" else {})
        )
        assert pixels(data)[0, 0].tolist() == [255, 0, 0], fmt
        assert notes(data) == ["The file is an animation; its first image was read."]
        assert notes(encoded(frames[0], fmt)) == []


def test_the_client_passes_on_no_warning_of_pillows() -> None:
    palette = scene(60, 60, 2).convert("P")
    files = [
        encoded(palette, "PNG", transparency=bytes(range(256))),
        # Tags with more values than they may have.
        tiff(strip((4, 4), [8], 1, [(282, 4, [1, 2, 3])]), bytes(16)),
        encoded(scene(60, 60, 1), "JPEG").replace(b"JFIF", b"MPF\0", 1),
    ]
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for data in files:
            prepare_picture(data)
    assert [str(one.message) for one in heard] == []
    with warnings.catch_warnings(record=True) as heard, Image.open(io.BytesIO(files[0])) as picture:
        warnings.simplefilter("always")
        picture.convert("RGB")
    assert len(heard) == 1, "Pillow itself warns of the first"
