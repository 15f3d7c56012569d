"""Picture bytes to model input, with the geometry of what the processor did.

Flow: bytes -> `open_picture` -> upright 8-bit RGB picture -> pixel values + `Geometry`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch

from llava_server.ask.settings import Limits, SettingsError
from llava_server.read.picture_file import open_picture
from llava_wire.errors import RequestError
from llava_wire.geometry import Geometry, Preprocess
from llava_wire.schema import Image, Note


@dataclass(frozen=True)
class PreparedImage:
    """A picture ready for the model.

    Args:
        pixels: [1, 3, H, W] float32 on the CPU, normalised.
        facts: size and digests of the original.
        geometry: from the original to the patch grid.
        notes: what the user should know about how the file was read.
    """

    pixels: torch.Tensor
    facts: Image
    geometry: Geometry
    notes: tuple[Note, ...] = ()


def preprocess_of(image_processor: Any, patch_px: int) -> Preprocess:
    """Reads the settings that move pixels from an image processor of transformers.

    Raises:
        SettingsError: for a setting whose geometry this project does not know.
    """
    size = dict(image_processor.size or {})
    size = {key: value for key, value in size.items() if value is not None}
    shortest, exact = None, None
    if image_processor.do_resize:
        if size.keys() == {"shortest_edge"}:
            shortest = int(size["shortest_edge"])
        elif size.keys() == {"height", "width"}:
            exact = (int(size["height"]), int(size["width"]))
        else:
            raise SettingsError(f"processor.size: got {size}, allowed shortest_edge or height and width")
    crop = None
    if image_processor.do_center_crop:
        crop_size = image_processor.crop_size
        crop = (int(crop_size["height"]), int(crop_size["width"]))
    square = bool(getattr(image_processor, "do_pad", False))
    if square and not hasattr(image_processor, "pad_to_square"):
        raise SettingsError("processor.do_pad: got True, allowed False or LlavaImageProcessor's pad to a square")
    return Preprocess(patch_px, square, shortest, exact, crop)


def processed_size(geometry: Geometry) -> tuple[int, int]:
    """(height, width) in px of what the image processor makes; patches may leave a remainder of it unread."""
    last = geometry.steps[-1] if geometry.steps else geometry
    return last.height_px, last.width_px


def prepare_image(data: bytes, image_processor: Any, preprocess: Preprocess, limits: Limits) -> PreparedImage:
    """Decodes a picture and runs the model's own image processor on it.

    Raises:
        RequestError: as `open_picture`, or "invalid" for a shape that the processor cannot handle.
    """
    opened = open_picture(data, limits)
    picture = opened.pixels
    width, height = picture.size
    geometry = preprocess.plan(width, height)
    widest = (
        max(max(step.width_px, step.height_px) for step in geometry.steps) if geometry.steps else max(width, height)
    )
    if widest > 32 * max(preprocess.patch_px * geometry.rows, 1):
        # A 1 x 60000 picture would be blown up to gigabytes by a shortest-edge resize.
        raise RequestError("invalid", "image", f"got {width} x {height} px, allowed shapes up to 32:1; crop it")
    pixels = image_processor(images=[picture], return_tensors="pt")["pixel_values"]  # [1, 3, H, W] float32
    if tuple(pixels.shape) != (1, 3, *processed_size(geometry)):
        raise RuntimeError(f"geometry: got pixel values of {tuple(pixels.shape)}, allowed {processed_size(geometry)}")
    facts = Image(
        width_px=width,
        height_px=height,
        sha256=hashlib.sha256(data).hexdigest(),
        pixels_sha256=hashlib.sha256(picture.tobytes()).hexdigest(),
    )
    return PreparedImage(pixels, facts, geometry, opened.notes)
