"""Mistral 3: Pixtral's tower, whose patches are merged, two by two in published ones, to one token."""

from __future__ import annotations

from typing import Any

from llava_doors.door import Declaration
from llava_doors.families.pixtral import Pixtral
from llava_doors.family import FamilyError

DECLARATION = Declaration(
    "mistral3",
    "Mistral 3: Pixtral's grid with its patches merged, break tokens after its rows",
    "llava_doors.families.mistral3:Mistral3",
    traits={"model_types": ("mistral3",), "sections": ("text_config", "vision_config")},
)


class Mistral3(Pixtral):
    """`Mistral3ForConditionalGeneration`; a patch of its grid is what becomes one token."""

    def check(self, config: Any) -> None:
        """See `Family.check`."""
        tower, layer, merge = config.vision_config.model_type, config.vision_feature_layer, config.spatial_merge_size
        if tower != "pixtral" or not isinstance(layer, int):
            raise FamilyError(
                f"config: got a {tower} tower and vision_feature_layer {layer!r}, expected pixtral and one layer, as "
                "the patch merger takes; take another checkpoint"
            )
        if not isinstance(merge, int) or merge < 1:
            raise FamilyError(
                f"config.spatial_merge_size: got {merge!r}, expected a whole number of patches; correct the "
                "configuration"
            )
        self.config = config

    def model_class(self) -> Any:
        """See `Family.model_class`."""
        from transformers import Mistral3ForConditionalGeneration

        return Mistral3ForConditionalGeneration

    @property
    def _merged(self) -> int:
        return int(self.config.spatial_merge_size)
