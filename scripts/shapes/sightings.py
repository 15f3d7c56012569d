"""Asks a trained model about held-out scenes and notes where each naming row peaks: seed -> answers and sightings.

Answers are greedy; attention comes from one more forward over prompt and answer with eager attention, which any
release of transformers can do. That makes it an independent check of the server's own capture.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from llava_eval.truth import as_truth, centres_inside
from shapes.pointing import Naming, centre_crop_rectangles, naming_tokens, peaks_inside
from shapes.questions import Question, ask_all
from shapes.scenes import Scene, make_scene

MOST_NEW_TOKENS = 48
_BATCH = 48

# How a row can be misread: offset of the row, and whether rows and columns of the grid are swapped.
READINGS: dict[str, tuple[int, bool]] = {
    "right row": (0, False),
    "one row late": (1, False),
    "one row early": (-1, False),
    "grid transposed": (0, True),
}


@dataclass(frozen=True)
class Item:
    scene: Scene
    question: Question


@dataclass(frozen=True)
class Answer:
    item: Item
    text: str

    @property
    def right(self) -> bool:
        return self.text == self.item.question.answer


@dataclass(frozen=True)
class Sighting:
    """One naming token. Per reading, `heads` [layers, heads] bool: the peak is in the box, and `mean`: the same for the
    mean of all heads. `shares` [layers, heads] float32: what the image gets of the row. `elsewhere` [layers, heads]
    bool: the peak, moved to an unrelated scene, is in the box of its object of that number. Chances: probabilities."""

    kind: str
    naming: Naming
    heads: dict[str, np.ndarray]
    mean: dict[str, bool]
    shares: np.ndarray
    elsewhere: np.ndarray
    uniform_chance: float
    object_chance: float


def held_out(seed: int, count: int) -> list[Item]:
    """`count` scenes with one question of every kind that each allows."""
    rng = random.Random(seed)
    scenes = [make_scene(rng) for _ in range(count)]
    return [Item(scene, question) for scene in scenes for question in ask_all(rng, scene.layout)]


class Witness:
    """A model, loaded from its folder alone, that answers and shows its attention."""

    def __init__(self, folder: Path) -> None:
        self._processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        self._processor.tokenizer.padding_side = "left"
        self._model = AutoModelForImageTextToText.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32, local_files_only=True
        ).eval()
        self._grid = self._model.config.vision_config.image_size // self._model.config.vision_config.patch_size

    def look(self, items: list[Item], say: Callable[[str], None]) -> tuple[list[Answer], list[Sighting]]:
        """All answers, and a sighting for every token that names an object of its scene."""
        answers: list[Answer] = []
        sightings: list[Sighting] = []
        for start in range(0, len(items), _BATCH):
            batch = items[start : start + _BATCH]
            texts, tokens, rows = self._run(batch)
            for item, text, pieces, attention in zip(batch, texts, tokens, rows, strict=True):
                stranger = items[(len(answers) + len(items) // 2) % len(items)].scene
                sightings += self._sightings(item, pieces, attention, stranger)
                answers.append(Answer(item, text))
            say(f"{len(answers)}/{len(items)} questions")
        return answers, sightings

    @torch.no_grad()
    def _run(self, batch: list[Item]) -> tuple[list[str], list[list[str]], list[np.ndarray]]:
        """Per item: answer, token texts, and attention to the image [answer + 2, layers, heads, grid, grid] float32;
        entry 1 + t is the row that predicts token t, so that there is one to misread on either side."""
        tokenizer, images = self._processor.tokenizer, [item.scene.image for item in batch]
        prompts = [self._prompt(item.question.text) for item in batch]
        inputs = self._processor(images=images, text=prompts, padding=True, return_tensors="pt")
        ids = self._model.generate(**inputs, max_new_tokens=MOST_NEW_TOKENS, do_sample=False)
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
        rows = torch.stack(attentions, 1)[:, :, :, asked - 2 :].permute(0, 3, 1, 2, 4)
        image = ids == self._model.config.image_token_id
        shaped = rows.shape[1:4]
        maps = [
            row[..., columns].reshape(*shaped, self._grid, self._grid).numpy()
            for row, columns in zip(rows, image, strict=True)
        ]
        texts = [text.strip() for text in tokenizer.batch_decode(ids[:, asked:], skip_special_tokens=True)]
        return texts, [[tokenizer.decode([token]) for token in row] for row in ids[:, asked:].tolist()], maps

    def _prompt(self, question: str) -> str:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        return self._processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)

    def _sightings(self, item: Item, pieces: list[str], attention: np.ndarray, stranger: Scene) -> list[Sighting]:
        layout, objects = item.scene.layout, item.scene.objects
        rectangles = centre_crop_rectangles(layout.width_px, layout.height_px, self._grid)
        strange = centre_crop_rectangles(stranger.layout.width_px, stranger.layout.height_px, self._grid)
        found = []
        for naming in naming_tokens(pieces, objects, item.question.text):
            box = objects[naming.index].box
            heads, mean = {}, {}
            for reading, (offset, transposed) in READINGS.items():
                maps = attention[1 + naming.step + offset]
                maps = maps.swapaxes(-1, -2) if transposed else maps
                heads[reading] = peaks_inside(maps, rectangles, box)
                mean[reading] = bool(peaks_inside(maps.mean((0, 1)), rectangles, box))
            right = attention[1 + naming.step]
            found.append(
                Sighting(
                    item.question.kind,
                    naming,
                    heads,
                    mean,
                    right.sum((-1, -2)),
                    peaks_inside(right, strange, stranger.objects[naming.index % len(stranger.objects)].box),
                    float(centres_inside(rectangles, as_truth([box])).mean()),
                    1 / len(objects),
                )
            )
        return found
