"""LLaVA-1.5 and what was made like it: one picture, one square grid of patches, one run of image tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llava_doors.door import Declaration
from llava_doors.family import Family, Layout, ModelFacts, PatchGrid
from llava_doors.parts.resizing import preprocess_of, processed_size, refuse_needles
from llava_doors.parts.tower import TowerGrid, check_processor, facts_of, patch_bytes, patch_grid
from llava_wire.geometry import Preprocess
from llava_wire.schema import Note

DECLARATION = Declaration(
    "llava",
    "LLaVA-1.5 and its like",
    "llava_doors.families.llava:Llava",
    traits={
        "model_types": ("llava",),
        "sections": ("text_config", "vision_config"),
        "images": "one; several with a SigLIP tower (LLaVA-Interleave)",
    },
)


class Llava(Family):
    """`LlavaForConditionalGeneration` with a vision tower that makes one grid of patches of every picture."""

    one_size = True
    joined = True

    grid: TowerGrid
    _preprocess: tuple[Any, Preprocess] | None = None

    def check(self, config: Any) -> None:
        """See `Family.check`."""
        self.config = config
        self.grid = patch_grid(config, self._strategy())
        # LLaVA-Interleave, which is the one with this tower, was trained on several pictures; the others on one.
        self.several = config.vision_config.model_type == "siglip_vision_model"

    def check_processor(self, processor: Any) -> None:
        """See `Family.check_processor`; runs it on a few pictures."""
        check_processor(self.grid, self.config.vision_config.patch_size, processor.image_processor)

    def facts(self, dtype: Any) -> ModelFacts:
        """See `Family.facts`."""
        return facts_of(self.config, dtype)

    def layout(self, processor: Any, sizes_px: Sequence[tuple[int, int]]) -> Layout:
        """See `Family.layout`."""
        preprocess, lead = self._steps(processor), self.grid.lead
        tokens = range(lead, lead + self.grid.rows * self.grid.cols)
        grids = []
        for image, (width, height) in enumerate(sizes_px):
            geometry = preprocess.plan(width, height)
            refuse_needles(geometry)
            grids.append(PatchGrid(image, "base", geometry, tokens))
        return Layout(((self.image_token_id,) * tokens.stop,) * len(grids), tuple(grids))

    def picture_bytes(self, layout: Layout, dtype: Any) -> int:
        """See `Family.picture_bytes`: the vision tower keeps the hidden states of all its layers."""
        vision = self.config.vision_config
        pixels = 3 * vision.image_size**2 * (4 + dtype.itemsize)
        patches = self.grid.rows * self.grid.cols + 1  # and a class token
        return len(layout.grids) * (pixels + patches * patch_bytes(self.config, dtype))

    def inputs(self, processor: Any, pictures: Sequence[Any]) -> dict[str, Any]:
        """See `Family.inputs`."""
        pixels = processor.image_processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        steps = self._steps(processor)
        expected = {processed_size(steps.plan(*picture.size)) for picture in pictures}
        if {tuple(pixels.shape[2:])} != expected:
            raise RuntimeError(f"geometry: got pixel values of {tuple(pixels.shape)}, expected {expected}")
        return {"pixel_values": pixels}  # [picture, 3, height, width] float32

    def features(self, model: Any, inputs: Mapping[str, Any]) -> Any:
        """See `Family.features`."""
        import torch

        found = model.model.get_image_features(pixel_values=inputs["pixel_values"], return_dict=True)
        return torch.cat(tuple(found.pooler_output))

    def model_class(self) -> Any:
        """See `Family.model_class`."""
        from transformers import LlavaForConditionalGeneration

        return LlavaForConditionalGeneration

    def notes(self) -> tuple[Note, ...]:
        """See `Family.notes`: a class token is no patch."""
        if not self.grid.lead:
            return ()
        count = self.grid.lead + self.grid.rows * self.grid.cols
        text = (
            f"The first of the {count} image tokens is the vision tower's class token, which stands for no place on "
            "the image; attention to it is told apart, as that to separators."
        )
        return (Note("class-token", "model", text),)

    def _strategy(self) -> str:
        """Whether the tower's first token is left out ("default") or kept ("full")."""
        return str(self.config.vision_feature_select_strategy)

    def _steps(self, processor: Any) -> Preprocess:
        """The settings of the image processor that move pixels, read once."""
        known, image_processor = self._preprocess, processor.image_processor
        if known is None or known[0] is not image_processor:
            known = (image_processor, preprocess_of(image_processor, self.config.vision_config.patch_size))
            self._preprocess = known
        return known[1]
