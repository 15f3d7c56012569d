"""Vision towers and image processors: what transformers can run is shown in place, what cannot work is refused."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from PIL import Image

from integration.test_families import asked
from llava_doors.family import FamilyError
from llava_doors.parts.tower import patch_grid
from llava_server.ask.settings import ModelSettings, SettingsError
from llava_server.engine import Engine
from support.families import STORE, WORKING, tiny_llava

SIDE, PATCH = 94, 12  # no multiple: the last 10 px of a row and of a column belong to no patch


def siglip_llava(strategy: str, side: int = SIDE) -> tuple[Any, Any]:
    """A tiny LLaVA on a SigLIP tower, which has no class token."""
    model, processor = tiny_llava(WORKING["qwen2, window in one layer"])
    config = copy.deepcopy(model.config)
    config.vision_config = tf.SiglipVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=side,
        patch_size=PATCH, vision_use_head=False,
    )  # fmt: skip
    config.vision_feature_layer, config.vision_feature_select_strategy = -1, strategy
    torch.manual_seed(4)
    other = tf.LlavaForConditionalGeneration(config).float().eval()
    other.generation_config.eos_token_id = model.generation_config.eos_token_id
    processor.image_processor = tf.SiglipImageProcessorPil(size={"height": side, "width": side})
    return other, processor


def test_a_siglip_tower_with_a_remainder_is_shown_in_place(pictures: list[bytes]) -> None:
    engine = Engine.from_model(*siglip_llava("full"), ModelSettings(name="siglip"))
    layout = engine.loaded.layout([(300, 200)])
    assert [(grid.rows, grid.cols) for grid in layout.grids] == [(7, 7)]
    assert layout.tokens == layout.patches == 49
    [record] = asked(engine, pictures[0], ["What is there?"], {})
    assert record.maps_float().shape[-2:] == (7, 7)
    width, height = record.facts.image.width_px, record.facts.image.height_px
    seen = record.geometry.seen_rect()
    np.testing.assert_allclose(seen, (0, 0, width * 84 / SIDE, height * 84 / SIDE))
    np.testing.assert_allclose(record.geometry.patch_rects()[6, 6, 2:], seen[2:])


def test_a_patch_of_it_reads_the_pixels_of_its_rectangle() -> None:
    """With the tower's blocks silenced a token depends on its own pixels alone: painting a rectangle moves it alone."""
    model, processor = siglip_llava("full")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "vision_tower" in name and ("out_proj" in name or "fc2" in name):
                weight.zero_()
    engine = Engine.from_model(model, processor, ModelSettings(name="siglip"))

    def features(picture: Image.Image) -> torch.Tensor:
        pixels = processor.image_processor(images=[picture], return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            return model.model.get_image_features(pixel_values=pixels, return_dict=True).pooler_output[0]

    ground = Image.new("RGB", (188, 282), "white")
    geometry = engine.loaded.layout([ground.size]).grids[0].geometry
    before = features(ground)
    for row, col in ((0, 0), (3, 5), (6, 6)):
        x0, y0, x1, y1 = geometry.patch_rects()[row, col]
        painted = ground.copy()
        painted.paste((200, 30, 30), (round(x0) + 5, round(y0) + 7, round(x1) - 5, round(y1) - 7))
        moved = (features(painted) - before).abs().amax(-1) > 1e-5
        assert moved.nonzero().flatten().tolist() == [row * 7 + col]
    rest = ground.copy()
    rest.paste((0, 0, 0), (round(geometry.seen_rect()[2]) + 5, 0, ground.width, ground.height))
    assert not ((features(rest) - before).abs() > 1e-5).any(), "what lies beyond the patches is never seen"


def test_a_class_token_is_no_patch(pictures: list[bytes]) -> None:
    model, processor = tiny_llava(WORKING["llama"])
    model.config.vision_feature_select_strategy = "full"
    engine = Engine.from_model(model, processor, ModelSettings(name="full"))
    layout = engine.loaded.layout([(300, 200)])
    assert (layout.tokens, layout.grids[0].tokens[0]) == (layout.patches + 1, 1)
    [record] = asked(engine, pictures[0], ["What is there?"], {})
    prompt = record.facts.prompt
    assert prompt.ids.count(model.config.image_token_id) == layout.tokens
    assert prompt.ids[record.grids[0].positions[0][0] - 1] == model.config.image_token_id
    assert [note.code for note in record.facts.notes] == ["class-token"]
    ids = torch.tensor([prompt.ids])
    pixels = processor.image_processor(images=[Image.open(io.BytesIO(pictures[0]))], return_tensors="pt")[
        "pixel_values"
    ]
    model.set_attn_implementation({"text_config": "eager"})
    with torch.no_grad():
        attentions = model(input_ids=ids, pixel_values=pixels, output_attentions=True, use_cache=False).attentions
    rows = torch.stack([layer[0, :, -1] for layer in attentions]).numpy()
    start, count = record.grids[0].positions[0]
    image = slice(start, start + count)
    ours = record.maps_float()[0].reshape(rows.shape[0], rows.shape[1], -1)
    np.testing.assert_allclose(ours, rows[..., image], atol=2e-6)


def test_a_strategy_that_drops_a_patch_is_refused() -> None:
    with pytest.raises(FamilyError, match=r"got 'default', which keeps 48 of the 49 tokens .* set .* to full"):
        patch_grid(siglip_llava("default")[0].config)


def test_a_tower_without_a_fixed_grid_is_refused() -> None:
    model, _ = tiny_llava(WORKING["llama"])
    model.config.vision_config = tf.PixtralVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, image_size=64, patch_size=16
    )
    with pytest.raises(FamilyError, match=r"config\.vision_"):
        patch_grid(model.config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"crop_size": {"height": 72, "width": 72}},
            r"got pixel values of \[1, 3, 72, 72\] .*expected \[1, 3, 96, 96\]",
        ),
        ({"do_center_crop": False}, r"got pixel values of \[1, 3, 96, 128\]"),
        ({"do_resize": False, "do_center_crop": False}, r"got pixel values of \[1, 3, 48, 64\]"),
    ],
)
def test_a_processor_that_does_not_fit_the_tower_is_refused_at_load(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    source = STORE / "llava-shapes"
    for path in source.iterdir():
        (tmp_path / path.name).symlink_to(path)
    name = next(name for name in ("preprocessor_config.json", "processor_config.json") if (source / name).is_file())
    settings = json.loads((source / name).read_text())
    inner = settings.get("image_processor", settings)
    inner.update(change)
    (tmp_path / name).unlink()
    (tmp_path / name).write_text(json.dumps(settings))
    with pytest.raises(SettingsError, match=message):
        Engine.load(tmp_path, device="cpu")
