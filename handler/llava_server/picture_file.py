"""A stranger's picture file to upright RGB pixels; every limit is checked before the pixels are decoded.

Flow: bytes -> format by the first bytes -> size, mode, tiles and scans from the headers -> `upright_rgb`.
"""

from __future__ import annotations

import io
import re
import warnings

from PIL import Image as PillowImage

from llava_server.settings import Limits
from llava_wire.errors import RequestError
from llava_wire.upright import MODES, upright_rgb

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_FIRST_BYTES = (
    (b"\x89PNG", "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"RIFF", "WEBP"), (b"GIF8", "GIF"), (b"BM", "BMP"),
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"),
)  # fmt: skip
_MARKER = re.compile(rb"\xff+([^\x00\xff\x01\xd0-\xd8])")
"""The next JPEG marker with a length (or the end marker): not a stuffed byte, a restart or a start."""
_SOS, _EOI = 0xDA, 0xD9
_FULL_SIZE_SCANS = 16
"""Scans of a JPEG that a picture of `max_image_pixels` may have; programs write ten. Each one visits every pixel."""
_TIFF_TILE, _TIFF_BITS = (322, 323), 258

# What Pillow warns of is limited or refused here, and its words would fill a server's log.
warnings.filterwarnings("ignore", module=r"PIL\.")


def open_picture(data: bytes, limits: Limits) -> PillowImage.Image:
    """Decodes a picture file to 8-bit RGB, turned as its EXIF orientation says; the first frame of an animation.

    Raises:
        RequestError: "too_large" by bytes or pixels, "unsupported_media" for other formats, "invalid" when damaged.
        MemoryError: there is no memory for pixels within the limits.
    """
    if len(data) > limits.max_image_bytes:
        raise RequestError(
            "too_large",
            "image",
            f"got {len(data)} bytes, allowed {limits.max_image_bytes}; send a smaller file, the model sees few pixels",
        )
    kind = next((kind for first, kind in _FIRST_BYTES if data.startswith(first)), None)
    if kind is None:
        raise RequestError(
            "unsupported_media", "image", f"got {data[:8]!r}..., allowed {', '.join(FORMATS)}; convert the file"
        )
    try:
        picture = PillowImage.open(io.BytesIO(data), formats=(kind,))
        _check_headers(picture, data, limits)
        # Whatever a header says of metadata is Pillow's own to check; a damaged one does not harm the pixels.
        return upright_rgb(picture)
    except (RequestError, MemoryError):
        raise
    except PillowImage.DecompressionBombError as error:
        raise RequestError("too_large", "image", f"got {error}, allowed {limits.max_image_pixels} pixels") from error
    except PillowImage.UnidentifiedImageError as error:
        raise _damaged("its header is cut or broken") from error
    except Exception as error:
        # Pillow raises many kinds of errors for damaged files: OSError, SyntaxError, ValueError, struct.error.
        raise _damaged(str(error)[:200]) from error


def _check_headers(picture: PillowImage.Image, data: bytes, limits: Limits) -> None:
    """Refuses what would take too much memory or time to decode, or has no defined white."""
    allowed = limits.max_image_pixels
    width, height = picture.size
    pixels = width * height
    if pixels > allowed:
        raise RequestError(
            "too_large", "image", f"got {width} x {height} = {pixels} pixels, allowed {allowed}; scale it down"
        )
    if picture.mode not in MODES:
        raise _too_deep(f"pixels of mode {picture.mode}")
    if picture.format == "TIFF":
        _check_tiff(picture, allowed)
    if picture.format in ("JPEG", "MPO"):
        most = _FULL_SIZE_SCANS * max(1, allowed // max(1, pixels))
        if _scans(data, most) > most:
            raise RequestError(
                "too_large", "image", f"got more than {most} scans of {pixels} pixels, allowed {most}; save it again"
            )


def _check_tiff(picture: PillowImage.Image, allowed: int) -> None:
    """A tile is decoded whole, however little of it lies on the picture; 12 bits are read as if they were 16."""
    tags = picture.tag_v2  # type: ignore[attr-defined]
    tile_width, tile_height = (tags.get(tag) or 1 for tag in _TIFF_TILE)
    across, down = -(-picture.width // tile_width), -(-picture.height // tile_height)
    covered = across * tile_width * down * tile_height
    # Twice, because tiles of the usual sizes reach over the edge of a picture that is as large as is allowed.
    if covered > 2 * allowed:
        raise RequestError(
            "too_large",
            "image",
            f"got tiles of {tile_width} x {tile_height} px that cover {covered} pixels, allowed {2 * allowed}; "
            "save it with smaller ones",
        )
    if picture.mode.startswith("I;16") and tags.get(_TIFF_BITS) not in (None, 16, (16,)):
        raise _too_deep(f"{tags.get(_TIFF_BITS)} bits per channel")


def _scans(data: bytes, most: int) -> int:
    """How many scans a JPEG's first picture has, counted as decoders find them; counting stops above `most`."""
    position = scans = 0
    while scans <= most and (match := _MARKER.search(data, position)):
        marker, position = match[1][0], match.end()
        if marker == _EOI:
            break
        scans += marker == _SOS
        position += int.from_bytes(data[position : position + 2], "big")
    return scans


def _too_deep(what: str) -> RequestError:
    return RequestError("unsupported_media", "image", f"got {what}, allowed 1 to 8 or 16 bits per channel; convert it")


def _damaged(why: str) -> RequestError:
    return RequestError("invalid", "image", f"got a damaged picture ({why}), allowed a whole file; send it again")
