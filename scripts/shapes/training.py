"""Runs stages one after another: settings -> scenes, model -> stage 0, 1, 2 -> a fp16 checkpoint in the out folder.

A step's batch depends only on (seed, stage, step), and a checkpoint is kept every few minutes: an interrupted run that
is started again with the same command goes on where it was, and ends with the same weights on the same machine.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from llava_wire.system.replacing import replacing
from shapes.dataset import Scenes, load_scenes, make_scenes, normaliser, save_scenes
from shapes.model import build_model, build_processor
from shapes.stages import AnswerStage, Stage, StageSettings, VisionStage
from shapes.tokenizer import train_pieces, wrap_pieces

STAGES: tuple[StageSettings, ...] = (
    StageSettings("stage 0", steps=1200, batch=64, learning_rate=1.5e-3, warm_up=100),
    StageSettings("stage 1", 1500, 32, 1e-3, 100, vision_factor=0.3, look_up_weight=3.0, turns=5),
    StageSettings("stage 2", 1000, 32, 6e-4, 50, vision_factor=0.3, look_up_weight=2.0, turns=5),
)
_BETAS = (0.9, 0.98)
_WEIGHT_DECAY = 0.05
_LARGEST_GRADIENT = 1.0
_LAST_LEARNING_RATE = 0.02  # of the first: the cosine does not go to zero
_LOG_EVERY = 50
_KEEP_EVERY = 100
_SCENES_SEED_OFFSET = 12345  # training scenes: far from the seeds of the held-out ones

Say = Callable[[str], None]


def train(out: Path, work: Path, seed: int, scenes_count: int, say: Say, scale: float = 1.0) -> None:
    """The whole recipe. `work` keeps scenes and checkpoints; `scale` shortens every stage, for a rehearsal."""
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    tokenizer = _tokenizer(work / f"tokenizer-{seed}.json", seed)
    processor = build_processor(tokenizer)
    model = build_model(tokenizer).train()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    say(f"seed {seed}, {len(tokenizer)} tokens, {parameters} parameters, torch {torch.__version__}, float32")
    scenes = _scenes(work / f"scenes-{seed}-{scenes_count}.npz", scenes_count, seed, say)
    for settings in STAGES:
        settings = StageSettings(**{**asdict(settings), "steps": max(1, round(settings.steps * scale))})
        if settings.turns:
            normalise = normaliser(processor)
            stage: Stage = AnswerStage(model, tokenizer, scenes, normalise, settings, seed)
        else:
            stage = VisionStage(model, scenes, normaliser(processor), settings, seed)
        run_stage(stage, work, say)
    save_model(model, processor, out)
    say(f"saved {sum(path.stat().st_size for path in out.iterdir())} bytes, weights in float16")


def run_stage(stage: Stage, work: Path, say: Say) -> None:
    """All steps of a stage, from its checkpoint where one is kept."""
    settings = stage.settings
    groups = stage.groups()
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=_BETAS, weight_decay=_WEIGHT_DECAY)
    parameters = [parameter for group in groups for parameter in group["params"]]
    kept = work / f"{settings.name.replace(' ', '-')}.pt"
    first, spent_s = _restore(stage, optimizer, kept)
    if first == 0:
        say(f"{settings.name}: {json.dumps({k: v for k, v in asdict(settings).items() if k != 'name'})}")
    elif first < settings.steps:
        say(f"{settings.name}: goes on at step {first}")
    recent: list[dict[str, float]] = []
    started = time.monotonic() - spent_s
    for step in range(first, settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * group["factor"] * _rate(step, settings)
        loss, metrics = stage.loss(step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, _LARGEST_GRADIENT)
        optimizer.step()
        recent = [*recent[1 - _LOG_EVERY :], {"loss": loss.item(), **metrics}]
        done = step + 1
        if done % _LOG_EVERY == 0 or done == settings.steps:
            means = "  ".join(f"{name} {np.nanmean([row[name] for row in recent]):.4f}" for name in recent[0])
            say(f"{settings.name} step {done}/{settings.steps}  {means}  {time.monotonic() - started:.0f} s")
        if done % _KEEP_EVERY == 0 or done == settings.steps:
            _keep(stage, optimizer, kept, done, time.monotonic() - started)


def save_model(model: LlavaForConditionalGeneration, processor: LlavaProcessor, out: Path) -> None:
    """Half precision halves the file, and the weights can be computed with in float32 all the same."""
    out.mkdir(parents=True, exist_ok=True)
    model.half()
    for config in (model.config, model.config.vision_config, model.config.text_config):
        config.dtype = torch.float16  # what a reader of config.json, and a loader with dtype="auto", goes by
    model.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    processor.save_pretrained(out)
    _pin_pictures(out / "processor_config.json")


def _pin_pictures(path: Path) -> None:
    """Name the Pillow class itself: the family name that is saved means another backend where torchvision is there,
    and its pixels differ slightly from those of the training."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["image_processor"]["image_processor_type"] = CLIPImageProcessorPil.__name__
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _rate(step: int, settings: StageSettings) -> float:
    """Linear warm-up times a cosine."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / settings.steps))
    return min(1.0, (step + 1) / settings.warm_up) * (_LAST_LEARNING_RATE + (1 - _LAST_LEARNING_RATE) * cosine)


def _tokenizer(path: Path, seed: int) -> PreTrainedTokenizerFast:
    """Built once: an interrupted run must go on with the very same token ids."""
    if not path.exists():
        train_pieces(seed).save(str(path))
    return wrap_pieces(Tokenizer.from_file(str(path)))


def _scenes(path: Path, count: int, seed: int, say: Say) -> Scenes:
    if not path.exists():
        started = time.monotonic()
        save_scenes(make_scenes(count, seed + _SCENES_SEED_OFFSET), path)
        say(f"{count} training scenes made in {time.monotonic() - started:.0f} s")
    return load_scenes(path)


def _keep(stage: Stage, optimizer: torch.optim.Optimizer, path: Path, done: int, spent_s: float) -> None:
    weights = {name: module.state_dict() for name, module in stage.modules().items()}
    state = {"done": done, "spent_s": spent_s, "weights": weights, "optimizer": optimizer.state_dict()}
    with replacing(path) as partial:  # never half a checkpoint
        torch.save(state, partial)


def _restore(stage: Stage, optimizer: torch.optim.Optimizer, path: Path) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    for name, module in stage.modules().items():
        module.load_state_dict(state["weights"][name])
    optimizer.load_state_dict(state["optimizer"])
    return state["done"], state["spent_s"]
