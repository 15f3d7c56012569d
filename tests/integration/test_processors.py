"""What the server makes of images and a question is what transformers' own processors make of them: ids, pixels, kinds
of tokens. Neither needs torchvision.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from transformers.utils import is_torchvision_available

from llava_doors.door import FAMILIES
from llava_server.ask.settings import ModelSettings
from llava_server.load.checkpoint import check_checkpoint
from llava_server.read.prompt import PromptEncoder
from support import tiny_checkpoints as tiny
from support.pictures import scene

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent / "families"
PAGE = ROOT / "docs" / "families.md"
BEYOND = 3
"""Kinds of checkpoint whose layout was studied and that no family takes yet; the page names them."""
ONE, TWO = [scene(500, 330, 1)], [scene(260, 410, 2), scene(700, 90, 3)]


def llava(folder: Path) -> Path:
    """LLaVA-1.5, tiny."""
    config = tf.LlavaConfig(
        text_config=tiny.text(tf.LlamaConfig), vision_config=tiny.clip(), image_token_index=tiny.IMAGE_ID
    )
    return tiny.write(folder, config, tiny.clip_processor(tiny.template("USER: ", " ASSISTANT:")))


def module_of(name: str) -> Any:
    return importlib.import_module(f"integration.families.test_{name}")


def kinds() -> dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]]:
    """What makes a checkpoint and what loads transformers' processor of it, by kind."""

    def loaded(folder: Path) -> Any:
        return tf.AutoProcessor.from_pretrained(folder, backend="pil")

    found: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]] = {"llava": (llava, loaded)}
    for path in sorted(HERE.glob("test_*.py")):
        name = path.stem.removeprefix("test_")
        module = module_of(name)
        made = getattr(module, "processor", None)
        theirs = loaded if made is None else lambda folder, made=made: made()
        for text in getattr(module, "TEXTS", {"": None}):
            make = partial(module.checkpoint, kind=text) if text else module.checkpoint
            found[f"{name} {text}".strip()] = (make, theirs)
    return found


def differences(folder: Path, processor: Any, pictures: list[Any]) -> list[str]:
    """What the server gives otherwise than the processor, of one prompt."""
    family, own = check_checkpoint(folder, ModelSettings.from_dict({"name": "tiny"}))
    question = "What is there?"
    content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": question}]
    rendered = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    theirs = dict(processor(text=[rendered], images=[pictures], return_tensors="pt"))
    vocabulary = family.facts(torch.float32).vocabulary
    encoder = PromptEncoder(own, family.image_token_id, vocabulary, family.placeholder(own.tokenizer))
    layout = family.layout(own, [picture.size for picture in pictures])
    ids = torch.tensor([encoder.encode(question, "chat", layout).ids])
    ours = {"input_ids": ids, **family.own_inputs(ids, family.inputs(own, pictures))}
    theirs.pop("attention_mask")
    same = {
        name for name in ours.keys() & theirs.keys() if torch.equal(ours[name].to(theirs[name].dtype), theirs[name])
    }
    return sorted((ours.keys() | theirs.keys()) - same)


def test_ids_pixels_and_kinds_of_tokens_are_those_of_every_processor(tmp_path: Path) -> None:
    assert not is_torchvision_available(), "it would not be known whether it is needed"
    compared, families = [], set()
    for name, (make, theirs) in kinds().items():
        folder = make(tmp_path / name)
        family, _ = check_checkpoint(folder, ModelSettings.from_dict({"name": "tiny"}))
        for pictures in [ONE, TWO] if family.several else [ONE]:
            assert differences(folder, theirs(folder), pictures) == [], f"{name}, {len(pictures)}"
        compared.append(name)
        families.add(type(family).__module__.rpartition(".")[2])
    assert families == {*FAMILIES.known()}
    told = re.search(r"(\d+) of (\d+) kinds of checkpoint \(.*?\); not (.*?), which no family", PAGE.read_text())
    assert told is not None
    assert (int(told[1]), int(told[2])) == (len(compared), len(compared) + BEYOND)
    assert len(re.split(", | and ", told[3])) == BEYOND


@pytest.mark.parametrize("what", ["ids", "pixels", "kinds"])
def test_a_difference_is_noticed(what: str, tmp_path: Path) -> None:
    module = module_of("qwen2_5_vl")
    folder, processor = module.checkpoint(tmp_path / "qwen"), module.processor()

    class Other:
        apply_chat_template = staticmethod(processor.apply_chat_template)

        def __call__(self, **given: Any) -> dict[str, Any]:
            made = dict(processor(**given))
            changed = {"ids": "input_ids", "pixels": "pixel_values", "kinds": "mm_token_type_ids"}[what]
            made[changed] = made[changed].clone()
            made[changed].view(-1)[40] += 1
            return made

    assert differences(folder, processor, ONE) == []
    assert len(differences(folder, Other(), ONE)) == 1
