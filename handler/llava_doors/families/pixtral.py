"""Pixtral: one grid that follows the image's shape and size, its rows told apart by tokens of their own.

Flow: size -> fitted into the processor's longest edge, rounded up to whole patches -> resize -> rows of image tokens,
a break token after each and an end token after the last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llava_doors.door import Declaration
from llava_doors.family import Family, FamilyError, Layout, ModelFacts, PatchGrid
from llava_doors.parts.pictures_only import PicturesOnly
from llava_doors.parts.tower import facts_of, patch_bytes
from llava_wire.errors import RequestError
from llava_wire.geometry import Geometry
from llava_wire.grids import Step
from llava_wire.schema import Note

DECLARATION = Declaration(
    "pixtral",
    "Pixtral: a grid of the image's own shape, with break tokens after its rows",
    "llava_doors.families.pixtral:Pixtral",
    traits={"model_types": ("llava",), "sections": ("text_config", "vision_config")},
)
_BREAK, _END = "[IMG_BREAK]", "[IMG_END]"
_BREAKS = (
    "After each row of patches stands a break token, after the last an end token, which stand for no place on the "
    "image; attention to them is told apart, as that to separators."
)


class Pixtral(Family):
    """`LlavaForConditionalGeneration` with Pixtral's vision tower."""

    several = True

    def check(self, config: Any) -> None:
        """See `Family.check`."""
        if config.vision_config.model_type != "pixtral" or config.vision_feature_select_strategy != "full":
            raise FamilyError(
                f"config: got a {config.vision_config.model_type} tower and vision_feature_select_strategy "
                f"{config.vision_feature_select_strategy!r}, expected pixtral and 'full'; take another checkpoint"
            )
        self.config = config

    def check_processor(self, processor: Any) -> None:
        """See `Family.check_processor`."""
        images = processor.image_processor
        longest = dict(images.size).get("longest_edge")
        if not longest or images.do_resize is not True:
            raise FamilyError(
                f"image processor: got longest_edge {longest!r} and do_resize {images.do_resize!r}, expected px and "
                "True; preprocessor_config.json belongs to another model"
            )
        for token in (_BREAK, _END):
            if token not in processor.tokenizer.get_vocab():
                raise FamilyError(f"tokenizer: got no {token}, expected it; the files belong to different models")

    def facts(self, dtype: Any) -> ModelFacts:
        """See `Family.facts`."""
        return facts_of(self.config, dtype)

    def layout(self, processor: Any, sizes_px: Sequence[tuple[int, int]]) -> Layout:
        """See `Family.layout`."""
        words = processor.tokenizer
        after, last = (-1, -1) if words is None else words.convert_tokens_to_ids([_BREAK, _END])
        expansions, grids = [], []
        for image, size in enumerate(sizes_px):
            rows, cols = self._shape(processor.image_processor, size)
            side = self._token_px
            geometry = Geometry(*size, (Step("resize", cols * side, rows * side),), side, rows, cols)
            line = (*(self.image_token_id,) * cols, after)
            expansions.append((*(line * rows)[:-1], last))
            tokens = [row * (cols + 1) + col for row in range(rows) for col in range(cols)]
            grids.append(PatchGrid(image, "base", geometry, tokens))
        return Layout(tuple(expansions), tuple(grids))

    def picture_bytes(self, layout: Layout, dtype: Any) -> int:
        """See `Family.picture_bytes`: all images of a prompt go through the tower together, padded to one size."""
        tallest = max((grid.rows for grid in layout.grids), default=0)
        widest = max((grid.cols for grid in layout.grids), default=0)
        padded = len(layout.grids) * tallest * widest * 3 * self._token_px**2 * (4 + dtype.itemsize)
        patches = layout.patches * self._merged**2
        # A patch sees those of its own image alone, which a mask over all of them says.
        return padded + patches * patch_bytes(self.config, dtype) + patches**2 * 2 * dtype.itemsize

    def inputs(self, processor: Any, pictures: Sequence[Any]) -> dict[str, Any]:
        """See `Family.inputs`."""
        side = self._token_px  # said on each call, as transformers' processor does, whatever the image processor states
        sides = {"height": side, "width": side}
        made = processor.image_processor(images=list(pictures), patch_size=sides, return_tensors="pt")
        shapes = [self._shape(processor.image_processor, picture.size) for picture in pictures]
        found = made["image_sizes"].tolist()
        expected = [[rows * side, cols * side] for rows, cols in shapes]
        if found != expected:
            raise RuntimeError(f"geometry: got sizes {found}, expected {expected}")
        # [image, 3, height, width] float32, padded at the end; [image, 2] int64
        return {"pixel_values": made["pixel_values"], "image_sizes": made["image_sizes"]}

    def features(self, model: Any, inputs: Mapping[str, Any]) -> Any:
        """See `Family.features`."""
        import torch

        return torch.cat(tuple(model.model.get_image_features(**inputs, return_dict=True).pooler_output))

    def model_class(self) -> Any:
        """See `Family.model_class`."""
        from transformers import LlavaForConditionalGeneration

        return LlavaForConditionalGeneration

    def read_processor(self, folder: Path) -> Any:
        """See `Family.read_processor`."""
        return PicturesOnly.read(folder)

    def notes(self) -> tuple[Note, ...]:
        """See `Family.notes`: a break is no patch."""
        return (Note("break-tokens", "model", _BREAKS),)

    def _shape(self, image_processor: Any, size_px: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of an image's tokens.

        Raises:
            RequestError: "invalid", for a needle.
        """
        width, height = size_px
        longest = image_processor.size["longest_edge"]
        # Floats in the processor's own order.
        ratio = max(height / longest, width / longest)
        if ratio > 1:
            width, height = math.floor(width / ratio), math.floor(height / ratio)
        if not (width and height):
            allowed = f"shapes up to {longest}:1; crop it"
            raise RequestError("invalid", "image", f"got {size_px[0]} x {size_px[1]} px, expected {allowed}")
        return (height - 1) // self._token_px + 1, (width - 1) // self._token_px + 1

    @property
    def _merged(self) -> int:
        """How many of the tower's patches lie along a side of what becomes one token."""
        return 1

    @property
    def _token_px(self) -> int:
        """The side of what becomes one token, px."""
        return int(self.config.vision_config.patch_size) * self._merged
