"""What a request calls its images where each name comes once: over gRPC, in errors, in a client's own fields.

Forms repeat `image` and JSON has a list under it; there the order is the number.
"""

from __future__ import annotations

import re

_FURTHER = re.compile(r"image_[1-9][0-9]*")


def image_field(number: int) -> str:
    """The name of a request's image of this number, counted from 0: "image", "image_2", "image_3"."""
    return "image" if number == 0 else f"image_{number + 1}"


def is_image_field(name: str) -> bool:
    """Whether a field of this name holds an image."""
    return name == "image" or _FURTHER.fullmatch(name) is not None
