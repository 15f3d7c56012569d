"""Qwen2.5-VL: one grid that follows the image's shape and size, positions of three axes.

Flow: size -> the nearest size in whole patches within the processor's bounds -> resize -> patches of the tower, merged
2 x 2 to tokens, row by row; ids and sizes of grids -> positions in time, height and width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llava_doors.door import Declaration
from llava_doors.family import Family, FamilyError, Layout, ModelFacts, PatchGrid
from llava_doors.parts.decoder import text_facts
from llava_doors.parts.pictures_only import PicturesOnly
from llava_wire.errors import RequestError
from llava_wire.geometry import Geometry
from llava_wire.grids import Step

DECLARATION = Declaration(
    "qwen2_5_vl",
    "Qwen2.5-VL: a grid of the image's own shape, positions of three axes",
    "llava_doors.families.qwen2_5_vl:Qwen25Vl",
    traits={"model_types": ("qwen2_5_vl",), "sections": ("vision_config",)},
)


class Qwen25Vl(Family):
    """`Qwen2_5_VLForConditionalGeneration`; videos are not served."""

    several = True
    axes = 3

    def check(self, config: Any) -> None:
        """See `Family.check`."""
        self.config = config

    def check_processor(self, processor: Any) -> None:
        """See `Family.check_processor`."""
        images, vision = processor.image_processor, self.config.vision_config
        wanted = {
            "patch_size": vision.patch_size,
            "merge_size": vision.spatial_merge_size,
            "temporal_patch_size": vision.temporal_patch_size,
            "do_resize": True,
        }
        found = {name: getattr(images, name, None) for name in wanted}
        if found != wanted:
            raise FamilyError(
                f"image processor: got {found}, expected {wanted}, as the vision tower takes; preprocessor_config.json "
                "belongs to another model"
            )

    def facts(self, dtype: Any) -> ModelFacts:
        """See `Family.facts`."""
        return text_facts(self.config.text_config, dtype)

    def layout(self, processor: Any, sizes_px: Sequence[tuple[int, int]]) -> Layout:
        """See `Family.layout`."""
        grids = []
        for image, size in enumerate(sizes_px):
            wide, tall = self._resized(processor.image_processor, size)
            rows, cols = tall // self._cell_px, wide // self._cell_px
            geometry = Geometry(*size, (Step("resize", wide, tall),), self._cell_px, rows, cols)
            grids.append(PatchGrid(image, "base", geometry, range(rows * cols)))
        return Layout(tuple((self.image_token_id,) * len(grid.tokens) for grid in grids), tuple(grids))

    def picture_bytes(self, layout: Layout, dtype: Any) -> int:
        """See `Family.picture_bytes`: all images of a prompt go through the vision tower together."""
        vision = self.config.vision_config
        pixels = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        # A block's states, queries, keys and values, the first two in float32 while they are rotated; or its MLP.
        values = vision.hidden_size * 10 + vision.intermediate_size * 3
        patch = pixels * (4 + dtype.itemsize) + values * dtype.itemsize + vision.hidden_size * 16
        merged = self.config.text_config.hidden_size * 3 * dtype.itemsize
        return int(layout.patches * (vision.spatial_merge_size**2 * patch + merged))

    def inputs(self, processor: Any, pictures: Sequence[Any]) -> dict[str, Any]:
        """See `Family.inputs`."""
        made = processor.image_processor(images=list(pictures), return_tensors="pt")
        sizes = [self._resized(processor.image_processor, picture.size) for picture in pictures]
        patch = self.config.vision_config.patch_size
        found, expected = made["image_grid_thw"].tolist(), [[1, tall // patch, wide // patch] for wide, tall in sizes]
        if found != expected:
            raise RuntimeError(f"geometry: got grids {found}, expected {expected}")
        # [patch, channel * time * height * width] float32; [image, 3] int64
        return {"pixel_values": made["pixel_values"], "image_grid_thw": made["image_grid_thw"]}

    def features(self, model: Any, inputs: Mapping[str, Any]) -> Any:
        """See `Family.features`."""
        import torch

        return torch.cat(tuple(model.model.get_image_features(**inputs, return_dict=True).pooler_output))

    def positions(self, ids: Sequence[int], inputs: Mapping[str, Any]) -> Any:
        """See `Family.positions`: of an image's tokens time stays, height and width follow rows and columns."""
        import torch

        merge = self.config.vision_config.spatial_merge_size
        waiting = [(rows // merge, cols // merge) for _, rows, cols in inputs["image_grid_thw"].tolist()]
        runs: list[Any] = []
        now = at = 0
        while at < len(ids):
            if ids[at] == self.image_token_id and waiting:
                rows, cols = waiting.pop(0)
                place = torch.cartesian_prod(torch.arange(1), torch.arange(rows), torch.arange(cols))  # [token, 3]
                runs.append(now + place)
                now, at = now + max(rows, cols), at + rows * cols
            else:
                runs.append(torch.full((1, 3), now))
                now, at = now + 1, at + 1
        return torch.cat(runs).T  # [3, length]

    def own_inputs(self, ids: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.own_inputs`: the model finds its positions by the kinds of tokens."""
        return {**inputs, "mm_token_type_ids": (ids == self.image_token_id).int()}

    def model_class(self) -> Any:
        """See `Family.model_class`."""
        from transformers import Qwen2_5_VLForConditionalGeneration

        return Qwen2_5_VLForConditionalGeneration

    def read_processor(self, folder: Path) -> Any:
        """See `Family.read_processor`."""
        return PicturesOnly.read(folder)

    def _resized(self, image_processor: Any, size_px: tuple[int, int]) -> tuple[int, int]:
        """(width, height) in px that the processor resizes an image to.

        Raises:
            RequestError: "invalid", for a needle.
        """
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

        bounds = image_processor.size
        try:
            tall, wide = smart_resize(
                size_px[1], size_px[0], self._cell_px, bounds["shortest_edge"], bounds["longest_edge"]
            )
        except ValueError as error:
            allowed = "shapes up to 200:1; crop it"
            raise RequestError("invalid", "image", f"got {size_px[0]} x {size_px[1]} px, expected {allowed}") from error
        return wide, tall

    @property
    def _cell_px(self) -> int:
        """The side of what becomes one token, px."""
        return int(self.config.vision_config.patch_size * self.config.vision_config.spatial_merge_size)
