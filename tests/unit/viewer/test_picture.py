"""The picture of a record: no metadata, upright, and exactly the pixels that the server computed its digest from."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageCms, ImageOps, PngImagePlugin

from llava_viewer.look.picture import PictureError, check_picture, prepare_picture
from llava_wire.record import Record
from support.synthetic import make_picture, make_record

SECRET = b"SECRET-PLACE"


def saved(picture: PillowImage.Image, kind: str, **options: object) -> bytes:
    """The picture as a file's bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int = 1) -> bytes:
    """EXIF data with an orientation and a description."""
    data = PillowImage.Exif()
    data[0x0112] = orientation
    data[0x010E] = SECRET.decode()
    return data.tobytes()


def upright(data: bytes) -> PillowImage.Image:
    """What the server makes of a file: turned, 8-bit RGB; of 16 bits of grey the upper ones."""
    with PillowImage.open(io.BytesIO(data)) as opened:
        if opened.mode == "I;16":
            return PillowImage.fromarray((np.asarray(opened) >> 8).astype(np.uint8)).convert("RGB")
        return ImageOps.exif_transpose(opened).convert("RGB")


def deep(picture: PillowImage.Image) -> PillowImage.Image:
    """The picture in 16 bits of grey."""
    return PillowImage.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)


def profile() -> bytes:
    """An ICC profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def png_with_text(picture: PillowImage.Image) -> bytes:
    """A PNG with a text chunk."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", SECRET.decode())
    return saved(picture, "PNG", pnginfo=info, exif=exif(6))


PICTURE = make_picture(61, 43)
FILES: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: saved(PICTURE, "JPEG", exif=exif(), comment=SECRET, icc_profile=profile()),
    "jpeg, progressive": lambda: saved(PICTURE, "JPEG", exif=exif(), progressive=True, quality=95),
    "jpeg, restarts": lambda: saved(PICTURE, "JPEG", exif=exif(), restart_marker_blocks=2, subsampling=0),
    "jpeg, grey": lambda: saved(PICTURE.convert("L"), "JPEG", exif=exif()),
    "jpeg and more behind it": lambda: saved(PICTURE, "JPEG", exif=exif()) + SECRET,
    "jpeg, fill bytes": lambda: saved(PICTURE, "JPEG").replace(b"\xff\xdb", b"\xff\xff\xff\xdb", 1),
    "two jpegs": lambda: saved(PICTURE, "MPO", save_all=True, append_images=[make_picture(61, 43, 1)], exif=exif()),
}
TURNED: dict[str, Callable[[], bytes]] = {
    **{f"jpeg, turned {n}": lambda n=n: saved(PICTURE, "JPEG", exif=exif(n)) for n in range(2, 9)},  # type: ignore[misc]
    "jpeg, cmyk": lambda: saved(PICTURE.convert("CMYK"), "JPEG", exif=exif()),
    "png": lambda: png_with_text(PICTURE),
    "png, palette": lambda: png_with_text(PICTURE.convert("P")),
    "png, alpha": lambda: png_with_text(PICTURE.convert("RGBA")),
    "png, 16 bit": lambda: saved(deep(PICTURE), "PNG"),
    "webp": lambda: saved(PICTURE, "WEBP", exif=exif(3)),
    "gif": lambda: saved(PICTURE, "GIF", comment=SECRET),
    "tiff": lambda: saved(PICTURE, "TIFF", description=SECRET.decode()),
    "bmp": lambda: saved(PICTURE, "BMP"),
}


@pytest.mark.parametrize("make", FILES.values(), ids=FILES.keys())
def test_an_upright_jpeg_keeps_its_compressed_data(make: Callable[[], bytes]) -> None:
    data = make()
    name, kept = prepare_picture(data)
    assert name == "picture.jpg"
    assert SECRET not in kept
    assert len(kept) <= len(data)
    assert upright(kept).tobytes() == upright(data).tobytes()
    with PillowImage.open(io.BytesIO(kept)) as opened:
        assert not opened.getexif()
        assert "comment" not in opened.info
        assert getattr(opened, "n_frames", 1) == 1
        assert "icc_profile" not in opened.info
    assert prepare_picture(kept) == (name, kept)


@pytest.mark.parametrize("make", TURNED.values(), ids=TURNED.keys())
def test_everything_else_becomes_an_upright_png(make: Callable[[], bytes]) -> None:
    data = make()
    name, kept = prepare_picture(data)
    assert name == "picture.png"
    assert SECRET not in kept
    with PillowImage.open(io.BytesIO(kept)) as opened:
        assert (opened.format, opened.mode, opened.info) == ("PNG", "RGB", {})
    assert upright(kept).tobytes() == upright(data).tobytes()
    assert upright(kept).size == upright(data).size


def test_a_thumbnail_inside_the_jfif_header_goes() -> None:
    data = saved(PICTURE, "JPEG")
    assert data[2:4] == b"\xff\xe0"
    thumbnail = SECRET  # 4 px of RGB
    header = data[6:18] + bytes([2, 2]) + thumbnail
    name, kept = prepare_picture(b"\xff\xd8\xff\xe0" + (2 + len(header)).to_bytes(2, "big") + header + data[20:])
    assert (name, SECRET in kept) == ("picture.jpg", False)
    assert kept == prepare_picture(data)[1]


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"hello", b"\xff\xd8\xff\xd9", saved(PICTURE, "PNG")[:300]])
def test_unreadable_bytes(data: bytes) -> None:
    with pytest.raises(PictureError, match=r"image: got (an unreadable image|b''|b'hello')"):
        prepare_picture(data)


def test_other_formats_of_pillow_are_left_alone() -> None:
    with pytest.raises(PictureError):
        prepare_picture(saved(PICTURE, "EPS"))


def of(data: bytes) -> Record:
    """A record as the server makes it from this file."""
    record, pixels = make_record(words=("A",), reductions=("layers_heads",)), upright(data)
    digests = (hashlib.sha256(data).hexdigest(), hashlib.sha256(pixels.tobytes()).hexdigest())
    image = replace(
        record.facts.image, width_px=pixels.width, height_px=pixels.height, sha256=digests[0], pixels_sha256=digests[1]
    )
    return replace(record, facts=replace(record.facts, images=(image,)))


@pytest.mark.parametrize("make", [*FILES.values(), *TURNED.values()], ids=[*FILES, *TURNED])
def test_the_file_and_its_prepared_copy_are_recognised(make: Callable[[], bytes]) -> None:
    data = make()
    record = of(data)
    assert check_picture(record, data) is None
    assert check_picture(record, prepare_picture(data)[1]) is None


def test_other_pictures_are_not() -> None:
    record = of(saved(PICTURE, "PNG"))
    assert "43 x 61 px, expected the record's 61 x 43 px" in (
        check_picture(record, saved(make_picture(43, 61), "PNG")) or ""
    )
    assert "this is another image, or" in (check_picture(record, saved(make_picture(61, 43, 1), "PNG")) or "")
    assert "edited or saved again" in (check_picture(record, saved(PICTURE, "JPEG", quality=30)) or "")
    with pytest.raises(PictureError, match="image: got b'x'"):
        check_picture(record, b"x")


def test_the_server_computes_the_same_pixels() -> None:
    picture_file = pytest.importorskip(
        "llava_server.read.picture_file", reason="the server's packages are not installed"
    )
    settings = pytest.importorskip("llava_server.ask.settings")
    limits = settings.Limits()
    for name, make in {**FILES, **TURNED}.items():
        data = make()
        assert (
            picture_file.open_picture(data, limits).pixels.tobytes() == upright(prepare_picture(data)[1]).tobytes()
        ), name
