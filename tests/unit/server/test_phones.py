"""HEIC and AVIF: read as any picture, in a process whose memory, time and death cost the worker nothing."""

from __future__ import annotations

import io
import struct
import sys

import numpy as np
import pytest
from PIL import Image, features

from llava_server.ask.settings import Limits
from llava_server.read import apart
from llava_server.read.picture_file import open_picture
from llava_viewer.look.picture import PictureError, prepare_picture
from llava_viewer.look.picture import open_picture as clients
from llava_wire import RequestError
from llava_wire.pictures.kinds import UnsupportedPictureError
from llava_wire.pictures.phones import brands, phone_format
from support.pictures import phone, scene

LIMITS = Limits()


@pytest.mark.parametrize("fmt", ["HEIF", "AVIF"])
def test_a_phones_picture_is_read_and_the_client_keeps_the_same_pixels(fmt: str) -> None:
    data = phone(fmt, scene(121, 90, 1))
    assert phone_format(brands(data)) == fmt
    opened = open_picture(data, LIMITS)
    assert (opened.pixels.mode, opened.pixels.size, opened.notes) == ("RGB", (121, 90), ())
    assert np.abs(np.asarray(opened.pixels, int) - np.asarray(scene(121, 90, 1), int)).mean() < 4
    name, kept = prepare_picture(data)
    assert name == "picture.png"
    assert clients(kept).tobytes() == opened.pixels.tobytes()


@pytest.mark.parametrize("fmt", ["HEIF", "AVIF"])
def test_it_is_turned_and_laid_on_white_like_others(fmt: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = scene(120, 90, 1)
    turned = phone(fmt, picture, exif=exif.tobytes())
    if fmt == "HEIF":
        written = pytest.importorskip("pillow_heif")
        whole = written.from_pillow(picture)
        whole.info["exif"] = exif.tobytes()
        buffer = io.BytesIO()
        whole.save(buffer, quality=95)
        turned = buffer.getvalue()
    opened = open_picture(turned, LIMITS)
    expected = np.asarray(picture.transpose(Image.Transpose.ROTATE_270), int)
    assert opened.pixels.size == (90, 120)
    assert np.abs(np.asarray(opened.pixels, int) - expected).mean() < 4
    assert clients(turned).tobytes() == opened.pixels.tobytes()

    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    clear = open_picture(phone(fmt, picture), LIMITS)
    assert [note.code for note in clear.notes] == ["transparency"]
    assert np.asarray(clear.pixels)[0].min() > 245


def lying(data: bytes, side_px: int) -> bytes:
    """The file with another size in its container than in its picture."""
    changed, at = bytearray(data), 0
    while (at := changed.find(b"ispe", at) + 4) > 3:
        changed[at + 4 : at + 12] = struct.pack(">II", side_px, side_px)
    return bytes(changed)


def opened_or_refusal(data: bytes) -> tuple[int, int] | int:
    """The picture's size in px, or the refusal's status."""
    try:
        return open_picture(data, LIMITS).pixels.size
    except RequestError as error:
        return error.status


@pytest.mark.parametrize("fmt", ["HEIF", "AVIF"])
def test_limits_hold_before_it_is_decoded_and_lies_are_bounded(fmt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    large = phone(fmt, Image.new("RGB", (1800, 1800), (200, 100, 50)), quality=20)
    small = phone(fmt, scene(64, 64, 1))
    assert len(large) < 20_000
    with pytest.raises(RequestError, match="got 1800 x 1800 = 3240000 pixels, expected 1000000") as caught:
        open_picture(large, Limits(max_image_pixels=1_000_000))
    assert caught.value.code == "too_large"
    assert opened_or_refusal(lying(large, 4_000_000)) in (413, 422)
    # What declares 64 x 64 px gets what those take and little more; libheif compares both sizes by itself.
    spare = {"AVIF": 4, "HEIF": 32}[fmt] << 20
    less = f"import answer; import llava_server.read.apart as a; a._SPARE_BYTES = {spare};"
    monkeypatch.setattr(apart, "_START", apart._START.replace("import answer;", less))
    assert opened_or_refusal(small) == (64, 64)
    assert opened_or_refusal(large) == (1800, 1800)
    assert opened_or_refusal(lying(large, 64)) in (413, 422)


@pytest.mark.parametrize("fmt", ["HEIF", "AVIF"])
def test_damaged_ones_are_refused_or_read(fmt: str) -> None:
    whole = phone(fmt, scene(120, 90, 1))
    for file in (whole[: len(whole) // 2], whole[:30], b"".join((whole[:200], b"\xff" * 100, whole[300:]))):
        assert opened_or_refusal(file) in (422, (120, 90))
    with pytest.raises(RequestError, match=r"got a damaged image .* expected a whole file; send it again"):
        open_picture(whole[:30], LIMITS)


def test_an_animated_one_says_that_its_first_picture_was_read() -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    opened = open_picture(phone("AVIF", frames[0], save_all=True, append_images=frames[1:]), LIMITS)
    assert np.asarray(opened.pixels)[5, 5, 0] > 200
    assert [note.code for note in opened.notes] == ["pages"]


@pytest.mark.parametrize(
    ("starts", "status", "says"),
    [
        ("import os; os.abort()", 422, "decoder ended with -6"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 422, "decoder ended with -11"),
        (
            "import resource as r; r.setrlimit(r.RLIMIT_CPU, (1, 2)); exec('while True: pass')",
            413,
            "more memory or time",
        ),
        ("print()", 422, "decoder ended with 0"),
    ],
)
def test_whatever_becomes_of_the_process_is_a_refusal(
    starts: str, status: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "_START", starts)
    with pytest.raises(RequestError) as caught:
        open_picture(b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf", LIMITS)
    assert (caught.value.status, says in caught.value.message) == (status, True), caught.value.message


def test_without_the_decoder_the_format_and_the_way_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for data in (b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic"):
        with pytest.raises(PictureError, match=r"got a HEIC image, .* save it as JPEG, or install pillow-heif"):
            prepare_picture(data)
    with pytest.raises(UnsupportedPictureError, match="got a HEIC image"):
        apart._opened(io.BytesIO(), ("HEIF",))
    monkeypatch.setattr(features, "check", lambda _: False)
    with pytest.raises(PictureError, match=r"got an AVIF image, .* save it as JPEG, or a newer Pillow"):
        prepare_picture(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf")
