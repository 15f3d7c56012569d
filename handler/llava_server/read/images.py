"""Picture files to what a family makes its inputs of.

Flow: bytes -> `open_picture` -> upright 8-bit RGB picture with its facts -> all pictures of a prompt, their layout and
the model's inputs together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llava_doors.family import Layout
from llava_server.ask.settings import Limits
from llava_server.read.picture_file import open_picture
from llava_wire.schema import Image, Note


@dataclass(frozen=True)
class OpenedImage:
    """One picture, decoded.

    Args:
        pixels: Pillow's image of mode RGB, upright.
        facts: size and digests of the original.
        notes: what the user should know about how the file was read.
    """

    pixels: Any
    facts: Image
    notes: tuple[Note, ...] = ()

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        return self.facts.width_px, self.facts.height_px


@dataclass(frozen=True)
class PreparedImages:
    """The pictures of one prompt, ready for the model.

    Args:
        inputs: what the family's `features` takes: tensors by name, on the CPU.
        layout: tokens and grids, with the geometry of each grid.
        facts: of each picture.
        notes: what the user should know about how the files were read.
    """

    inputs: Mapping[str, Any]
    layout: Layout
    facts: tuple[Image, ...]
    notes: tuple[Note, ...] = ()


def open_image(data: bytes, limits: Limits) -> OpenedImage:
    """Decodes a picture file.

    Raises:
        RequestError: as `open_picture`.
        MemoryError: there is no memory for pixels within the limits.
    """
    opened = open_picture(data, limits)
    picture = opened.pixels
    facts = Image(
        width_px=picture.size[0],
        height_px=picture.size[1],
        sha256=hashlib.sha256(data).hexdigest(),
        pixels_sha256=hashlib.sha256(picture.tobytes()).hexdigest(),
    )
    return OpenedImage(picture, facts, opened.notes)
