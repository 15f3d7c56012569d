"""Runs stages one after another: settings -> scenes, model -> stages -> a fp16 checkpoint in the out folder.

A step's batch depends only on (seed, stage, step), and a checkpoint is kept every hundred steps: an interrupted run
that is started again with the same command goes on where it was, and ends with the same weights on the same CPU.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import LlavaForConditionalGeneration, LlavaProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from llava_wire.system.replacing import replacing
from teach.model import build_model, build_processor
from teach.pool import pool
from teach.stages import AnswerStage, Stage, StageSettings, Taught, VisionStage
from teach.tokens import train_pieces, wrap_pieces
from teach.world import World

_BETAS = (0.9, 0.98)
_WEIGHT_DECAY = 0.05
_LARGEST_GRADIENT = 1.0
_LAST_LEARNING_RATE = 0.02
"""Of the first: the cosine does not go to zero."""
_LOG_EVERY = 50
_KEEP_EVERY = 100
_SCENES_SEED_OFFSET = 12_345
"""Training scenes: far from the seeds of the held-out ones."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How a world is taught.

    Args:
        stages: with no turns: the vision tower alone.
        scenes: in the pool.
        seed: of everything.
        device: "cpu" or "cuda"; a GPU computes in bfloat16 where that is safe.
        workers: processes that make scenes and batches.
        first, until: names of stages, the first and the last to run; None for those of all.
        weights: folder of a trained model to begin with; None begins with random weights.
    """

    stages: Sequence[StageSettings]
    scenes: int
    seed: int = 0
    device: str = "cpu"
    workers: int = 0
    first: str | None = None
    until: str | None = None
    weights: Path | None = None

    def scaled(self, factor: float) -> Plan:
        """The same with a share of every stage's steps, for a rehearsal."""
        stages = [replace(one, steps=max(1, round(one.steps * factor))) for one in self.stages]
        return replace(self, stages=stages)

    def asked(self) -> Sequence[StageSettings]:
        """The stages to run."""
        names = [one.name for one in self.stages]
        first = names.index(self.first) if self.first else 0
        return self.stages[first : names.index(self.until) + 1 if self.until else None]


def train(world: World, plan: Plan, out: Path, work: Path, say: Say) -> None:
    """The whole recipe; `work` keeps scenes and checkpoints."""
    if plan.weights:  # apart from the stages of a training from nothing, which would be taken for these
        work = work / f"from-{plan.weights.resolve().name}-{plan.seed}"
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.seed)
    pieces = plan.weights / "tokenizer.json" if plan.weights else work / f"tokenizer-{plan.seed}.json"
    if (
        not plan.weights and not pieces.exists()
    ):  # built once: an interrupted run must go on with the very same token ids
        train_pieces(world, plan.seed).save(str(pieces))
    tokenizer = wrap_pieces(Tokenizer.from_file(str(pieces)), world.words)
    processor = build_processor(world, tokenizer)
    model = _trained(plan.weights) if plan.weights else build_model(world, tokenizer)
    model.train()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    made_of = f"{len(tokenizer)} tokens, {parameters} parameters"
    say(f"{world.name}, seed {plan.seed}, {made_of}, torch {torch.__version__}, {plan.device}")
    started = time.monotonic()
    scenes = pool(world, work, plan.scenes, plan.seed + _SCENES_SEED_OFFSET, max(1, plan.workers))
    say(f"{plan.scenes} training scenes in {time.monotonic() - started:.0f} s")
    model.to(plan.device)  # only now: processes that are forked from one that uses a GPU inherit it
    images = processor.image_processor
    pixels = torch.from_numpy(scenes.pixels).to(plan.device)
    mean, deviation = tuple(images.image_mean), tuple(images.image_std)
    taught = Taught(world, model, tokenizer, scenes, pixels, plan.seed, mean, deviation)
    for settings in plan.asked():
        stage: Stage = AnswerStage(taught, settings) if settings.turns else VisionStage(taught, settings)
        run_stage(stage, plan, work, say)
    if plan.until:
        say(f"stops after {plan.until}, as told")
        return
    save_model(model.cpu(), processor, out)
    say(f"saved {sum(path.stat().st_size for path in out.iterdir())} bytes, weights in float16")


def _trained(folder: Path) -> LlavaForConditionalGeneration:
    """A trained model; its weights are kept in half precision and learn in float32."""
    return LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, local_files_only=True)


