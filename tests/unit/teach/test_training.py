"""Training: an interrupted stage goes on to the same weights, and what is saved loads as any LLaVA does, offline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from teach import training
from teach.command import main
from teach.stages import AnswerStage, StageSettings, VisionStage
from teach.training import Plan
from things.train import PLAN as THINGS
from things.world import ThingsWorld

STORE = Path(__file__).parents[3] / "model_store"
VISION = StageSettings("stage 0", steps=4, batch=2, learning_rate=1e-3, warm_up=2)
ANSWERS = StageSettings("stage 1", 4, 2, 1e-3, 2, vision_factor=0.3, look_up_weight=3.0, turns=2)
PLAN = Plan([VISION, ANSWERS], scenes=8)


def make_stage(settings: StageSettings, taught):
    return AnswerStage(taught, settings) if settings.turns else VisionStage(taught, settings)


def weights(stage) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": value.clone()
        for name, module in stage.modules().items()
        for key, value in module.state_dict().items()
    }


def _folder(parent, name: str):
    (parent / name).mkdir()
    return parent / name


@pytest.mark.parametrize("settings", [VISION, ANSWERS], ids=["vision", "answers"])
def test_an_interrupted_stage_goes_on_to_the_same_weights(settings, teach, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_KEEP_EVERY", 2)
    whole = make_stage(settings, teach())
    start = weights(whole)
    training.run_stage(whole, PLAN, _folder(tmp_path, "whole"), print)

    broken = make_stage(settings, teach())
    learn = broken.batch

    def stop_at_step_3(step: int):
        if step == 3:
            raise InterruptedError
        return learn(step)

    monkeypatch.setattr(broken, "batch", stop_at_step_3)
    with pytest.raises(InterruptedError):
        training.run_stage(broken, PLAN, _folder(tmp_path, "broken"), print)

    lines: list[str] = []
    resumed = make_stage(settings, teach())
    training.run_stage(resumed, PLAN, tmp_path / "broken", lines.append)
    assert any("goes on at step 2" in line for line in lines)
    wanted, got = weights(whole), weights(resumed)
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)
    assert any(not torch.equal(wanted[name], start[name]) for name in wanted)


def test_loss_falls_on_a_handful_of_scenes(teach, tmp_path):
    stage = make_stage(StageSettings("stage 1", 25, 4, 3e-3, 5, turns=2), teach())
    with torch.no_grad():
        before = float(stage.loss(stage.batch(0))[0])
    training.run_stage(stage, PLAN, tmp_path, print)
    with torch.no_grad():
        after = float(stage.loss(stage.batch(0))[0])
    assert after < 0.7 * before


def test_saved_model_loads_offline_in_half_precision_with_the_named_backend(teach, processor, tmp_path):
    training.save_model(teach().model, processor, tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path, local_files_only=True)
    assert type(processor.image_processor) is CLIPImageProcessorPil
    assert processor.tokenizer.padding_side == "left"
    config = json.loads((tmp_path / "processor_config.json").read_text())
    assert config["image_processor"]["image_processor_type"] == "CLIPImageProcessorPil"
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, local_files_only=True)
    assert model.dtype == torch.float16
    assert type(model).__name__ == "LlavaForConditionalGeneration"
    content = [{"type": "image"}, {"type": "text", "text": "Describe the image."}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    assert prompt == "USER: <image>\nDescribe the image. ASSISTANT:"


def rehearse(world, plan: Plan, folder, *more: str) -> tuple[str, dict[str, torch.Tensor] | None]:
    """A command line's run, short and with the shipped tokens: its log, and the weights that it saved."""
    folder.mkdir(exist_ok=True)
    Tokenizer.from_file(str(STORE / world.name / "tokenizer.json")).save(str(folder / "tokenizer-0.json"))
    out = folder / "out"
    assert main(world, plan, torch.get_num_threads(), None, ["--work", str(folder), "--out", str(out), *more]) == 0
    log = (folder / "training.log").read_text("utf-8")
    if not out.is_dir():
        return log, None
    assert (out / "training.log").read_text("utf-8") == log
    return log, load_file(out / "model.safetensors")


def test_a_recipe_that_stopped_between_its_stages_goes_on_to_the_same_weights(world, tmp_path):
    half = "--scale", "0.5"
    log, whole = rehearse(world, PLAN, tmp_path / "whole", *half)
    assert "llava-shapes, seed 0, 407 tokens, 1654656 parameters" in log
    assert "stage 0 step 2/2" in log, "half of four steps"
    assert "stage 1 step 2/2" in log

    stopped, nothing = rehearse(world, PLAN, tmp_path / "broken", *half, "--until", "stage 0")
    assert nothing is None
    assert "stops after stage 0, as told" in stopped
    _, resumed = rehearse(world, PLAN, tmp_path / "broken", *half)
    assert whole is not None
    assert resumed is not None
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_rehearsal_of_the_things_ends_in_a_model_like_theirs(tmp_path):
    """Their own plan, a step of one scene per stage, batches made by a process of their own."""
    short = ("--scale", "1e-4", "--scenes", "3", "--batch", "1", "--device", "cpu", "--workers", "1")
    log, weights = rehearse(ThingsWorld(), THINGS, tmp_path, *short)
    assert "3 training scenes" in log
    assert "stage 0 step 1/1" in log
    assert "stage 1 step 1/1" in log
    assert weights is not None
    shipped = load_file(STORE / "llava-things" / "model.safetensors")
    assert {name: (part.shape, part.dtype) for name, part in weights.items()} == {
        name: (part.shape, part.dtype) for name, part in shipped.items()
    }
    assert all(part.isfinite().all() for part in weights.values())


def test_a_trained_model_goes_on_with_a_later_stage_and_keeps_its_tokens(tmp_path):
    trained = STORE / "llava-things"
    short = ("--scale", "1e-4", "--scenes", "2", "--batch", "1", "--device", "cpu", "--workers", "0")
    log, weights = rehearse(
        ThingsWorld(), THINGS, tmp_path, *short, "--weights", str(trained), "--first", "stage 1", "--seed", "1"
    )
    assert "stage 0" not in log
    assert "stage 1 step 1/1" in log
    assert weights is not None
    for name, before in load_file(trained / "model.safetensors").items():
        change = (weights[name].float() - before.float()).abs().max()
        assert change < 1e-3, f"{name}: one small step from what was there, not from random weights"
    saved, shipped = ((folder / "tokenizer.json").read_bytes() for folder in (tmp_path / "out", trained))
    assert saved == shipped
    assert (tmp_path / "from-llava-things-1" / "stage-1.pt").is_file(), "apart from a training from nothing"
    with pytest.raises(SystemExit):
        rehearse(ThingsWorld(), THINGS, tmp_path, *short, "--first", "stage 1")
