"""Pictures from strangers: limits before decoding, one clear error each, 8-bit RGB out."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from llava_doors.family import FamilyError
from llava_doors.parts.resizing import preprocess_of, refuse_needles
from llava_server.ask.settings import Limits
from llava_server.read.images import open_image
from llava_server.read.picture_file import open_picture
from llava_wire import RequestError
from support.pictures import encoded, scene

LIMITS = Limits(max_image_bytes=300_000, max_image_pixels=1_000_000)
PROCESSOR = CLIPImageProcessorPil(size={"shortest_edge": 96}, crop_size={"height": 96, "width": 96})


def png_claiming(width: int, height: int) -> bytes:
    """A tiny PNG whose header promises a huge picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


WHOLE = encoded(scene(120, 90, 1))


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        (b"\0" * 300_001, 413, "got 300001 bytes, expected 300000"),
        (png_claiming(5000, 5000), 413, "got 5000 x 5000 = 25000000 pixels, expected 1000000"),
        (png_claiming(60000, 60000), 413, "expected 1000000; scale it down"),
        (b"just some text", 415, "expected PNG, JPEG"),
        (b"%PDF-1.7 ....", 415, "got a PDF, expected PNG, JPEG"),
        (b"just some text", 415, "convert the file"),
        (WHOLE[: len(WHOLE) // 2], 422, "damaged"),
        (WHOLE[:30], 422, "damaged"),
        (encoded(scene(120, 90, 1), "JPEG")[:600], 422, "damaged"),
    ],
)
def test_unusable_pictures_are_refused_with_the_number_or_the_formats(data, status, says):
    with pytest.raises(RequestError) as caught:
        open_picture(data, LIMITS)
    assert (caught.value.status, caught.value.field) == (status, "image")
    assert says in caught.value.message


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_allowed_format_opens_as_rgb(fmt):
    picture = open_picture(encoded(scene(120, 90, 1), fmt), LIMITS).pixels
    assert (picture.mode, picture.size) == ("RGB", (120, 90))
    error = np.abs(np.asarray(picture, int) - np.asarray(scene(120, 90, 1), int)).mean()
    assert error < 6


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_every_mode_becomes_rgb(mode):
    picture = scene(120, 90, 2).convert(mode)
    fmt = "TIFF" if mode == "CMYK" else "PNG"
    assert open_picture(encoded(picture, fmt), LIMITS).pixels.mode == "RGB"


def test_an_animation_is_its_first_frame():
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    assert open_picture(buffer.getvalue(), LIMITS).pixels.getpixel((5, 5)) == (255, 0, 0)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (96, 96), (97, 500)])
def test_small_and_odd_sizes_are_prepared(size):
    data = encoded(Image.new("RGB", size, "green"))
    opened = open_image(data, LIMITS)
    refuse_needles(preprocess_of(PROCESSOR, 12).plan(*opened.size_px))
    assert PROCESSOR(images=[opened.pixels], return_tensors="np")["pixel_values"].shape == (1, 3, 96, 96)
    assert (opened.facts.width_px, opened.facts.height_px) == opened.size_px == size
    assert opened.facts.sha256 == hashlib.sha256(data).hexdigest()


def test_a_needle_is_refused_before_it_is_blown_up():
    with pytest.raises(RequestError, match="shapes up to 32:1") as caught:
        refuse_needles(preprocess_of(PROCESSOR, 12).plan(9000, 2))
    assert caught.value.status == 422


def test_unknown_processor_geometry_is_refused_at_load():
    odd = CLIPImageProcessorPil(size={"shortest_edge": 96, "longest_edge": 200}, crop_size={"height": 96, "width": 96})
    with pytest.raises(FamilyError, match=r"processor\.size"):
        preprocess_of(odd, 12)
