"""Training: an interrupted stage goes on to the same weights, and what is saved loads as any LLaVA does, offline."""

import json

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from shapes import training
from shapes.dataset import make_scenes, normaliser
from shapes.model import build_model, build_processor
from shapes.stages import AnswerStage, StageSettings, VisionStage
from shapes.tokenizer import build_tokenizer

VISION = StageSettings("stage 0", steps=4, batch=2, learning_rate=1e-3, warm_up=2)
ANSWERS = StageSettings("stage 1", 4, 2, 1e-3, 2, vision_factor=0.3, look_up_weight=3.0, turns=2)


def make_stage(settings: StageSettings, tokenizer, processor):
    torch.manual_seed(0)
    model, scenes, normalise = build_model(tokenizer), make_scenes(8, 1), normaliser(processor)
    if settings.turns:
        return AnswerStage(model, tokenizer, scenes, normalise, settings, 0)
    return VisionStage(model, scenes, normalise, settings, 0)


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
def test_an_interrupted_stage_goes_on_to_the_same_weights(settings, tokenizer, processor, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_KEEP_EVERY", 2)
    whole = make_stage(settings, tokenizer, processor)
    start = weights(whole)
    training.run_stage(whole, _folder(tmp_path, "whole"), print)

    broken = make_stage(settings, tokenizer, processor)
    learn = broken.loss

    def stop_at_step_3(step: int):
        if step == 3:
            raise InterruptedError
        return learn(step)

    monkeypatch.setattr(broken, "loss", stop_at_step_3)
    with pytest.raises(InterruptedError):
        training.run_stage(broken, _folder(tmp_path, "broken"), print)

    lines: list[str] = []
    resumed = make_stage(settings, tokenizer, processor)
    training.run_stage(resumed, tmp_path / "broken", lines.append)
    assert any("goes on at step 2" in line for line in lines)
    wanted, got = weights(whole), weights(resumed)
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)
    assert any(not torch.equal(wanted[name], start[name]) for name in wanted)


def test_loss_falls_on_a_handful_of_scenes(tokenizer, processor, tmp_path):
    settings = StageSettings("stage 1", 25, 4, 3e-3, 5, turns=2)
    stage = make_stage(settings, tokenizer, processor)
    with torch.no_grad():
        before = float(stage.loss(0)[0])
    training.run_stage(stage, tmp_path, print)
    with torch.no_grad():
        after = float(stage.loss(0)[0])
    assert after < 0.7 * before


def test_saved_model_loads_offline_in_half_precision_with_the_named_backend(tmp_path):
    tokenizer = build_tokenizer(0)
    training.save_model(build_model(tokenizer), build_processor(tokenizer), tmp_path)
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
