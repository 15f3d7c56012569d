"""A small world, its tokenizer and an untrained model, built once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast

from shapes.world import ShapesWorld
from teach.model import build_model, build_processor
from teach.pool import Pool, pool
from teach.stages import Taught
from teach.tokens import train_pieces, wrap_pieces

# The small model is all overhead: threads that wait for each other cost more than they give.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def world() -> ShapesWorld:
    return ShapesWorld()


@pytest.fixture(scope="session")
def tokenizer(world: ShapesWorld) -> PreTrainedTokenizerFast:
    return wrap_pieces(train_pieces(world, 0), world.words)


@pytest.fixture(scope="session")
def processor(world: ShapesWorld, tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    return build_processor(world, tokenizer)


@pytest.fixture(scope="session")
def scenes(world: ShapesWorld, tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return pool(world, tmp_path_factory.mktemp("pool"), 8, seed=3, processes=1)


@pytest.fixture(scope="session")
def teach(
    world: ShapesWorld, tokenizer: PreTrainedTokenizerFast, processor: LlavaProcessor, scenes: Pool
) -> Callable[[], Taught]:
    """Makes a model that is taught, untrained and each time the same, and what it is taught with."""

    def make() -> Taught:
        torch.manual_seed(0)
        model: LlavaForConditionalGeneration = build_model(world, tokenizer)
        images = processor.image_processor
        norm = tuple(images.image_mean), tuple(images.image_std)
        return Taught(world, model, tokenizer, scenes, torch.from_numpy(scenes.pixels), 0, *norm)

    return make


@pytest.fixture(scope="session")
def taught(teach: Callable[[], Taught]) -> Taught:
    """One for tests that train nothing."""
    made = teach()
    made.model.eval()
    return made


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The folder of the trained model of the small world."""
    return Path(__file__).parents[3] / "model_store" / "llava-shapes"
