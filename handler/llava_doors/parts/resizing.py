"""Image processors of transformers that resize, crop and pad a picture to one canvas, as steps of geometry.

Flow: image processor -> `preprocess_of` -> `llava_wire.geometry.Preprocess` -> steps for a size -> `processed_size`.
"""

from __future__ import annotations

from typing import Any

from llava_doors.family import FamilyError
from llava_wire.errors import RequestError
from llava_wire.geometry import Geometry, Preprocess

_NEEDLE = 32
"""How many times longer than the canvas a side may become on the way to it."""


def preprocess_of(image_processor: Any, patch_px: int) -> Preprocess:
    """Reads the settings that move pixels from an image processor of transformers.

    Raises:
        FamilyError: for a setting whose geometry this project does not know.
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
            raise FamilyError(f"processor.size: got {size}, expected shortest_edge or height and width")
    crop = None
    if image_processor.do_center_crop:
        crop_size = image_processor.crop_size
        crop = (int(crop_size["height"]), int(crop_size["width"]))
    square = bool(getattr(image_processor, "do_pad", False))
    if square and not hasattr(image_processor, "pad_to_square"):
        raise FamilyError("processor.do_pad: got True, expected False or LlavaImageProcessor's pad to a square")
    return Preprocess(patch_px, square, shortest, exact, crop)


def processed_size(geometry: Geometry) -> tuple[int, int]:
    """(height, width) in px of what the image processor makes; patches may leave a remainder of it unread."""
    last = geometry.steps[-1] if geometry.steps else geometry
    return last.height_px, last.width_px


def refuse_needles(geometry: Geometry) -> None:
    """Refuses a picture that would be blown up to gigabytes on its way, such as 1 x 60000 px by its shortest edge.

    Raises:
        RequestError: "invalid".
    """
    width, height = geometry.width_px, geometry.height_px
    sides = [max(step.width_px, step.height_px) for step in geometry.steps] or [max(width, height)]
    if max(sides) > _NEEDLE * max(geometry.patch_px * geometry.rows, 1):
        raise RequestError("invalid", "image", f"got {width} x {height} px, expected shapes up to {_NEEDLE}:1; crop it")
