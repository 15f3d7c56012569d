"""What each stage of training learns: a stage turns a step number into a loss and names what to report.

VisionStage: the vision tower alone learns what is under each patch, with a head that is thrown away afterwards; it
stands in for CLIP's pretraining. AnswerStage: the whole model learns the answers' tokens. No attention is supervised.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from shapes.dataset import Scenes
from shapes.model import FEATURE_LAYER
from shapes.packing import IGNORED, Packer, Pictures, mirror_pictures, scene_numbers
from shapes.scenes import COLOURS, SHAPES, Layout
from shapes.tokenizer import word_id


@dataclass(frozen=True)
class StageSettings:
    """`vision_factor` scales the vision tower's learning rate; `look_up_weight` the loss of the words that need both
    a colour and a shape to be found (Yes, No and the places)."""

    name: str
    steps: int
    batch: int
    learning_rate: float
    warm_up: int
    vision_factor: float = 1.0
    look_up_weight: float = 1.0
    turns: int = 0


class Stage(Protocol):
    settings: StageSettings

    def groups(self) -> list[dict]:
        """Parameter groups for AdamW, each with its `factor` of the learning rate."""

    def modules(self) -> dict[str, nn.Module]:
        """Everything with weights, by the name it has in a checkpoint."""

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """The loss of a step (scalar, float32) and metrics for the log."""


Normalise = Callable[[np.ndarray], Tensor]


class VisionStage:
    """Per patch: colour and shape of what lies under it (apart, so that features factor), and where its centre is."""

    def __init__(
        self,
        model: LlavaForConditionalGeneration,
        scenes: Scenes,
        normalise: Normalise,
        settings: StageSettings,
        seed: int,
    ) -> None:
        self.settings = settings
        self._scenes, self._normalise, self._seed = scenes, normalise, f"{seed} {settings.name}"
        self._tower = model.model.vision_tower
        width = model.config.vision_config.hidden_size
        self._colours, self._shapes = 1 + len(COLOURS), 1 + len(SHAPES)
        self._head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, self._colours + self._shapes + 2))

    def groups(self) -> list[dict]:
        return [{"params": [*self._tower.parameters(), *self._head.parameters()], "factor": 1.0}]

    def modules(self) -> dict[str, nn.Module]:
        return {"tower": self._tower, "head": self._head}

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        pictures = _pictures(self._scenes, self.settings, self._seed, step, self._normalise)
        colours, shapes, centres = (torch.from_numpy(part) for part in patch_targets(pictures))
        features = self._tower(pictures.pixels, output_hidden_states=True).hidden_states[FEATURE_LAYER][:, 1:]
        guesses = self._head(features).flatten(0, 1).split([self._colours, self._shapes, 2], dim=1)
        thing = colours > 0
        weight = torch.where(thing, 1.0, 0.3)  # most patches are ground
        named = functional.cross_entropy(guesses[0], colours, reduction="none")
        named = named + functional.cross_entropy(guesses[1], shapes, reduction="none")
        placed = functional.smooth_l1_loss(guesses[2][thing], centres[thing], beta=0.1)
        right = (guesses[0].argmax(-1) == colours) & (guesses[1].argmax(-1) == shapes)
        error = (guesses[2][thing].detach() - centres[thing]).abs().mean() / 2  # targets span -1..1
        metrics = {"object patches right": float(right[thing].float().mean()), "centre error of the side": float(error)}
        return (named * weight).sum() / weight.sum() + 2 * placed, metrics


class AnswerStage:
    """Next-token loss on the answers alone, several turns per picture."""

    def __init__(
        self,
        model: LlavaForConditionalGeneration,
        tokenizer: PreTrainedTokenizerFast,
        scenes: Scenes,
        normalise: Normalise,
        settings: StageSettings,
        seed: int,
    ) -> None:
        self.settings = settings
        self._model, self._scenes, self._normalise = model, scenes, normalise
        self._seed = f"{seed} {settings.name}"
        self._packer = Packer(tokenizer, settings.turns)
        self._names = _marked(tokenizer, (*COLOURS, *SHAPES))
        self._verdicts = _marked(tokenizer, ("Yes", "No"))
        look_ups = self._verdicts | _marked(tokenizer, ("top", "bottom", "left", "right"))
        self._weights = torch.where(look_ups, settings.look_up_weight, 1.0)

    def groups(self) -> list[dict]:
        vision = list(self._model.model.vision_tower.parameters())
        ids = {id(parameter) for parameter in vision}
        rest = [parameter for parameter in self._model.parameters() if id(parameter) not in ids]
        return [*_by_decay(rest, 1.0), *_by_decay(vision, self.settings.vision_factor)]

    def modules(self) -> dict[str, nn.Module]:
        return {"model": self._model}

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        pictures = _pictures(self._scenes, self.settings, self._seed, step, self._normalise)
        turns = self._packer.pack(pictures.layouts, random.Random(f"{self._seed} turns {step}"))
        hidden = self._model.model(
            input_ids=turns.ids,
            pixel_values=pictures.pixels,
            attention_mask=turns.mask,
            position_ids=turns.positions,
            use_cache=False,
        ).last_hidden_state
        targets = turns.targets[:, 1:]
        kept = targets != IGNORED
        logits, targets = self._model.lm_head(hidden[:, :-1][kept]), targets[kept]
        loss = (functional.cross_entropy(logits, targets, reduction="none") * self._weights[targets]).mean()
        right = logits.argmax(-1) == targets
        metrics = {
            "names right": float(right[self._names[targets]].float().mean()),
            "yes/no right": float(right[self._verdicts[targets]].float().mean()),
        }
        return loss, metrics


def patch_targets(pictures: Pictures) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flat over pictures and patches: colour [p] and shape [p] int64 (0 is ground), object centre [p, 2] float32,
    -1..1 across the crop of the mirrored picture."""
    colours, shapes, centres = [], [], []
    for patches, layout, (across, down) in zip(
        pictures.patches.numpy(), pictures.sources, pictures.mirrored, strict=True
    ):
        table = np.array([(0, 0), *((_colour_number(layout, k), _shape_number(layout, k)) for k in _numbers(layout))])
        points = np.array([layout.in_crop(thing.centre) for thing in layout.objects], np.float32) * 2 - 1
        points = np.concatenate([np.zeros((1, 2), np.float32), points * np.where([across, down], -1, 1)])
        flat = patches.ravel()
        colours.append(table[flat, 0])
        shapes.append(table[flat, 1])
        centres.append(points[flat])
    return np.concatenate(colours), np.concatenate(shapes), np.concatenate(centres).astype(np.float32)


def _numbers(layout: Layout) -> range:
    return range(len(layout.objects))


def _colour_number(layout: Layout, index: int) -> int:
    return 1 + list(COLOURS).index(layout.objects[index].colour)


def _shape_number(layout: Layout, index: int) -> int:
    return 1 + SHAPES.index(layout.objects[index].shape)


def _pictures(scenes: Scenes, settings: StageSettings, seed: str, step: int, normalise: Normalise) -> Pictures:
    numbers = scene_numbers(len(scenes), settings.batch, step, seed)
    return mirror_pictures(scenes, numbers, random.Random(f"{seed} mirror {step}"), normalise)


def _marked(tokenizer: PreTrainedTokenizerFast, words: Iterable[str]) -> Tensor:
    """[vocabulary] bool, true at the words' ids."""
    marks = torch.zeros(len(tokenizer), dtype=torch.bool)
    marks[[word_id(tokenizer, word) for word in words]] = True
    return marks


def _by_decay(parameters: Iterable[nn.Parameter], factor: float) -> list[dict]:
    """Weights decay; biases and norms do not."""
    parameters = list(parameters)
    return [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1], "factor": factor},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "factor": factor, "weight_decay": 0},
    ]
