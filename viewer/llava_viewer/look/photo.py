"""The picture inside a report: a record's or a caller's bytes -> a small, metadata-free image as data URIs.

Flow: bytes -> `open_picture` -> upright RGB -> at most `MAX_SIDE_PX` -> PNG or JPEG -> data URI; and a grey thumbnail.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage

from llava_viewer.look.heatmap import data_uri
from llava_viewer.look.picture import PictureError, open_picture
from llava_wire.record import Record

MAX_SIDE_PX = 1600
"""The longest side of a picture in a page, and of the ground of a record without one."""
THUMB_SIDE_PX = 240
_LOSSLESS_PIXELS = 700 * 700
_LOSSLESS_BYTES = 400_000


_PLAIN = "the maps lie on a plain ground"


@dataclass(frozen=True)
class Photo:
    """The embedded picture and its grey thumbnail, as data URIs; `pixels` is the upright RGB picture."""

    uri: str
    thumb_uri: str
    pixels: PillowImage.Image


def ground(record: Record, side_px: int | None = None) -> PillowImage.Image:
    """What maps are drawn on: the record's picture, or a checkered ground where it carries none.

    One that cannot be read is warned of; the maps are whole without it.

    Args:
        side_px: the picture's longer side is at most this; None leaves its own size.
    """
    try:
        if record.picture:
            picture = open_picture(record.picture[1], carried=True)
            return picture if side_px is None else shrink(picture, side_px)
    except PictureError as error:
        warnings.warn(f"the record's image cannot be shown, so {_PLAIN}: {error}", stacklevel=2)
    return checkered(record.geometry.width_px, record.geometry.height_px, min(side_px or MAX_SIDE_PX, MAX_SIDE_PX))


def prepare(data: bytes, *, carried: bool = False) -> Photo:
    """The picture as a report embeds it: small pictures lossless, large ones scaled down and JPEG.

    Args:
        carried: it is a record's own.

    Raises:
        PictureError: the bytes cannot be read as a picture.
    """
    pixels = open_picture(data, carried=carried)
    shown = shrink(pixels, MAX_SIDE_PX)
    encoded, kind = b"", "image/png"
    if shown.width * shown.height <= _LOSSLESS_PIXELS:
        encoded = _encode(shown, "PNG")
    if not encoded or len(encoded) > _LOSSLESS_BYTES:
        encoded, kind = _encode(shown, "JPEG"), "image/jpeg"
    thumb = shrink(pixels, THUMB_SIDE_PX)
    # Paler than the stage's photo but still coloured: answers name colours, and heat must stand out.
    muted = PillowImage.blend(thumb.convert("L").convert("RGB"), thumb, 0.6)
    faded = PillowImage.blend(muted, PillowImage.new("RGB", thumb.size, "white"), 0.12)
    return Photo(data_uri(encoded, kind), data_uri(_encode(faded, "JPEG", 78), "image/jpeg"), pixels)


def page_photo(
    data: bytes | None, *, carried: bool, embed_image: bool, page: str, without: str
) -> tuple[Photo | None, str]:
    """The picture that a page embeds, or none and the sentence that tells its reader why.

    Args:
        data: a picture file, or None where there is none.
        carried: it is a record's own.
        embed_image: False: the page's author wants none.
        page: what the page is called: "report".
        without: what is so where there is none: "This record carries no picture".
    """
    if not embed_image:
        return None, f"The image was left out of this {page} on request."
    if data is None:
        return None, f"{without}; {_PLAIN}."
    try:
        return prepare(data, carried=carried), ""
    except PictureError as error:
        return None, f"The image cannot be shown: {error}"


def shrink(picture: PillowImage.Image, side_px: int) -> PillowImage.Image:
    """The picture with its longer side at most `side_px`; itself when it is small enough."""
    if max(picture.size) <= side_px:
        return picture
    return picture.resize(_shrunk(picture.size, side_px), PillowImage.Resampling.LANCZOS)


def paled(picture: PillowImage.Image) -> PillowImage.Image:
    """A picture paler and greyer, so that heat on it stands out."""
    pixels = np.asarray(picture, np.float32)
    grey = pixels @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    mixed = 0.65 * pixels + 0.35 * grey[..., None]
    return PillowImage.fromarray(np.clip(0.9 * mixed + 0.06 * 255, 0, 255).astype(np.uint8))


def checkered(width_px: int, height_px: int, side_px: int = MAX_SIDE_PX) -> PillowImage.Image:
    """A plain grey checkered ground for records without a picture, RGB; its longer side is at most `side_px`."""
    width_px, height_px = _shrunk((width_px, height_px), side_px)
    step = max(4, min(width_px, height_px) // 16)
    tile = PillowImage.new("RGB", (2 * step, 2 * step), (222, 222, 222))
    for corner in ((0, 0), (step, step)):
        tile.paste((205, 205, 205), (*corner, corner[0] + step, corner[1] + step))
    ground = PillowImage.new("RGB", (width_px, height_px))
    for top in range(0, height_px, 2 * step):
        for left in range(0, width_px, 2 * step):
            ground.paste(tile, (left, top))
    return ground


def _shrunk(size: tuple[int, int], side_px: int) -> tuple[int, int]:
    """A width and height whose longer one is at most `side_px`."""
    scale = min(1.0, side_px / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _encode(picture: PillowImage.Image, kind: str, quality: int = 88) -> bytes:
    buffer = io.BytesIO()
    clean = PillowImage.frombytes(picture.mode, picture.size, picture.tobytes())
    if kind == "PNG":
        clean.save(buffer, "PNG", optimize=True)
    else:
        # No optimize: Pillow's buffer is then too small for noisy pictures.
        clean.save(buffer, "JPEG", quality=quality, subsampling=0 if quality > 85 else 2)
    return buffer.getvalue()
