"""LLaVA-OneVision: one image as LLaVA-NeXT on many tiles, large ones pooled; several images, each one padded grid.

Flow: one size -> the detail grid of `llava_next` -> beyond so many tiles' patches, a smaller grid interpolated from it;
several sizes -> each on a square canvas, squeezed to one tile, a newline token after it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llava_doors.door import Declaration
from llava_doors.families.llava_next import LlavaNext
from llava_doors.family import FamilyError, Layout, PatchGrid
from llava_doors.parts.pictures_only import PicturesOnly
from llava_doors.parts.resizing import refuse_needles
from llava_wire.geometry import Geometry, Preprocess
from llava_wire.grids import Step
from llava_wire.schema import Note

DECLARATION = Declaration(
    "llava_onevision",
    "LLaVA-OneVision: a grid of the whole image and one of its tiles, pooled where it is large",
    "llava_doors.families.llava_onevision:LlavaOnevision",
    traits={"model_types": ("llava_onevision",), "sections": ("text_config", "vision_config")},
)
_LEAST_POOLING = 1.1
_POOLED = (
    "A detail grid of more patches than {0} tiles have is interpolated from a finer one: each patch is made of two of "
    "its patches a side, which reach beyond its rectangle by less than one of these."
)
_SEVERAL = "In a prompt of several images each is one grid without detail, and a newline token follows it."


class LlavaOnevision(LlavaNext):
    """`LlavaOnevisionForConditionalGeneration`; videos are not served."""

    _most: int
    """Tiles whose patches are the most that a detail grid has, give or take a fifth."""

    def check(self, config: Any) -> None:
        """See `Family.check`."""
        super().check(config)
        stated = re.fullmatch("anyres_max_([1-9][0-9]{0,3})", str(config.vision_aspect_ratio))
        if stated is None:
            raise FamilyError(
                f"config.vision_aspect_ratio: got {config.vision_aspect_ratio!r}, expected 'anyres_max_9' or with "
                "another number; take another checkpoint"
            )
        self._most = int(stated[1])

    def layout(self, processor: Any, sizes_px: Sequence[tuple[int, int]]) -> Layout:
        """See `Family.layout`."""
        if len(sizes_px) == 1:
            return super().layout(processor, sizes_px)
        patches, side = self.grid.rows * self.grid.cols, self.grid.side_px
        squared = Preprocess(self._patch_px, pad_to_square=True, exact_size=(side, side))
        grids = []
        for image, size in enumerate(sizes_px):
            geometry = squared.plan(*size)
            refuse_needles(geometry)
            grids.append(PatchGrid(image, "base", geometry, range(patches)))
        return Layout(((self.image_token_id,) * (patches + 1),) * len(grids), tuple(grids))

    def inputs(self, processor: Any, pictures: Sequence[Any]) -> dict[str, Any]:
        """See `Family.inputs`."""
        # A list in a list: pictures of one prompt, which only a picture that is alone is cut into tiles of.
        made = processor.image_processor(images=[list(pictures)], return_tensors="pt", do_pad=True)
        sizes = [picture.size for picture in pictures]
        found = tuple(made["pixel_values"].shape), made["image_sizes"].tolist()
        expected = (len(sizes), *self._shape(sizes)), [[height, width] for width, height in sizes]
        if found != expected:
            raise RuntimeError(f"geometry: got pixel values and sizes {found}, expected {expected}")
        return {name: made[name] for name in ("pixel_values", "image_sizes", "batch_num_images")}

    def model_class(self) -> Any:
        """See `Family.model_class`."""
        from transformers import LlavaOnevisionForConditionalGeneration

        return LlavaOnevisionForConditionalGeneration

    def read_processor(self, folder: Path) -> Any:
        """See `Family.read_processor`."""
        return PicturesOnly.read(folder)

    def notes(self) -> tuple[Note, ...]:
        """See `Family.notes`."""
        pooled = Note("pooled-detail", "model", _POOLED.format(self._most))
        return (*super().notes(), pooled, Note("several-images", "model", _SEVERAL))

    def _tiles(self, sizes_px: Sequence[tuple[int, int]]) -> list[int]:
        return super()._tiles(sizes_px) if len(sizes_px) == 1 else [1] * len(sizes_px)

    def _shown(self, detail: Geometry) -> Geometry:
        """The detail grid after pooling, whose patches share the finer grid's extent evenly."""
        # Floats in the model's own order.
        ratio = math.sqrt(detail.rows * detail.cols / (self._most * self.grid.rows**2))
        if ratio <= _LEAST_POOLING:
            return detail
        rows, cols = int(detail.rows // ratio), int(detail.cols // ratio)
        pooled = Step("resize", cols * self._patch_px, rows * self._patch_px)
        return replace(detail, steps=(*detail.steps, pooled), rows=rows, cols=cols)
