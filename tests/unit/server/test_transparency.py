"""Transparent pictures lie on white, as transformers' own processors lay them, and the record says so."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image
from transformers.image_transforms import convert_to_rgb

from llava_server.ask.settings import Limits
from llava_server.read.images import open_image
from llava_server.read.picture_file import open_picture
from llava_viewer.look.picture import open_picture as clients
from llava_viewer.look.picture import prepare_picture
from support.pictures import encoded, png, scene

LIMITS = Limits()
PALETTE = scene(60, 300, 2).convert("P")
RAMP = Image.linear_gradient("L").resize((60, 300))


def clear(mode: str) -> Image.Image:
    """A scene whose alpha rises from none to full."""
    picture = scene(60, 300, 2).convert(mode.replace("A", ""))
    picture.putalpha(RAMP)
    return picture.convert(mode)


FILES: dict[str, bytes] = {
    "rgba": encoded(clear("RGBA")),
    "la": encoded(clear("LA")),
    "palette, bytes": encoded(scene(60, 300, 2).convert("P"), transparency=bytes(range(256))),
    "palette, one": encoded(PALETTE, transparency=PALETTE.getpixel((0, 0))),
    "grey, one": encoded(RAMP, transparency=128),
    "rgb, one": encoded(scene(60, 300, 2), transparency=(226, 222, 214)),
    "black and white, one": encoded(RAMP.convert("1"), transparency=0),
    "webp": encoded(clear("RGBA"), "WEBP", lossless=True),
    "webp, lossy": encoded(clear("RGBA"), "WEBP"),
    "gif": encoded(PALETTE, "GIF", transparency=PALETTE.getpixel((0, 0))),
    "tiff": encoded(clear("RGBA"), "TIFF"),
    "tiff, grey": encoded(clear("LA"), "TIFF"),
}


@pytest.mark.parametrize("name", FILES)
def test_transparent_parts_are_white_as_transformers_own_processors_make_them(name: str) -> None:
    data = FILES[name]
    opened = open_picture(data, LIMITS)
    with Image.open(io.BytesIO(data)) as picture:
        expected = convert_to_rgb(picture, return_numpy=True)
    np.testing.assert_array_equal(np.asarray(opened.pixels), expected)
    assert [note.code for note in opened.notes] == ["transparency"]
    assert "laid on white" in opened.notes[0].text
    assert clients(prepare_picture(data)[1]).tobytes() == opened.pixels.tobytes()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_full_alpha_is_no_transparency(mode: str) -> None:
    opened = open_picture(encoded(scene(60, 300, 2).convert(mode)), LIMITS)
    assert opened.notes == ()
    assert opened.pixels.tobytes() == scene(60, 300, 2).convert(mode).convert("RGB").tobytes()
    assert open_picture(encoded(scene(60, 60, 2).convert("P"), transparency=bytes([255] * 256)), LIMITS).notes == ()


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_one_transparent_shade_of_grey_of_any_depth(bits: int) -> None:
    """Decoders compare the shade with scaled numbers, or with the upper half of them."""
    shades = {2: [0, 1, 2, 3], 4: [0, 1, 5, 15], 8: [0, 1, 200, 255], 16: [0, 257, 258, 65535]}[bits]
    packed = sum(shade << bits * (3 - index) for index, shade in enumerate(shades)).to_bytes(bits * 4 // 8, "big")
    data = png((4, 1), bits, 0, [packed], (b"tRNS", struct.pack(">H", shades[1])))
    opened = open_picture(data, LIMITS)
    scaled = [shade >> 8 if bits == 16 else shade * 255 // (2**bits - 1) for shade in shades]
    scaled[1] = 255
    assert np.asarray(opened.pixels)[0, :, 0].tolist() == scaled
    assert [note.code for note in opened.notes] == ["transparency"]
    assert clients(data).tobytes() == opened.pixels.tobytes()


def test_around_a_first_frame_that_is_smaller_than_its_screen_lies_white() -> None:
    data = bytearray(encoded(Image.new("RGB", (8, 8), (10, 20, 30)), "GIF"))
    data[6:10] = struct.pack("<HH", 12, 12)
    at = data.index(b",", 13)
    data[at + 1 : at + 5] = struct.pack("<HH", 2, 3)
    opened = open_picture(bytes(data), LIMITS)
    expected = Image.new("RGB", (12, 12), "white")
    expected.paste((10, 20, 30), (2, 3, 10, 11))
    assert opened.pixels.tobytes() == expected.tobytes()
    assert [note.code for note in opened.notes] == ["transparency"]


def test_the_note_reaches_whoever_prepares_the_picture() -> None:
    assert [note.code for note in open_image(FILES["rgba"], LIMITS).notes] == ["transparency"]


@pytest.mark.parametrize(("alpha", "notes"), [(0, []), (1, ["transparency"]), (255, [])])
def test_a_bmp_whose_alpha_is_empty_is_whole(alpha: int, notes: list[str]) -> None:
    """As Windows writes screenshots: 32 bits with a mask for alpha, and nothing in it."""
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, 2, 1, 1, 32, 3, 8, 0, 0, 0, 0) + masks + bytes(52)
    pixels = bytes((30, 20, 10, alpha)) * 2
    data = b"BM" + struct.pack("<IHHI", 14 + 108 + 8, 0, 0, 14 + 108) + header + pixels
    opened = open_picture(data, LIMITS)
    assert [note.code for note in opened.notes] == notes
    if not notes:
        assert np.asarray(opened.pixels).tolist() == [[[10, 20, 30]] * 2]
    else:
        assert np.asarray(opened.pixels).min() > 250
    assert clients(data).tobytes() == opened.pixels.tobytes()
