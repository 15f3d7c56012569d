"""What transformers says: generate(output_attentions=True) with eager attention, and the older toolkit's means."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps


@dataclass(frozen=True)
class Reference:
    """One item of an eager run.

    tokens: new token ids up to and with the end of sequence. maps: [step, layer, head, row, col] float32, step 0 the
    prefill's last row. bos, total: [step, layer, head], attention on the first token, and the whole row.
    """

    tokens: list[int]
    maps: np.ndarray
    bos: np.ndarray
    total: np.ndarray


def processor_inputs(processor: Any, pictures: list[bytes], prompts: list[str]) -> dict[str, torch.Tensor]:
    """The processor's own left-padded batch for a chat of one picture and one question each."""
    texts = [
        processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}],
            add_generation_prompt=True,
        )
        for prompt in prompts
    ]
    images = [ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB") for data in pictures]
    processor.tokenizer.padding_side = "left"
    return dict(processor(images=images, text=texts, padding=True, return_tensors="pt"))


@torch.no_grad()
def eager_run(
    model: Any, processor: Any, pictures: list[bytes], prompts: list[str], max_new_tokens: int
) -> list[Reference]:
    """Greedy generate with output_attentions=True."""
    inputs = processor_inputs(processor, pictures, prompts)
    output = model.generate(
        **inputs, max_new_tokens=max_new_tokens, do_sample=False, output_attentions=True, return_dict_in_generate=True
    )
    length = inputs["input_ids"].shape[1]
    eos = model.generation_config.eos_token_id
    results = []
    for i in range(len(pictures)):
        new = output.sequences[i, length:].tolist()
        new = new[: new.index(eos) + 1] if eos in new else new
        columns = (inputs["input_ids"][i] == model.config.image_token_id).nonzero()[:, 0]
        first = int(inputs["attention_mask"][i].argmax())
        rows = [torch.stack([layer[i, :, -1] for layer in step]) for step in output.attentions[: len(new)]]
        side = int(len(columns) ** 0.5)
        maps = torch.stack([row[:, :, columns] for row in rows]).reshape(len(new), *rows[0].shape[:2], side, side)
        results.append(
            Reference(
                new,
                maps.numpy(),
                torch.stack([row[:, :, first] for row in rows]).numpy(),
                torch.stack([row.sum(-1) for row in rows]).numpy(),
            )
        )
    return results


def toolkit_reduction(maps: np.ndarray, reduction: int | str) -> np.ndarray:
    """The older toolkit's aggregation of [step, layer, head, row, col]: 3 heads, 2 layers and heads, 1 all."""
    if reduction == 3:
        return np.stack([np.stack([layer.mean(0) for layer in step]) for step in maps])
    if reduction == 2:
        return np.stack([np.mean([layer.mean(0) for layer in step], axis=0) for step in maps])
    if reduction == 1:
        return np.mean([np.mean([layer.mean(0) for layer in step], axis=0) for step in maps], axis=0)
    return maps
