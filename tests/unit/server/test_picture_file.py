"""Picture files made to hurt or to be misread: bombs of every format, odd pixels, damage; read right or refused."""

from __future__ import annotations

import io
import random
import re
import resource
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from llava_server.ask.settings import Limits
from llava_server.read.picture_file import open_picture
from llava_viewer.look.picture import PictureError, prepare_picture
from llava_wire import RequestError
from llava_wire.pictures.phones import brands, phone_format
from support.pictures import encoded, phone, png, scene, strip, tiff

LIMITS = Limits()
SMALL = Limits(max_image_bytes=300_000, max_image_pixels=1_000_000)
RAMP = np.linspace(0, 65535, 256).astype(np.uint16)[None, :].repeat(4, 0)


def opened(data: bytes, limits: Limits = LIMITS) -> Image.Image:
    """The pixels that the model sees."""
    return open_picture(data, limits).pixels


def tiled_tiff(side_px: int) -> bytes:
    """A TIFF of 10 x 10 px in one tile of this side, deflated to nothing."""
    data = zlib.compress(bytes(200_000))
    return tiff(
        [(256, 4, [10]), (257, 4, [10]), (258, 3, [8, 8, 8]), (259, 3, [8]), (262, 3, [2]), (277, 3, [3]),
         (322, 4, [side_px]), (323, 4, [side_px]), (324, 4, [2000]), (325, 4, [len(data)])],
        data,
    )  # fmt: skip


