"""Idefics 3, SmolVLM and SmolVLM 2: an image at one length, cut into tiles, then the whole of it.

Flow: size -> the longest edge at its length -> squeezed to whole tiles -> tile by tile, behind words that say its row
and column, its patches, merged to tokens -> behind a word of its own, the same squeezed to one tile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llava_doors.door import Declaration
from llava_doors.family import Family, FamilyError, Layout, ModelFacts, PatchGrid
from llava_doors.parts.decoder import text_facts
from llava_doors.parts.pictures_only import PicturesOnly
from llava_wire.geometry import Geometry
from llava_wire.grids import Step
from llava_wire.schema import Note

DECLARATION = Declaration(
    "idefics3",
    "Idefics 3, SmolVLM: a grid of an image's tiles and one of the whole image, words between tiles",
    "llava_doors.families.idefics3:Idefics3",
    traits={"model_types": ("idefics3", "smolvlm"), "sections": ("text_config", "vision_config")},
)
_MOST_PX = 4096
"""Beyond it the processor lets no edge grow, whatever its size says."""
_FAKE, _GLOBAL = ("fake_image_token", "<fake_token_around_image>"), ("global_image_token", "<global-img>")
"""Where a tokenizer may name a word, and the word otherwise."""
_WORDS = (
    "Before each tile of the image, and around the whole of it, stand words that say so, and a line break after each "
    "row of tiles; they stand for no place on the image, and attention to them is told apart, as that to separators."
)
_ENDS = (
    "The last {0} px of each tile of {1} px are in no patch. Drawings of the detail grid put its patches side by side, "
    "less than {0} px of a patch's {2} from where they are; rectangles of patches are exact."
)


class Idefics3(Family):
    """`Idefics3ForConditionalGeneration` and `SmolVLMForConditionalGeneration`; videos are not served."""

    several = True

    def check(self, config: Any) -> None:
        """See `Family.check`."""
        side, patch, scale = config.vision_config.image_size, config.vision_config.patch_size, config.scale_factor
        whole = all(isinstance(one, int) and one > 0 for one in (side, patch, scale))
        if not whole or side < patch or side // patch % scale:
            raise FamilyError(
                f"config: got image_size {side!r}, patch_size {patch!r} and scale_factor {scale!r}, expected px and a "
                "number that divides the patches along a side of a tile; correct the configuration"
            )
        self.config = config

    def check_processor(self, processor: Any) -> None:
        """See `Family.check_processor`."""
        images, side = processor.image_processor, self._tile_px
        longest, tile = (dict(size).get("longest_edge") for size in (images.size, images.max_image_size))
        if not longest or (tile, images.do_resize) != (side, True):
            raise FamilyError(
                f"image processor: got longest_edge {longest!r}, max_image_size {tile!r} and do_resize "
                f"{images.do_resize!r}, expected px, {side} (config.vision_config.image_size) and True; "
                "preprocessor_config.json belongs to another model"
            )
        fake = _word(processor.tokenizer, _FAKE)
        if fake not in processor.tokenizer.get_vocab():
            raise FamilyError(f"tokenizer: got no {fake}, expected it; the files belong to different models")

    def facts(self, dtype: Any) -> ModelFacts:
        """See `Family.facts`."""
        return text_facts(self.config.text_config, dtype)

    def layout(self, processor: Any, sizes_px: Sequence[tuple[int, int]]) -> Layout:
        """See `Family.layout`."""
        expansions, grids, side, per = [], [], self._token_px, self._per_tile
        for image, size in enumerate(sizes_px):
            steps, down, across = self._tiles(processor.image_processor, size)
            expansion: list[int] = []
            starts = []
            *marks, end = _marks(processor.tokenizer, down, across)
            for mark in marks:
                expansion += mark
                starts.append(len(expansion))
                expansion += [self.image_token_id] * per**2
            expansions.append((*expansion, *end))
            if down:
                rows, cols = down * per, across * per
                kept, gap = (cols * side, rows * side), self._tile_px - per * side
                detail = (*steps, *([Step("trim", *kept, gap, gap)] if gap else []))
                tokens = [
                    starts[row // per * across + col // per] + row % per * per + col % per
                    for row in range(rows)
                    for col in range(cols)
                ]
                grids.append(PatchGrid(image, "detail", Geometry(*size, detail, side, rows, cols), tokens))
            whole = (*steps, Step("resize", self._tile_px, self._tile_px))
            base = Geometry(*size, whole, side, per, per)
            grids.append(PatchGrid(image, "base", base, range(starts[-1], starts[-1] + per**2)))
        return Layout(tuple(expansions), tuple(grids))

    def picture_bytes(self, layout: Layout, dtype: Any) -> int:
        """See `Family.picture_bytes`: the tiles of all images of a prompt go through the vision tower together."""
        vision, tiles = self.config.vision_config, layout.patches // self._per_tile**2
        pixels = 3 * self._tile_px**2 * (4 + 2 * dtype.itemsize + 1)  # as made, moved, and those of real tiles
        masks = self._tile_px**2 * 8 * 2
        patches = (self._tile_px // vision.patch_size) ** 2
        # A layer's states, queries, keys and values, or its MLP; a mask; what is merged and projected.
        values = vision.hidden_size * 12 + vision.intermediate_size * 2 + patches
        merged = self._per_tile**2 * self.config.text_config.hidden_size * 3
        return int(tiles * (pixels + masks + (patches * values + merged) * dtype.itemsize))

    def inputs(self, processor: Any, pictures: Sequence[Any]) -> dict[str, Any]:
        """See `Family.inputs`."""
        images = processor.image_processor
        made = images(images=[list(pictures)], return_tensors="pt")
        tiles = [down * across for _, down, across in (self._tiles(images, picture.size) for picture in pictures)]
        expected = (1, sum(tiles) + len(tiles), 3, self._tile_px, self._tile_px)
        if tuple(made["pixel_values"].shape) != expected:
            raise RuntimeError(
                f"geometry: got pixel values of {tuple(made['pixel_values'].shape)}, expected {expected}"
            )
        # [1, tile, 3, height, width] float32; [1, tile, height, width] int64
        return {name: made[name] for name in ("pixel_values", "pixel_attention_mask") if name in made}

    def features(self, model: Any, inputs: Mapping[str, Any]) -> Any:
        """See `Family.features`."""
        import torch

        return torch.cat(tuple(model.model.get_image_features(**inputs, return_dict=True).pooler_output))

    def read_processor(self, folder: Path) -> Any:
        """See `Family.read_processor`."""
        return PicturesOnly.read(folder)

    def notes(self) -> tuple[Note, ...]:
        """See `Family.notes`: words between tiles are no patches, and the end of a tile may be in none."""
        notes = [Note("tile-words", "model", _WORDS)]
        if gap := self._tile_px - self._per_tile * self._token_px:
            notes.append(Note("tile-ends", "model", _ENDS.format(gap, self._tile_px, self._token_px)))
        return tuple(notes)

    def _tiles(self, image_processor: Any, size_px: tuple[int, int]) -> tuple[tuple[Step, ...], int, int]:
        """The steps from an image to what is cut into tiles, and rows and columns of these; 0 of both for none."""
        (width, height), longest, side = size_px, image_processor.size["longest_edge"], self._tile_px
        wide, tall = _along(width, height, longest, even=True)
        if max(wide, tall) > _MOST_PX:
            wide, tall = _along(wide, tall, _MOST_PX, even=False)
        steps: tuple[Step, ...] = (Step("resize", wide, tall),)
        if not image_processor.do_image_splitting:
            return steps, 0, 0
        # Floats in the processor's own order.
        ratio = wide / tall
        if wide >= tall:
            across = math.ceil(wide / side)
            down = math.ceil(int(across * side / ratio) / side)
        else:
            down = math.ceil(tall / side)
            across = math.ceil(int(down * side * ratio) / side)
        steps = (*steps, Step("resize", across * side, down * side))
        return (steps, 0, 0) if down == across == 1 else (steps, down, across)

    @property
    def _tile_px(self) -> int:
        return int(self.config.vision_config.image_size)

    @property
    def _token_px(self) -> int:
        """The side of what becomes one token, px."""
        return int(self.config.vision_config.patch_size * self.config.scale_factor)

    @property
    def _per_tile(self) -> int:
        """Tokens along a side of a tile."""
        return int(self._tile_px // self.config.vision_config.patch_size // self.config.scale_factor)


def _along(width: int, height: int, longest: int, even: bool) -> tuple[int, int]:
    """A size whose longest edge is `longest`, the other rounded down, or up to an even number if it is then odd."""
    ratio = width / height
    if width >= height:
        other = int(longest / ratio)
        return longest, max(other + other % 2 * even, 1)
    other = int(longest * ratio)
    return max(other + other % 2 * even, 1), longest


def _word(tokenizer: Any, named: tuple[str, str]) -> str:
    return str(getattr(tokenizer, *named))


def _marks(tokenizer: Any, down: int, across: int) -> list[list[int]]:
    """Ids before each tile, row by row, before the whole image, and after it; how many there are is told without a
    tokenizer too.
    """
    last = [[-1] * (4 if down else 2), [-1]]  # two line breaks may be one token
    if tokenizer is None:
        return [[-1] * (3 if row and not col else 2) for row in range(down) for col in range(across)] + last
    fake, whole = _word(tokenizer, _FAKE), _word(tokenizer, _GLOBAL)
    texts = [
        ("\n" if row and not col else "") + f"{fake}<row_{row + 1}_col_{col + 1}>"
        for row in range(down)
        for col in range(across)
    ]
    texts += [("\n\n" if down else "") + fake + whole, fake]
    found: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return found
