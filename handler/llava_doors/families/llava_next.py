"""LLaVA-NeXT (1.6): the whole image squeezed to one grid, then the image at the resolution of its best shape, cut into
tiles whose patches make one more grid.

Flow: size -> the canvas of the shape that keeps most of the image -> resize and pad -> tiles, whose patches are put
together row by row -> rows (or columns) of padding alone left out, by the model's own rounding -> a newline token after
each row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llava_doors.door import Declaration
from llava_doors.family import Family, FamilyError, Layout, ModelFacts, PatchGrid
from llava_doors.parts.tower import TowerGrid, facts_of, patch_bytes, patch_grid, tried
from llava_wire.geometry import Geometry
from llava_wire.grids import Step
from llava_wire.schema import Note

DECLARATION = Declaration(
    "llava_next",
    "LLaVA-NeXT (1.6): a grid of the whole image and one of its tiles",
    "llava_doors.families.llava_next:LlavaNext",
    traits={"model_types": ("llava_next",), "sections": ("text_config", "vision_config"), "images": "several"},
)
_TRIAL_SIZES = ((64, 48), (45, 80), (130, 30))
_NEWLINES = (
    "After each row of patches of the detail grid stands a newline token, which stands for no place on the image; "
    "attention to it is told apart, as that to separators."
)
_ENDS = (
    "The last {0} px of each tile of {1} px are in no patch. Drawings of the detail grid put its patches side by side, "
    "less than {0} px of a patch's {2} from where they are; rectangles of patches are exact."
)


class LlavaNext(Family):
    """`LlavaNextForConditionalGeneration`; Granite-Vision, whose tower is SigLIP, is one too."""

    grid: TowerGrid
    several = True

    def check(self, config: Any) -> None:
        """See `Family.check`."""
        self.config, self.grid = config, patch_grid(config)
        side = config.vision_config.image_size
        if self.grid.lead:
            raise FamilyError(
                "config.vision_feature_select_strategy: got 'full' with a class token, expected 'default', because "
                "tiles are put together patch by patch; correct the configuration"
            )
        shapes = config.image_grid_pinpoints
        if not shapes or any(len(shape) != 2 or any(px <= 0 or px % side for px in shape) for shape in shapes):
            raise FamilyError(
                f"config.image_grid_pinpoints: got {shapes!r:.120}, expected pairs of height and width in whole tiles "
                f"of {side} px; correct the configuration"
            )

    def check_processor(self, processor: Any) -> None:
        """See `Family.check_processor`; runs it on a few images."""
        from PIL import Image

        shapes = getattr(processor.image_processor, "image_grid_pinpoints", None)
        if [tuple(shape) for shape in shapes or ()] != [tuple(shape) for shape in self.config.image_grid_pinpoints]:
            raise FamilyError(
                f"image processor: got image_grid_pinpoints {shapes!r:.120}, expected the configuration's, "
                f"{self.config.image_grid_pinpoints!r:.120}; the files belong to different models"
            )
        for size in _TRIAL_SIZES:
            made = tuple(tried(processor.image_processor, Image.new("RGB", size))["pixel_values"].shape)
            if made != (wanted := (1, *self._shape([size]))):
                raise FamilyError(
                    f"image processor: got pixel values of {list(made)} for an image of {size[0]} x {size[1]} px, "
                    f"expected {list(wanted)}, which the vision tower takes (config.vision_config.image_size); "
                    "preprocessor_config.json belongs to another model"
                )

    def facts(self, dtype: Any) -> ModelFacts:
        """See `Family.facts`."""
        return facts_of(self.config, dtype)

    def layout(self, processor: Any, sizes_px: Sequence[tuple[int, int]]) -> Layout:
        """See `Family.layout`."""
        expansions, grids, whole = [], [], self.grid.rows * self.grid.cols
        for image, (width, height) in enumerate(sizes_px):
            grids.append(PatchGrid(image, "base", self._base(width, height), range(whole)))
            detail = self._shown(self._detail(width, height))
            rows, cols = detail.rows, detail.cols
            if rows and cols:  # of a needle nothing is left of the tiles
                tokens = [whole + row * (cols + 1) + col for row in range(rows) for col in range(cols)]
                grids.append(PatchGrid(image, "detail", detail, tokens))
            expansions.append((self.image_token_id,) * (whole + rows * (cols + 1)))
        return Layout(tuple(expansions), tuple(grids))

    def picture_bytes(self, layout: Layout, dtype: Any) -> int:
        """See `Family.picture_bytes`: the tiles of all images of a prompt go through the vision tower together."""
        sizes = [(one.geometry.width_px, one.geometry.height_px) for one in layout.grids if one.name == "base"]
        tiles, patches = self._tiles(sizes), self.grid.rows * self.grid.cols + 1
        pixels = 3 * self.grid.side_px**2 * (4 + dtype.itemsize)
        # Images of fewer tiles are filled up with black ones until the model sorts these out.
        filled = len(tiles) * max(tiles, default=0)
        return filled * pixels + sum(tiles) * patches * patch_bytes(self.config, dtype)

    def inputs(self, processor: Any, pictures: Sequence[Any]) -> dict[str, Any]:
        """See `Family.inputs`."""
        made = processor.image_processor(images=list(pictures), return_tensors="pt", do_pad=True)
        sizes = [picture.size for picture in pictures]
        found = tuple(made["pixel_values"].shape), made["image_sizes"].tolist()
        expected = (len(sizes), *self._shape(sizes)), [[height, width] for width, height in sizes]
        if found != expected:
            raise RuntimeError(f"geometry: got pixel values and sizes {found}, expected {expected}")
        # [image, tile, 3, height, width] float32, the squeezed image first; [image, 2] int64
        return {"pixel_values": made["pixel_values"], "image_sizes": made["image_sizes"]}

    def features(self, model: Any, inputs: Mapping[str, Any]) -> Any:
        """See `Family.features`."""
        import torch

        return torch.cat(tuple(model.model.get_image_features(**inputs, return_dict=True).pooler_output))

    def model_class(self) -> Any:
        """See `Family.model_class`."""
        from transformers import LlavaNextForConditionalGeneration

        return LlavaNextForConditionalGeneration

    def notes(self) -> tuple[Note, ...]:
        """See `Family.notes`: a newline token is no patch, and the end of a tile may be in none."""
        notes = [Note("newline-tokens", "model", _NEWLINES)]
        if gap := self.grid.side_px % self._patch_px:
            notes.append(Note("tile-ends", "model", _ENDS.format(gap, self.grid.side_px, self._patch_px)))
        return tuple(notes)

    def _shape(self, sizes_px: Sequence[tuple[int, int]]) -> tuple[int, int, int, int]:
        """(tiles, channels, height, width) that the processor makes of each of these images together."""
        return max(self._tiles(sizes_px)), 3, self.grid.side_px, self.grid.side_px

    def _tiles(self, sizes_px: Sequence[tuple[int, int]]) -> list[int]:
        """Tiles of each of a prompt's images, the squeezed one included."""
        canvases = [self._canvas(*size) for size in sizes_px]
        return [1 + (wide // self.grid.side_px) * (tall // self.grid.side_px) for wide, tall in canvases]

    def _canvas(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the canvas that is cut into tiles, px."""
        from transformers.image_processing_utils import select_best_resolution

        tall, wide = select_best_resolution((height, width), self.config.image_grid_pinpoints)
        return wide, tall

    def _base(self, width: int, height: int) -> Geometry:
        side = self.grid.side_px
        squeezed = (Step("resize", side, side),)
        return Geometry(width, height, squeezed, self._patch_px, self.grid.rows, self.grid.cols)

    def _detail(self, width: int, height: int) -> Geometry:
        """From an image to the patches of its tiles that are left; none of either, rows or columns, for a needle."""
        wide, tall = self._canvas(width, height)
        x_scale, y_scale = wide / width, tall / height
        if x_scale < y_scale:
            size = wide, min(math.ceil(height * x_scale), tall)
        else:
            size = min(math.ceil(width * y_scale), wide), tall
        side, px = self.grid.side_px, self._patch_px
        rows, cols, gap = tall // side * self.grid.rows, wide // side * self.grid.cols, side % px
        kept = cols * px, rows * px
        top = left = 0
        # The model rounds on its own, on the grid of patches; floats in its own order.
        if width / height > cols / rows:
            top = (rows - int(round(height * (cols / width), 7))) // 2
        else:
            left = (cols - int(round(width * (rows / height), 7))) // 2
        rows, cols = rows - 2 * top, cols - 2 * left
        steps = (
            Step("resize", *size),
            Step("pad", wide, tall, (wide - size[0]) // 2, (tall - size[1]) // 2),
            *([Step("trim", *kept, gap, gap)] if gap else []),
            Step("crop", cols * px, rows * px, left * px, top * px),
        )
        return Geometry(width, height, steps, px, rows, cols)

    def _shown(self, detail: Geometry) -> Geometry:
        """The detail grid as the text model gets it."""
        return detail

    @property
    def _patch_px(self) -> int:
        return int(self.config.vision_config.patch_size)
