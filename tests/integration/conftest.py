"""The shipped model, small random ones with other shapes, and pictures, once per session."""

from __future__ import annotations

import copy
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration

from llava_doors.door import FAMILIES
from llava_server.ask.settings import ModelSettings
from llava_server.engine import Engine
from llava_server.run.static import StaticDecoder
from shapes.sightings import held_out
from support import toy_family
from support.installed import installed
from support.pictures import scene_bytes

# The small model is all overhead: threads that wait for each other cost more than they give.
torch.set_num_threads(1)

STORE = Path(__file__).resolve().parents[2] / "model_store"


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The shipped small model in float32 on the CPU."""
    return Engine.load(STORE / "llava-shapes", device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def half_engine(engine: Engine) -> Engine:
    """The shipped model in bfloat16, under the name of `engine`, so that it replays its records."""
    named = {"name": engine.settings.name, "revision": engine.settings.revision}
    return Engine.load(STORE / "llava-shapes", device="cpu", dtype="bfloat16", settings=named)


# Each shape takes most of half a minute to compile: every run compiles one, `compiled_engine`.
KINDS = ["static", pytest.param("compiled", marks=pytest.mark.long)]


@pytest.fixture(scope="session", params=KINDS)
def static_engine(request: pytest.FixtureRequest, engine: Engine) -> Engine:
    """The shipped model decoding on static buffers, uncompiled and compiled; batches of 1 and up to 4."""
    return on_static_buffers(engine, request.param)


@pytest.fixture(scope="session")
def compiled_engine(engine: Engine) -> Engine:
    """The shipped model with one compiled shape, for a batch of 1."""
    return on_static_buffers(engine, "compiled", batches=(1,))


@pytest.fixture(scope="session", params=KINDS)
def static_grouped(
    request: pytest.FixtureRequest, grouped: tuple[Engine, LlavaForConditionalGeneration]
) -> tuple[Engine, LlavaForConditionalGeneration]:
    """As `grouped`, decoding on static buffers."""
    return on_static_buffers(grouped[0], request.param), grouped[1]


def on_static_buffers(engine: Engine, name: str, batches: tuple[int, ...] = (1, 4)) -> Engine:
    """The same model with static buffers; skips without a C++ compiler when they are to be compiled."""
    if name == "compiled" and shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("no C++ compiler: torch.compile needs one on the CPU")
    decoder = StaticDecoder(engine.loaded, batches, (128,), compiled=name == "compiled")
    decoder.warm_up()
    return Engine(engine.loaded, engine.settings, decoder)


@pytest.fixture(scope="session")
def eager() -> LlavaForConditionalGeneration:
    """The same checkpoint with transformers' own eager attention: the reference."""
    return LlavaForConditionalGeneration.from_pretrained(
        STORE / "llava-shapes", dtype=torch.float32, attn_implementation="eager"
    ).eval()


@pytest.fixture(scope="session")
def grouped() -> tuple[Engine, LlavaForConditionalGeneration]:
    """A random model with 8 query heads on 2 key-value heads: the engine and its eager twin."""
    from transformers import LlavaConfig

    processor = AutoProcessor.from_pretrained(STORE / "llava-shapes", backend="pil")
    config = LlavaConfig.from_pretrained(STORE / "llava-shapes")
    config.text_config.num_key_value_heads = 2
    config.text_config.num_hidden_layers = 3
    torch.manual_seed(7)
    model = LlavaForConditionalGeneration(copy.deepcopy(config)).float()
    # Ordinary initialisation gives nearly uniform attention; wider weights make rows that differ.
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "q_proj" in name or "k_proj" in name:
                weight.mul_(4)
    reference = LlavaForConditionalGeneration._from_config(config, attn_implementation="eager").float()
    reference.load_state_dict(model.state_dict())
    settings = ModelSettings(name="grouped")
    return Engine.from_model(model, processor, settings), reference.eval()


@pytest.fixture(scope="session")
def pictures() -> list[bytes]:
    """A landscape, a portrait and a square scene as PNG files."""
    return [scene_bytes(256, 192, seed=1), scene_bytes(192, 240, seed=2), scene_bytes(192, 192, seed=3)]


@pytest.fixture(scope="session")
def first_scene() -> bytes:
    """The first of `held_out(71001, 240)`: a yellow triangle and a blue circle."""
    buffer = io.BytesIO()
    held_out(71001, 240)[0].scene.image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def toy_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of random weights, while the family is installed."""
    folder = tmp_path_factory.mktemp("toy") / "weights"
    folder.mkdir()
    toy_family.write(folder, STORE / "llava-shapes")
    with installed(folder.parent / "site", FAMILIES, "support.toy_family:DECLARATION"):
        yield folder


@pytest.fixture(scope="module")
def toy(toy_checkpoint: Path) -> Engine:
    """A model of the toy family."""
    return Engine.load(toy_checkpoint, device="cpu", dtype="float32")
