"""ViP-LLaVA: LLaVA-1.5 whose image tokens are made of several layers of the vision tower, joined patch by patch."""

from __future__ import annotations

from typing import Any

from llava_doors.door import Declaration
from llava_doors.families.llava import Llava
from llava_doors.family import FamilyError

DECLARATION = Declaration(
    "vip_llava",
    "ViP-LLaVA: an image token is made of several layers of the vision tower",
    "llava_doors.families.vip_llava:VipLlava",
    traits={"model_types": ("vipllava",), "sections": ("text_config", "vision_config"), "images": "one"},
)


class VipLlava(Llava):
    """`VipLlavaForConditionalGeneration`; the grid is that of LLaVA-1.5, since joined layers keep their patches."""

    def check(self, config: Any) -> None:
        """See `Family.check`."""
        tower = config.vision_config.model_type
        if tower != "clip_vision_model":
            raise FamilyError(
                f"config.vision_config.model_type: got {tower!r}, expected 'clip_vision_model', because the first "
                "token of the tower is left out, which must be a class token; take another checkpoint"
            )
        super().check(config)

    def model_class(self) -> Any:
        """See `Family.model_class`."""
        from transformers import VipLlavaForConditionalGeneration

        return VipLlavaForConditionalGeneration

    def _strategy(self) -> str:
        return "default"  # the model's own code, whatever a configuration says
