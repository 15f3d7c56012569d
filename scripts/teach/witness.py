"""Asks a trained model about pictures and takes its attention: pictures, questions -> answers, and rows over patches.

Answers are greedy; attention comes from one more forward over prompt and answer with eager attention, which any
release of transformers can do. That makes it an independent check of the server's own capture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor


@dataclass(frozen=True)
class Seen:
    """One answer.

    Args:
        text: without special tokens.
        tokens: its tokens' texts.
        rows: attention to the image, [answer + 2, layers, heads, grid, grid] float32; entry 1 + t is the row that
            predicts token t, so that there is one to misread on either side.
    """

    text: str
    tokens: list[str]
    rows: np.ndarray


class Witness:
    """A model, loaded from its folder alone, that answers and shows its attention."""

    def __init__(self, folder: Path, device: str = "cpu", most_new_tokens: int = 48) -> None:
        self._processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        self._processor.tokenizer.padding_side = "left"
        self._model = AutoModelForImageTextToText.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32, local_files_only=True
        ).eval()
        self._model.to(device)
        self._device, self._most_new_tokens = device, most_new_tokens
        self._grid = self._model.config.vision_config.image_size // self._model.config.vision_config.patch_size

    @torch.no_grad()
    def look(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[Seen]:
        """One answer per picture and question, computed as one batch."""
        tokenizer, prompts = self._processor.tokenizer, [self._prompt(question) for question in questions]
        inputs = self._processor(images=[*images], text=prompts, padding=True, return_tensors="pt").to(self._device)
        ids = self._model.generate(**inputs, max_new_tokens=self._most_new_tokens, do_sample=False)
        asked = inputs.input_ids.shape[1]
        mask = torch.cat([inputs.attention_mask, torch.ones_like(ids[:, asked:])], 1)
        attentions = self._model(
            input_ids=ids,
            pixel_values=inputs.pixel_values,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            output_attentions=True,
            use_cache=False,
        ).attentions
        rows = torch.stack([layer[:, :, asked - 2 :] for layer in attentions], 1).permute(0, 3, 1, 2, 4)
        image = ids == self._model.config.image_token_id
        maps = [
            row[..., columns].reshape(*row.shape[:3], self._grid, self._grid).cpu().numpy()
            for row, columns in zip(rows, image, strict=True)
        ]
        texts = [text.strip() for text in tokenizer.batch_decode(ids[:, asked:], skip_special_tokens=True)]
        tokens = [[tokenizer.decode([token]) for token in row] for row in ids[:, asked:].tolist()]
        return [Seen(*one) for one in zip(texts, tokens, maps, strict=True)]

    def _prompt(self, question: str) -> str:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        return str(
            self._processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        )
