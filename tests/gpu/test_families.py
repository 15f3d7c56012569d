"""Every family on a GPU: rows and tokens of transformers' eager attention on the CPU, and sound rows in bfloat16."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf

from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from support.family_proofs import BOTH, Asked, Proof, check_rows, records
from support.pictures import scene_bytes

HERE = Path(__file__).resolve().parents[1] / "integration" / "families"
NAMES = sorted(path.stem.removeprefix("test_") for path in HERE.glob("test_*.py"))
FLAT, TALL = scene_bytes(400, 90, seed=1), scene_bytes(150, 410, seed=3)
QUESTIONS: list[Asked] = [([FLAT], "What?"), ([TALL], "And a longer question?")]
"""Of two lengths, so that a batch is padded; prompts of some families differ in their images' tokens too."""


@dataclass(frozen=True)
class Tiny:
    """A checkpoint of a family, and the module that makes and proves it."""

    folder: Path
    module: Any


@pytest.fixture(scope="module", params=NAMES)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    module = importlib.import_module(f"integration.families.test_{request.param}")
    return Tiny(module.checkpoint(tmp_path_factory.mktemp("tiny") / request.param), module)


@pytest.fixture(autouse=True, scope="module")
def _names_of_this_version() -> None:
    """GPU machines have the transformers that they have; earlier ones name ViP-LLaVA's layers otherwise."""
    if not hasattr(tf.VipLlavaConfig(), "vision_feature_layer"):
        kept = tf.VipLlavaConfig.attribute_map
        tf.VipLlavaConfig.attribute_map = {**kept, "vision_feature_layer": "vision_feature_layers"}


@pytest.fixture(autouse=True)
def _exact_float32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_rows_and_tokens_are_those_of_eager_attention_on_the_cpu(tiny: Tiny, device: str) -> None:
    """In a padded batch, alone, replayed and streamed."""
    processor = tiny.module.processor() if hasattr(tiny.module, "processor") else None
    proof = Proof.of(tiny.folder, processor=processor, device=device)
    for record in check_rows(proof, QUESTIONS):
        assert record.facts.model.device.startswith(device)


def test_rows_are_sound_in_bfloat16(tiny: Tiny, device: str) -> None:
    engine = Engine.load(tiny.folder, settings={"name": "tiny", "check": []}, device=device, dtype="bfloat16")
    requests = [GenerateRequest.build([*images], words, {**BOTH, "max_new_tokens": 4}) for images, words in QUESTIONS]
    for record in records(engine.run(requests)):
        assert record.facts.checks["self_test"]["result"] == "passed"
        view, words = record.views["maps"], record.texts["words"]
        maps = view.patches_float()
        assert np.isfinite(maps).all()
        assert np.isfinite(words.values).all()
        np.testing.assert_allclose(view.shares.sum(-1), 1, atol=1e-3)
        np.testing.assert_allclose(maps.sum(-1), view.shares[..., 1], atol=1e-3)
        np.testing.assert_allclose(maps.sum(-1).mean((1, 2)) + words.values.sum(-1), 1, atol=1e-3)
