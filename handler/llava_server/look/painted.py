"""Patches hidden in the image itself: their rectangles painted grey, and the model's inputs made anew.

Flow: the images' pixels + the rectangle of every patch -> which pixels each patch covers -> per set of patches painted
images -> the family's inputs and features -> what goes into the first layer. Nothing here knows a family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from llava_doors.family import PatchGrid
from llava_server.look.seen import Seen
from llava_server.run.batch import pad
from llava_server.run.generate import embedded

GREY_LEVEL = 128
Box = tuple[slice, slice]


class Painter:
    """Makes what goes into the first layer when some patches of a run's images are grey.

    Args:
        seen: the run.
        pictures: Pillow's images of mode RGB, upright, those of the run.
    """

    def __init__(self, seen: Seen, pictures: Sequence[Any]) -> None:
        self._seen = seen
        self._pixels = [np.asarray(picture) for picture in pictures]  # [height, width, 3] uint8
        self._places = [place for grid in seen.asked.images.layout.grids for place in covered(grid)]

    def painted(self, kept: npt.NDArray[np.bool_]) -> list[Image.Image]:
        """The images with every pixel grey that lies in a patch that is not kept.

        Args:
            kept: [patch] in the order of the maps.

        Raises:
            ValueError: a patch that is kept would vanish, because patches of another grid hide all of its place.
        """
        hidden = [np.zeros(pixels.shape[:2], np.bool_) for pixels in self._pixels]
        for (image, box), shown in zip(self._places, kept, strict=True):
            if not shown:
                hidden[image][box] = True
        for number, ((image, box), shown) in enumerate(zip(self._places, kept, strict=True)):
            if shown and hidden[image][box].size and hidden[image][box].all():
                raise ValueError(
                    f"keep: got patch {number} kept and all of its place hidden by patches of another grid, expected "
                    "the same places in each grid of an image; hide or show them together"
                )
        return [
            Image.fromarray(np.where(there[..., None], np.uint8(GREY_LEVEL), pixels))
            for there, pixels in zip(hidden, self._pixels, strict=True)
        ]

    def entering(self, kept: torch.Tensor) -> torch.Tensor:
        """[set, position, width]: what goes into the first layer for each set [set, patch] bool of kept patches."""
        seen, loaded = self._seen, self._seen.loaded
        items = []
        for one in kept.numpy(force=True):
            inputs = loaded.family.inputs(loaded.processor, self.painted(one))
            images = replace(seen.asked.images, inputs=inputs)
            items.append(replace(seen.asked, images=images, answer=seen.answer))
        batch = pad(items, loaded.family, loaded.pad_id, loaded.device, loaded.model.dtype)
        return embedded(loaded, batch)[:, : seen.layout.length]


def covered(grid: PatchGrid) -> list[tuple[int, Box]]:
    """Per patch of a grid its image and the pixels whose centres lie in its rectangle, rows and columns.

    No pixel lies in two patches of a grid; a patch of padding alone, or one smaller than a pixel, may have none.
    """
    geometry = grid.geometry
    size = (geometry.width_px, geometry.height_px) * 2
    ends = np.ceil(geometry.patch_rects().reshape(-1, 4) - 0.5).clip(0, size).astype(int)  # x0, y0, x1, y1
    return [(grid.image, (slice(y0, y1), slice(x0, x1))) for x0, y0, x1, y1 in ends.tolist()]
