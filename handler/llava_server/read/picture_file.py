"""A stranger's picture file to upright RGB pixels; every limit is checked before the pixels are decoded.

Flow: bytes -> their number -> `read_upright`, which asks here for size, tiles and scans before it decodes -> pixels.
HEIC and AVIF go to a process of their own (`apart`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

from PIL import Image as PillowImage

from llava_server.ask.settings import Limits
from llava_server.read.apart import ApartError, read_apart
from llava_server.read.picture_parts import TooManyPartsError, check_parts
from llava_wire.errors import RequestError
from llava_wire.pictures.jpeg import scan_refusal
from llava_wire.pictures.kinds import PictureFile, UnsupportedPictureError
from llava_wire.pictures.phones import brands, phone_format
from llava_wire.pictures.upright import Upright, bomb_pixels, damage_of, read_upright, size_refusal, stated_size

_TIFF_SIZE, _TIFF_TILE = (256, 257), (322, 323)

# What Pillow warns of is limited or refused here, and its words would fill a server's log.
warnings.filterwarnings("ignore", module=r"PIL\.")


def open_picture(data: bytes, limits: Limits) -> Upright:
    """Decodes a picture file to 8-bit RGB on white, turned as its EXIF orientation says; the first of an animation.

    Raises:
        RequestError: "too_large" by bytes or pixels, "unsupported_media" for other formats, "invalid" when damaged.
        MemoryError: there is no memory for pixels within the limits.
    """

    def check(picture: PillowImage.Image, file: PictureFile) -> None:
        _check_headers(picture, file.data, limits)

    return _read(data, limits, check)


def _read(data: bytes, limits: Limits, check: Callable[[PillowImage.Image, PictureFile], None]) -> Upright:
    """See `open_picture`; `check` sees the opened file before any pixel is decoded."""
    if len(data) > limits.max_image_bytes:
        raise RequestError(
            "too_large",
            "image",
            f"got {len(data)} bytes, expected {limits.max_image_bytes}; send a smaller file, the model sees few pixels",
        )
    try:
        check_parts(data)
        if phone_format(brands(data)):
            return read_apart(data, limits.max_image_pixels)
        return read_upright(data, PillowImage.open, check)
    except (RequestError, MemoryError, _SizeFound):
        raise
    except TooManyPartsError as error:
        raise RequestError("too_large", "image", str(error)) from error
    except ApartError as error:
        raise RequestError(error.code, "image", str(error)) from error
    except UnsupportedPictureError as error:
        raise RequestError("unsupported_media", "image", str(error)) from error
    except Exception as error:
        bomb = bomb_pixels(error)
        if bomb is not None:
            raise RequestError("too_large", "image", size_refusal(bomb, limits.max_image_pixels)) from error
        # Pillow raises many kinds of errors for damaged files: OSError, SyntaxError, ValueError, struct.error.
        raise _damaged(damage_of(error)) from error


class _SizeFound(Exception):
    """Ends the reading of a file once its size is known."""

    def __init__(self, size_px: tuple[int, int]) -> None:
        super().__init__()
        self.size_px = size_px


def picture_size(data: bytes, limits: Limits) -> tuple[int, int]:
    """Width and height in px that a picture file states, upright, before any pixel is decoded.

    HEIC and AVIF are decoded for it, in their process.

    Raises:
        RequestError: as `open_picture`.
    """

    def stop(picture: PillowImage.Image, file: PictureFile) -> None:
        _check_headers(picture, file.data, limits)
        raise _SizeFound(stated_size(picture, file))

    try:
        size: tuple[int, int] = _read(data, limits, stop).pixels.size
    except _SizeFound as found:
        return found.size_px
    return size


def _check_headers(picture: PillowImage.Image, data: bytes, limits: Limits) -> None:
    """Refuses what would take too much memory or time to decode."""
    allowed = limits.max_image_pixels
    width, height = picture.size
    pixels = width * height
    if pixels > allowed:
        raise RequestError("too_large", "image", size_refusal(pixels, allowed, picture.size))
    if picture.format == "TIFF":
        _check_tiff(picture, allowed)
    if picture.format in ("JPEG", "MPO"):
        refusal = scan_refusal(data, pixels, allowed)
        if refusal is not None:
            raise RequestError("too_large", "image", refusal)


def _check_tiff(picture: PillowImage.Image, allowed: int) -> None:
    """A tile is decoded whole, however little of it lies on the picture."""
    tags = picture.tag_v2  # type: ignore[attr-defined]
    # The tags' size, not the picture's, which may be turned.
    width, height, tile_width, tile_height = (tags.get(tag) or 1 for tag in (*_TIFF_SIZE, *_TIFF_TILE))
    across, down = -(-width // tile_width), -(-height // tile_height)
    covered = across * tile_width * down * tile_height
    # Twice, because tiles of the usual sizes reach over the edge of a picture that is as large as is allowed.
    if covered > 2 * allowed:
        raise RequestError(
            "too_large",
            "image",
            f"got tiles of {tile_width} x {tile_height} px that cover {covered} pixels, expected {2 * allowed}; "
            "save it with smaller ones",
        )


def _damaged(why: str) -> RequestError:
    return RequestError("invalid", "image", f"got a damaged image ({why}), expected a whole file; send it again")
