"""What each stage of training learns: a stage turns a step number into a batch, and a batch into a loss.

VisionStage: the vision tower alone learns what is under each patch, with a head that is thrown away afterwards; it
stands in for CLIP's pretraining. AnswerStage: the whole model learns the answers' tokens. No attention is supervised.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from teach.model import FEATURE_LAYER
from teach.packing import IGNORED, Packer, Turns, scene_numbers
from teach.pool import Pool
from teach.tokens import word_id
from teach.world import AXES, World


@dataclass(frozen=True)
class StageSettings:
    """`vision_factor` scales the vision tower's learning rate, `look_up_weight` the loss of `World.looked_up`, and
    `ground_weight` that of patches with nothing on them."""

    name: str
    steps: int
    batch: int
    learning_rate: float
    warm_up: int
    vision_factor: float = 1.0
    look_up_weight: float = 1.0
    turns: int = 0
    ground_weight: float = 0.2


class Stage(Protocol):
    """What `training.run_stage` runs."""

    settings: StageSettings

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups for AdamW, each with its `factor` of the learning rate."""

    def modules(self) -> dict[str, nn.Module]:
        """Everything with weights, by the name it has in a checkpoint."""

    def batch(self, step: int) -> dict[str, Tensor]:
        """What a step learns from, on the CPU; depends on the step and the seed alone. Called in other processes."""

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch on the model's device (scalar, float32) and scalars for the log."""


@dataclass(frozen=True)
class Taught:
    """What all stages share.

    Args:
        pixels: of all scenes, [n, side, side, 3] uint8, on the model's device.
        mean, deviation: the processor's, of three channels.
    """

    world: World
    model: LlavaForConditionalGeneration
    tokenizer: PreTrainedTokenizerFast
    scenes: Pool
    pixels: Tensor
    seed: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]

    def pictures(self, settings: StageSettings, step: int) -> dict[str, Tensor]:
        """The scenes of a step: their `numbers` [n] int64, and along which of `AXES` each is `mirrored` [n, 2] bool."""
        name = f"{self.seed} {settings.name}"
        numbers = scene_numbers(len(self.scenes), settings.batch, step, name)
        rng = random.Random(f"{name} mirror {step}")
        mirrored = [[axis in self.world.mirrors and rng.random() < 0.5 for axis in AXES] for _ in numbers]
        return {"numbers": torch.tensor(numbers), "mirrored": torch.tensor(mirrored)}

    def pixel_values(self, pictures: dict[str, Tensor]) -> Tensor:
        """[n, 3, side, side] float32 of some scenes, by the processor's mean and deviation."""
        seen = self.pixels[pictures["numbers"]]
        for columns_or_rows, mirrored in zip((2, 1), pictures["mirrored"].unbind(1), strict=True):
            seen = torch.where(mirrored.view(-1, 1, 1, 1), seen.flip(columns_or_rows), seen)
        mean, deviation = (
            torch.tensor(part, device=seen.device).view(1, 3, 1, 1) for part in (self.mean, self.deviation)
        )
        return (seen.permute(0, 3, 1, 2).float() / 255 - mean) / deviation

    def layouts(self, pictures: dict[str, Tensor]) -> list[Any]:
        """What the mirrored pictures show."""
        layouts = [self.scenes.layouts[number] for number in pictures["numbers"].tolist()]
        for axis, mirrored in zip(AXES, pictures["mirrored"].T.tolist(), strict=True):
            layouts = [
                self.world.mirrors[axis](layout) if flip else layout
                for layout, flip in zip(layouts, mirrored, strict=True)
            ]
        return layouts


