"""Patch rectangles agree with the processor's own pixels, for any size, rotation, crop, pad and resize."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from llava_doors.parts.resizing import preprocess_of
from llava_server.ask.settings import Limits
from llava_server.read.images import open_image
from llava_server.read.picture_file import open_picture, picture_size
from llava_wire import RequestError
from llava_wire.geometry import Geometry

PATCH = 14
PLAIN = {"do_normalize": False, "do_rescale": True}


def processors() -> dict:
    side = {"height": 112, "width": 112}
    return {
        "crop": CLIPImageProcessorPil(size={"shortest_edge": 112}, crop_size=side, **PLAIN),
        "crop smaller": CLIPImageProcessorPil(size={"shortest_edge": 150}, crop_size=side, **PLAIN),
        "crop larger than the image": CLIPImageProcessorPil(size={"shortest_edge": 90}, crop_size=side, **PLAIN),
        "pad": LlavaImageProcessorPil(do_pad=True, size=side, do_center_crop=False, **PLAIN),
        "pad, then crop": LlavaImageProcessorPil(do_pad=True, size={"shortest_edge": 112}, crop_size=side, **PLAIN),
        "resize": CLIPImageProcessorPil(size=side, do_center_crop=False, **PLAIN),
    }


PROCESSORS = processors()


def coordinates(width: int, height: int) -> Image.Image:
    """Red grows linearly with x, green with y (dithered to 8 bits); blue marks what is picture and not padding."""
    x = (np.arange(width) + 0.5) / width * 200 + 25
    y = (np.arange(height) + 0.5) / height * 200 + 25
    pixels = np.zeros((height, width, 3))
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = x[None, :], y[:, None], 255
    dither = np.random.default_rng(0).random(pixels.shape)
    return Image.fromarray(np.clip(np.floor(pixels + dither), 0, 255).astype(np.uint8))


def rotated_file(upright: Image.Image, orientation: int) -> bytes:
    """A PNG whose stored pixels need this EXIF orientation to look like `upright`."""
    undo = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    stored.save(buffer, "PNG", exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_gives_the_upright_picture(orientation):
    upright = coordinates(60, 40)
    opened = open_picture(rotated_file(upright, orientation), Limits()).pixels
    np.testing.assert_array_equal(np.asarray(opened), np.asarray(upright))


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 8])
def test_the_size_that_a_file_states_is_that_of_its_pixels(fmt, orientation):
    turned = Image.Exif()
    turned[0x0112] = orientation
    buffer = io.BytesIO()
    exif = {} if fmt in ("GIF", "BMP") else {"exif": turned}
    coordinates(60, 40).save(buffer, fmt, **exif)
    data = buffer.getvalue()
    opened = open_picture(data, Limits()).pixels
    assert picture_size(data, Limits()) == opened.size
    assert opened.size == ((40, 60) if exif and orientation >= 5 else (60, 40))


@pytest.mark.parametrize("mode", ["tIME", "behind the pixels"])
def test_a_png_may_say_so_behind_its_pixels(mode):
    turned = Image.Exif()
    turned[0x0112] = 6
    buffer = io.BytesIO()
    coordinates(60, 40).save(buffer, "PNG", exif=turned)
    data = buffer.getvalue()
    start = data.index(b"eXIf") - 4
    chunk = data[start : start + 12 + int.from_bytes(data[start : start + 4], "big")]
    end = data.index(b"IEND") - 4
    if mode == "behind the pixels":
        data = data[:start] + data[start + len(chunk) : end] + chunk + data[end:]
    assert picture_size(data, Limits()) == open_picture(data, Limits()).pixels.size == (40, 60)


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_a_file_without_a_size_is_refused_in_the_words_of_opening_it(data):
    said = []
    for read in (picture_size, open_picture):
        with pytest.raises(RequestError) as caught:
            read(data, Limits())
        said.append((caught.value.code, caught.value.message))
    assert said[0] == said[1]


def prepared(file: bytes, processor: Any) -> tuple[Geometry, np.ndarray]:
    """A file's geometry and what the processor makes of it, [3, H, W]."""
    opened = open_image(file, Limits())
    pixels = processor(images=[opened.pixels], return_tensors="np")["pixel_values"][0]
    return preprocess_of(processor, PATCH).plan(*opened.size_px), pixels


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    width=st.integers(120, 700),
    height=st.integers(120, 700),
    orientation=st.integers(1, 8),
    kind=st.sampled_from(sorted(PROCESSORS)),
)
def test_rectangles_lie_where_the_processor_took_the_pixels(width, height, orientation, kind):
    # At flatter shapes a padded picture may not cover one whole patch, and there is nothing to compare.
    assume(max(width, height) <= 3 * min(width, height))
    processor = PROCESSORS[kind]
    file = rotated_file(coordinates(width, height), orientation)
    geometry, pixels = prepared(file, processor)
    assert (geometry.width_px, geometry.height_px) == (width, height)
    rects = geometry.patch_rects()
    pixels = pixels * 255  # [3, H, W]
    patches = pixels.reshape(3, geometry.rows, PATCH, geometry.cols, PATCH).mean((2, 4))  # [3, row, col]
    x, y = (patches[0] - 25) / 200 * width, (patches[1] - 25) / 200 * height
    centre_x, centre_y = (rects[..., 0] + rects[..., 2]) / 2, (rects[..., 1] + rects[..., 3]) / 2
    # One processed pixel, in original pixels; bicubic resampling bends the ramp near the border by less than that.
    pixel_x = (rects[0, 0, 2] - rects[0, 0, 0]) / PATCH
    pixel_y = (rects[0, 0, 3] - rects[0, 0, 1]) / PATCH
    inside = (rects[..., 0] >= 0) & (rects[..., 1] >= 0) & (rects[..., 2] <= width) & (rects[..., 3] <= height)
    assert inside.any()
    assert np.abs(x - centre_x)[inside].max() <= pixel_x
    assert np.abs(y - centre_y)[inside].max() <= pixel_y
    outside = (rects[..., 2] <= 0) | (rects[..., 3] <= 0) | (rects[..., 0] >= width) | (rects[..., 1] >= height)
    assert (patches[2][outside] < 200).all(), "what lies outside the image must be fill"
    x0, y0, x1, y1 = geometry.seen_rect()
    assert x0 == max(0, rects[..., 0].min())
    assert y1 == min(height, rects[..., 3].max())
    assert x1 > x0
    assert y1 > y0


def test_a_swapped_axis_would_be_noticed():
    """The property above fails when rows and columns are exchanged: the check can fail."""
    processor = PROCESSORS["crop"]
    geometry, pixels = prepared(rotated_file(coordinates(300, 150), 1), processor)
    rects = geometry.patch_rects().transpose(1, 0, 2)
    patches = pixels[0].reshape(8, PATCH, 8, PATCH).mean((1, 3)) * 255
    x = (patches - 25) / 200 * 300
    assert np.abs(x - (rects[..., 0] + rects[..., 2]) / 2).max() > 50