class _Batches(Dataset[dict[str, Tensor]]):
    """A stage's batches by step."""

    def __init__(self, stage: Stage, first: int) -> None:
        self._stage, self._first = stage, first

    def __len__(self) -> int:
        return self._stage.settings.steps - self._first

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self._stage.batch(self._first + index)


def run_stage(stage: Stage, plan: Plan, work: Path, say: Say) -> None:
    """All steps of a stage, from its checkpoint where one is kept."""
    settings, cuda = stage.settings, plan.device.startswith("cuda")
    for module in stage.modules().values():
        module.to(plan.device)
    groups = stage.groups()
    optimizer = torch.optim.AdamW(
        groups, lr=settings.learning_rate, betas=_BETAS, weight_decay=_WEIGHT_DECAY, fused=cuda or None
    )
    parameters = [parameter for group in groups for parameter in group["params"]]
    kept = work / f"{settings.name.replace(' ', '-')}.pt"
    first, spent_s = _restore(stage, optimizer, kept, plan.device)
    if first == 0:
        say(f"{settings.name}: {json.dumps({k: v for k, v in asdict(settings).items() if k != 'name'})}")
    elif first < settings.steps:
        say(f"{settings.name}: goes on at step {first}")
    recent: list[dict[str, Tensor]] = []
    started = time.monotonic() - spent_s
    for step, batch in enumerate(_loaded(stage, plan, first), start=first):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * group["factor"] * _rate(step, settings)
        with torch.autocast(plan.device.partition(":")[0], torch.bfloat16, enabled=cuda):
            loss, metrics = stage.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, _LARGEST_GRADIENT)
        optimizer.step()
        recent = [*recent[1 - _LOG_EVERY :], {"loss": loss.detach(), **metrics}]
        done = step + 1
        if done % _LOG_EVERY == 0 or done == settings.steps:
            means = "  ".join(f"{name} {torch.stack([row[name] for row in recent]).mean():.4f}" for name in recent[0])
            say(f"{settings.name} step {done}/{settings.steps}  {means}  {time.monotonic() - started:.0f} s")
        if done % _KEEP_EVERY == 0 or done == settings.steps:
            _keep(stage, optimizer, kept, done, time.monotonic() - started)


def _loaded(stage: Stage, plan: Plan, first: int) -> Iterator[dict[str, Tensor]]:
    """A stage's batches on the device, made by other processes where there are some."""
    cuda = plan.device.startswith("cuda")
    # Forked: a stage's model and pictures are not to be copied to those that make its batches.
    context = "fork" if plan.workers else None
    batches = _Batches(stage, first)
    loader = DataLoader(
        batches, batch_size=None, num_workers=plan.workers, pin_memory=cuda, multiprocessing_context=context
    )
    for batch in loader:
        yield {name: part.to(plan.device, non_blocking=True) for name, part in batch.items()}


def save_model(model: LlavaForConditionalGeneration, processor: LlavaProcessor, out: Path) -> None:
    """Half precision halves the file, and the weights can be computed with in float32 all the same."""
    out.mkdir(parents=True, exist_ok=True)
    model.half()
    for config in (model.config, model.config.vision_config, model.config.text_config):
        config.dtype = torch.float16  # what a reader of config.json, and a loader with dtype="auto", goes by
    model.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    processor.save_pretrained(out)
    # Name the Pillow class itself: the family name that is saved means another backend where torchvision is there, and
    # its pixels differ slightly from those of the training.
    path = out / "processor_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["image_processor"]["image_processor_type"] = CLIPImageProcessorPil.__name__
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _rate(step: int, settings: StageSettings) -> float:
    """Linear warm-up times a cosine."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / settings.steps))
    return min(1.0, (step + 1) / settings.warm_up) * (_LAST_LEARNING_RATE + (1 - _LAST_LEARNING_RATE) * cosine)


def _keep(stage: Stage, optimizer: torch.optim.Optimizer, path: Path, done: int, spent_s: float) -> None:
    weights = {name: module.state_dict() for name, module in stage.modules().items()}
    state = {"done": done, "spent_s": spent_s, "weights": weights, "optimizer": optimizer.state_dict()}
    with replacing(path) as partial:  # never half a checkpoint
        torch.save(state, partial)


def _restore(stage: Stage, optimizer: torch.optim.Optimizer, path: Path, device: str) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True, map_location=device)
    for name, module in stage.modules().items():
        module.load_state_dict(state["weights"][name])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["done"]), float(state["spent_s"])