class VisionStage:
    """Per patch: each facet of what lies under it (apart, so that features factor), and where its centre is."""

    def __init__(self, taught: Taught, settings: StageSettings) -> None:
        self.settings, self._taught = settings, taught
        self._tower = taught.model.model.vision_tower
        width = taught.model.config.vision_config.hidden_size
        self._sizes = [count for _, count in taught.world.facets]
        self._head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, sum(self._sizes) + 2))

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": [*self._tower.parameters(), *self._head.parameters()], "factor": 1.0}]

    def modules(self) -> dict[str, nn.Module]:
        return {"tower": self._tower, "head": self._head}

    def batch(self, step: int) -> dict[str, Tensor]:
        taught = self._taught
        pictures = taught.pictures(self.settings, step)
        classes, centres = [], []
        rows = zip(pictures["numbers"].tolist(), pictures["mirrored"].tolist(), strict=True)
        for number, (across, down) in rows:
            layout, patches = taught.scenes.layouts[number], taught.scenes.patches[number]
            flat = patches[:: -1 if down else 1, :: -1 if across else 1].ravel()
            points = np.concatenate([np.full((1, 2), 0.5, np.float32), taught.world.centres(layout)]) * 2 - 1
            classes.append(taught.world.classes(layout)[flat])
            centres.append((points * np.where((across, down), -1, 1))[flat])
        return pictures | {
            "classes": torch.from_numpy(np.concatenate(classes)),
            "centres": torch.from_numpy(np.concatenate(centres).astype(np.float32)),
        }

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        features = self._tower(self._taught.pixel_values(batch), output_hidden_states=True).hidden_states[
            FEATURE_LAYER
        ][:, 1:]
        *guesses, points = self._head(features).float().flatten(0, 1).split([*self._sizes, 2], dim=1)
        classes, thing = batch["classes"], batch["classes"][:, 0] > 0
        weight = torch.where(thing, 1.0, self.settings.ground_weight)  # most patches are ground
        named = sum(
            functional.cross_entropy(guess, classes[:, facet], reduction="none") for facet, guess in enumerate(guesses)
        )
        apart = functional.smooth_l1_loss(points, batch["centres"], beta=0.1, reduction="none").mean(1)
        things = thing.sum().clamp(min=1)
        right = torch.stack([guess.argmax(-1) == classes[:, facet] for facet, guess in enumerate(guesses)]).all(0)
        error = (points.detach() - batch["centres"]).abs().mean(1) / 2  # targets span -1..1
        metrics = {
            "object patches right": (right & thing).sum() / things,
            "ground right": (right & ~thing).sum() / (~thing).sum().clamp(min=1),
            "centre error of the side": (error * thing).sum() / things,
        }
        return (named * weight).sum() / weight.sum() + 2 * (apart * thing).sum() / things, metrics


class AnswerStage:
    """Next-token loss on the answers alone, several turns per picture."""

    def __init__(self, taught: Taught, settings: StageSettings) -> None:
        self.settings, self._taught = settings, taught
        self._packer = Packer(taught.world, taught.tokenizer, settings.turns)
        self._names = _marked(taught.tokenizer, taught.world.names)
        self._looked_up = _marked(taught.tokenizer, taught.world.looked_up)

    def groups(self) -> list[dict[str, Any]]:
        model = self._taught.model
        vision = list(model.model.vision_tower.parameters())
        ids = {id(parameter) for parameter in vision}
        rest = [parameter for parameter in model.parameters() if id(parameter) not in ids]
        return [*_by_decay(rest, 1.0), *_by_decay(vision, self.settings.vision_factor)]

    def modules(self) -> dict[str, nn.Module]:
        return {"model": self._taught.model}

    def batch(self, step: int) -> dict[str, Tensor]:
        pictures = self._taught.pictures(self.settings, step)
        rng = random.Random(f"{self._taught.seed} {self.settings.name} turns {step}")
        return pictures | vars(self._packer.pack(self._taught.layouts(pictures), rng))

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        model = self._taught.model
        turns = Turns(*(batch[name] for name in ("ids", "targets", "positions", "segments")))
        hidden = model.model(
            input_ids=turns.ids,
            pixel_values=self._taught.pixel_values(batch),
            attention_mask=turns.mask(),
            position_ids=turns.positions,
            use_cache=False,
        ).last_hidden_state
        targets = turns.targets[:, 1:]
        kept = targets != IGNORED
        logits, targets = model.lm_head(hidden[:, :-1][kept]).float(), targets[kept]
        names, looked_up = self._names.to(targets.device)[targets], self._looked_up.to(targets.device)[targets]
        weights = torch.where(looked_up, self.settings.look_up_weight, 1.0)
        loss = (functional.cross_entropy(logits, targets, reduction="none") * weights).mean()
        right = (logits.argmax(-1) == targets).float()
        metrics = {
            "tokens right": right.mean(),
            "names right": (right * names).sum() / names.sum().clamp(min=1),
            "looked up right": (right * looked_up).sum() / looked_up.sum().clamp(min=1),
        }
        return loss, metrics


def _marked(tokenizer: PreTrainedTokenizerFast, words: Iterable[str]) -> Tensor:
    """[vocabulary] bool, true at the words' ids."""
    marks = torch.zeros(len(tokenizer), dtype=torch.bool)
    marks[[word_id(tokenizer, word) for word in words]] = True
    return marks


def _by_decay(parameters: Iterable[nn.Parameter], factor: float) -> list[dict[str, Any]]:
    """Weights decay; biases and norms do not."""
    parameters = list(parameters)
    return [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1], "factor": factor},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "factor": factor, "weight_decay": 0},
    ]