def segment(marker: int, data: bytes) -> bytes:
    """One JPEG segment."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg_of_scans(side_px: int, scans: int) -> bytes:
    """A progressive grey JPEG whose scans each visit every pixel and hold almost no data."""
    head = segment(0xDB, b"\0" + b"\1" * 64) + segment(
        0xC2, struct.pack(">BHHBBBB", 8, side_px, side_px, 1, 1, 0x11, 0)
    )
    one_code = bytes([1] + [0] * 15)
    tables = segment(0xC4, b"\x00" + one_code + b"\0") + segment(0xC4, b"\x10" + one_code + b"\xe0")
    refine = segment(0xDA, b"\1\1\0\1\x3f\x10") + b"\x7f"
    return b"\xff\xd8" + head + tables + segment(0xDA, b"\1\1\0\0\0\1") + b"\0" + refine * scans + b"\xff\xd9"


def webp_claiming(side_px: int) -> bytes:
    """A small animated WebP whose header promises a huge canvas."""
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    data = bytearray(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    at = data.index(b"VP8X") + 12
    data[at : at + 6] = (side_px - 1).to_bytes(3, "little") * 2
    return bytes(data)


def gif_claiming(side_px: int) -> bytes:
    """A small GIF whose first frame is larger than its screen."""
    data = bytearray(encoded(Image.new("P", (8, 8)), "GIF"))
    at = data.index(b",", 13)
    data[at + 5 : at + 9] = struct.pack("<HH", side_px, side_px)
    return bytes(data)


def bmp_claiming(side_px: int) -> bytes:
    """A small BMP whose header promises more."""
    data = bytearray(encoded(Image.new("RGB", (8, 8)), "BMP"))
    data[18:26] = struct.pack("<ii", side_px, side_px)
    return bytes(data)


def tiff_claiming(side_px: int) -> bytes:
    """A TIFF of one strip that promises a huge picture."""
    return tiff(
        [(256, 4, [side_px]), (257, 4, [side_px]), (258, 3, [8, 8, 8]), (259, 3, [8]), (262, 3, [2]), (273, 4, [2000]),
         (277, 3, [3]), (278, 4, [side_px]), (279, 4, [200])],
        zlib.compress(bytes(200_000)),
    )  # fmt: skip


BOMBS = {
    "tiff, tiles of 1.2 GB": (tiled_tiff(20_000), "tiles of 20000 x 20000 px that cover 400000000 pixels"),
    "tiff, pixels": (tiff_claiming(50_000), "50000 x 50000 = 2500000000 pixels, expected 40000000"),
    "jpeg, scans": (jpeg_of_scans(6300, 400_000), "more than 16 scans of 39690000 pixels"),
    "jpeg, pixels": (jpeg_of_scans(65_000, 1), "65000 x 65000"),
    "webp, canvas": (webp_claiming(16_383), "16383 x 16383"),
    "gif, frame larger than the screen": (gif_claiming(65_535), "65535 x 65535"),
    "bmp, pixels": (bmp_claiming(30_000), "30000 x 30000"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_are_decoded(name: str) -> None:
    data, says = BOMBS[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RequestError) as caught:
        opened(data)
    assert (caught.value.code, caught.value.field) == ("too_large", "image"), caught.value
    # Pillow refuses the largest before their two sides are known here, and says how many pixels they have.
    first, second = map(int, re.findall(r"\d+", says)[:2])
    by_pillow = f"got {first * second} pixels, expected 40000000; scale it down"
    assert says in caught.value.message or caught.value.message == by_pillow
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000, "KiB that were taken all the same"


def test_ordinary_tiles_and_scans_are_fine() -> None:
    assert opened(tiled_tiff(256)).size == (10, 10)
    progressive = encoded(scene(900, 700, 1), "JPEG", progressive=True, quality=95)
    assert opened(progressive, Limits(max_image_pixels=700_000)).size == (900, 700)
    # A phone's picture with a video behind its end, which holds any bytes.
    assert opened(progressive + segment(0xDA, b"") * 5000, Limits(max_image_pixels=700_000)).size == (900, 700)
    assert opened(jpeg_of_scans(64, 30)).size == (64, 64)


@pytest.mark.parametrize("fmt", ["PNG", "TIFF"])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_16_bits_of_grey_keep_their_upper_half(fmt: str, order: str) -> None:
    mode = {"<u2": "I;16", ">u2": "I;16B"}[order]
    if (fmt, order) == ("PNG", ">u2"):
        mode = "I;16"
    picture = Image.frombytes(mode, (256, 4), RAMP.astype("<u2" if mode == "I;16" else order).tobytes())
    pixels = np.asarray(opened(encoded(picture, fmt)))
    np.testing.assert_array_equal(pixels, (RAMP >> 8)[..., None].repeat(3, -1))


def test_16_bits_of_colour_keep_their_upper_half_too() -> None:
    """A PNG with 16 bits in each of red, green and blue, written by hand."""
    data = png((256, 4), 16, 2, [row.astype(">u2").tobytes() for row in RAMP[..., None].repeat(3, -1)])
    np.testing.assert_array_equal(np.asarray(opened(data)), (RAMP >> 8)[..., None].repeat(3, -1))


@pytest.mark.parametrize("dtype", ["i4", "f4"])
def test_pixels_without_a_white_are_refused(dtype: str) -> None:
    with pytest.raises(RequestError, match="expected 1 to 8 or 16 bits per channel") as caught:
        opened(encoded(Image.fromarray(RAMP.astype(dtype)), "TIFF"))
    assert caught.value.code == "unsupported_media"


@pytest.mark.parametrize("fmt", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb_by_the_plain_formula(fmt: str) -> None:
    options = {"quality": 100, "subsampling": 0} if fmt == "JPEG" else {}
    pixels = np.asarray(opened(encoded(scene(60, 60, 2).convert("CMYK"), fmt, **options)), int)
    assert np.abs(pixels - np.asarray(scene(60, 60, 2), int)).max() <= (8 if fmt == "JPEG" else 1)


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_that_of_pillow_and_a_damaged_block_is_no_orientation(fmt: str) -> None:
    rng = random.Random(fmt)
    picture, lossless = scene(60, 90, 4), {"lossless": True} if fmt == "WEBP" else {}
    for orientation in range(10):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(picture, fmt, exif=exif, **lossless)
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        turned = opened(data)
        assert (turned.size, turned.tobytes()) == (expected.size, expected.tobytes()), orientation
        if fmt == "TIFF":
            continue
        block = bytearray(exif.tobytes())
        for _ in range(30):
            block[rng.randrange(6, len(block))] = rng.randrange(256)
            turned = opened(encoded(picture, fmt, exif=bytes(block), **lossless))
            assert sorted(turned.size) == [60, 90]


SEEDS = [
    encoded(scene(60, 60, 1).convert(mode), fmt, **options)
    for fmt, mode, options in [
        ("PNG", "RGB", {}), ("PNG", "P", {"transparency": 3}), ("PNG", "LA", {}), ("JPEG", "RGB", {}),
        ("JPEG", "CMYK", {}), ("JPEG", "L", {"progressive": True}), ("WEBP", "RGBA", {}), ("GIF", "P", {}),
        ("BMP", "RGB", {}), ("TIFF", "RGB", {}), ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ]
] + [
    tiled_tiff(32), encoded(Image.fromarray(RAMP), "PNG"), encoded(Image.fromarray(RAMP), "PNG", transparency=514),
    encoded(scene(60, 60, 1), "TIFF", save_all=True, append_images=[scene(90, 90, 2).convert("L")]),
    tiff(strip((16, 16), [16], 0), bytes(range(256)) * 2), tiff(strip((16, 16), [16], 0), bytes(range(256)) * 2, ">"),
    encoded(scene(60, 60, 1).convert("P"), "GIF", save_all=True, append_images=[scene(60, 60, 2).convert("P")]),
    encoded(scene(60, 60, 1), "PNG", icc_profile=bytes(2 << 20), save_all=True, append_images=[scene(60, 60, 2)]),
    encoded(scene(60, 60, 1).convert("P"), "PNG", transparency=bytes(range(256))),
    encoded(scene(60, 60, 1).convert("LA"), "TIFF"), encoded(scene(60, 60, 1).convert("CMYK"), "TIFF"),
]  # fmt: skip


def opened_or_refusal(file: bytes) -> Image.Image | RequestError:
    """What comes of a file within small limits; any other exception is a fault."""
    try:
        return opened(file, SMALL)
    except RequestError as error:
        return error


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    data=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=4)), max_size=6),
    cut=st.none() | st.integers(0, 1 << 20),
)
def test_damage_ends_in_pixels_or_in_a_refusal_and_the_client_sees_the_same_pixels(
    data: bytes, changes: list[tuple[int, bytes]], cut: int | None
) -> None:
    damaged = bytearray(data)
    for at, new in changes:
        at %= len(damaged)
        damaged[at : at + len(new)] = new
    file = bytes(damaged if cut is None else damaged[: cut % len(damaged)])
    picture = opened_or_refusal(file)
    if isinstance(picture, RequestError):
        assert picture.field == "image"
        assert picture.status in (413, 415, 422)
        assert "expected" in picture.message
        return
    assert (picture.mode, picture.width * picture.height <= SMALL.max_image_pixels) == ("RGB", True)
    try:
        _, kept = prepare_picture(file)
    except PictureError as error:
        raise AssertionError("the client cannot read what the server can") from error
    assert opened(kept).tobytes() == picture.tobytes()


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM",
                                                 b"RIFF\0\0\0\0WEBPVP8X", b"II*\0\x08\0\0\0", b"MM\0*", b"<svg",
                                                 b"II+\0\x08\0\0\0", b"\0\0\0\x18ftypisom", b"data:"]))  # fmt: skip
def test_noise_behind_any_beginning_is_refused(noise: bytes, first: bytes) -> None:
    with pytest.raises(RequestError):
        opened(first + noise, SMALL)


@given(st.binary(max_size=100), st.integers(0, 2**32 - 1), st.sampled_from([b"avif", b"mif1", b"heic", b"crx ", b""]))
def test_any_brands_are_told_apart_or_refused(noise: bytes, length: int, major: bytes) -> None:
    found = brands(struct.pack(">I", length) + b"ftyp" + major + noise)
    assert len(found) <= 65
    assert phone_format(found) in ("HEIF", "AVIF", None)
    if major in (b"avif", b"heic"):
        assert phone_format(found) == {b"avif": "AVIF", b"heic": "HEIF"}[major]


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
@pytest.mark.parametrize("part", [0.05, 0.5, 0.9])
def test_damage_is_told_in_one_line_without_places_in_memory(kind: str, part: float) -> None:
    whole = phone(kind, scene(96, 96, 1))
    cut = whole[: int(len(whole) * part)]
    with pytest.raises(RequestError) as caught:
        opened(cut)
    assert re.fullmatch(r"got a damaged image \([^\n]+\), expected a whole file; send it again", caught.value.message)
    with pytest.raises(PictureError) as seen:
        prepare_picture(cut)
    for said in (caught.value.message, str(seen.value)):
        assert "0x" not in said
        assert "\n" not in said


def test_only_this_projects_limit_is_named_for_a_huge_picture() -> None:
    head = struct.pack(">IIBBBBB", 20000, 20000, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    with pytest.raises(RequestError) as caught:
        opened(data)
    said = f"got 400000000 pixels, expected {LIMITS.max_image_pixels}; scale it down"
    assert (caught.value.code, caught.value.message) == ("too_large", said)
    with pytest.raises(PictureError, match=r"^image: got 400000000 pixels, expected 80000000; scale it down$"):
        prepare_picture(data)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [0, 1])
def test_bits_in_reversed_order_are_read(bits: int, order: str, photometric: int) -> None:
    row = bytes([0b10010110, 0b00001111, 0b11111110])
    width = len(row) * 8 // bits
    data = bytes(int(f"{one:08b}"[::-1], 2) for one in row)
    tags = strip((width, 1), [bits], photometric, [(266, 3, [2])])
    numbers = "".join(f"{one:08b}" for one in row)
    values = [int(numbers[at : at + bits], 2) * 255 // (2**bits - 1) for at in range(0, len(numbers), bits)]
    wanted = [value if photometric else 255 - value for value in values]
    assert np.asarray(opened(tiff(tags, data, order)))[0, :, 0].tolist() == wanted
