"""Processors of transformers whose class needs torchvision for its videos, taken apart: what pictures need is loaded
without it.

Flow: folder -> tokenizer, image processor on Pillow, chat template -> `PicturesOnly`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PicturesOnly:
    """The parts of a processor that pictures and text need.

    Args:
        tokenizer: transformers' own.
        image_processor: on Pillow.
        chat_template: of the processor, else of its tokenizer; None where neither has one.
    """

    tokenizer: Any
    image_processor: Any
    chat_template: str | None

    @classmethod
    def read(cls, folder: Path) -> PicturesOnly:
        """The parts in a checkpoint's folder; no network."""
        from transformers import AutoTokenizer, ProcessorMixin

        # By its own module: under its short name some versions refuse it where torchvision is missing.
        from transformers.models.auto.image_processing_auto import AutoImageProcessor

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        images = AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
        stated, _ = ProcessorMixin.get_processor_dict(folder, local_files_only=True)
        template = stated.get("chat_template") or tokenizer.chat_template
        return cls(tokenizer, images, template["default"] if isinstance(template, dict) else template)

    def apply_chat_template(self, conversation: Any, **how: Any) -> Any:
        """As the method of transformers' processors, which hand the same names to the template."""
        return self.tokenizer.apply_chat_template(conversation, chat_template=self.chat_template, **how)
