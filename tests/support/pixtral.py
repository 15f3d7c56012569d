"""What checkpoints with a Pixtral tower share: the processor without torchvision, the tower, the names of keys."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest
import transformers as tf

from support import tiny_checkpoints as tiny
from support.published import hub_key

HOUSE = "transformers.models.pixtral"


def pixtral_processor(image_processor: dict[str, Any], **more: Any) -> Any:
    """Transformers' own, whose module asks torchvision for one function that Pillow's module has too.

    Args:
        image_processor: settings of the part for images.
        more: of the whole, such as `patch_size`.
    """
    with pytest.MonkeyPatch.context() as patched:
        on_pillow = importlib.import_module(f"{HOUSE}.image_processing_pil_pixtral")
        patched.setitem(sys.modules, f"{HOUSE}.image_processing_pixtral", on_pillow)
        kind = importlib.import_module(f"{HOUSE}.processing_pixtral").PixtralProcessor
    return tiny.pictures_only(
        kind,
        tf.PixtralImageProcessorPil(**image_processor),
        tiny.tokenizer("[IMG]", "[IMG_BREAK]", "[IMG_END]", "[INST]", "[/INST]"),
        chat_template=tiny.template("[INST]", "[/INST]").replace("<image>\n", "[IMG]"),
        **more,
    )


def pixtral_tower(image_size: int, patch_size: int) -> Any:
    """The configuration of a small tower."""
    return tf.PixtralVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=image_size,
        patch_size=patch_size,
    )  # fmt: skip


def spelt(key: str) -> str:
    """A parameter's name as the published shards spell it."""
    return hub_key(key).replace("vision_tower.vision_model.", "vision_tower.")
