"""The 7B path without its weights: the published layout loads through the same code; sizes from the real config."""

from __future__ import annotations

import json

import estimate
import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoProcessor, LlavaConfig, LlavaForConditionalGeneration

from integration.conftest import STORE
from integration.reference import eager_run
from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import ModelSettings, SettingsError
from llava_server.engine import Engine
from llava_server.load.loading import load
from llava_server.read.prompt import PromptEncoder
from llava_wire import Record, RequestError
from support.pictures import scene_bytes
from support.published import CONFIGS, write_checkpoint


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """(folder, the float32 model whose weights it holds)."""
    folder = tmp_path_factory.mktemp("llava-1.5-7b")
    return folder, write_checkpoint(folder)


def test_the_layout_is_the_hubs(published):
    folder, _ = published
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(index.values())) == 3
    assert "language_model.model.layers.0.self_attn.q_proj.weight" in index
    assert "language_model.lm_head.weight" in index
    assert "vision_tower.vision_model.encoder.layers.0.self_attn.k_proj.weight" in index
    assert "multi_modal_projector.linear_1.weight" in index
    with safe_open(folder / "model-00001-of-00003.safetensors", "pt") as shard:
        assert shard.get_tensor(next(iter(shard.keys()))).dtype == torch.float16
    assert (folder / "chat_template.json").is_file()


def test_it_loads_with_no_missing_and_no_unexpected_keys_and_answers_exactly(published):
    folder, model = published
    section = {"name": "llava-1.5-7b", "source": "llava-hf/llava-1.5-7b-hf", "dtype": "float16"}
    engine = Engine.load(folder, settings=section, device="cpu", dtype="float32")
    loaded = dict(engine.loaded.model.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(loaded[name], parameter, atol=0, rtol=0)
    pictures, prompts = [scene_bytes(500, 400, 1), scene_bytes(300, 420, 2)], ["What is in the image?", "red"]
    options = {"layers": "all", "heads": "all", "reduction": "none", "precision": "float32", "max_new_tokens": 4}
    records = engine.run([GenerateRequest.build(p, q, options) for p, q in zip(pictures, prompts, strict=True)])
    reference = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    processor = AutoProcessor.from_pretrained(folder, backend="pil")
    for record, wanted in zip(records, eager_run(reference.eval(), processor, pictures, prompts, 4), strict=True):
        assert isinstance(record, Record)
        assert record.maps_float().shape == (len(record.tokens), 4, 4, 24, 24)
        assert [token.id for token in record.tokens] == wanted.tokens
        np.testing.assert_allclose(record.maps_float(), wanted.maps, atol=1e-6, rtol=0)
    facts = records[0].facts.prompt
    assert facts.rendered == "USER: <image>\nWhat is in the image? ASSISTANT:"
    [(start, count)] = records[0].grids[0].positions
    assert (start, count, {*facts.ids[start : start + count]}) == (5, 576, {32000})
    assert facts.ids[:start] == (1, 3148, 1001, 29901, 29871)  # as the published tokenizer writes "USER: "
    assert facts.ids[-5:] == (319, 1799, 9047, 13566, 29901)


def test_typed_special_tokens_stay_text_with_a_llama_tokenizer_too(published):
    loaded = Engine.load(published[0], settings={"name": "x"}, device="cpu", dtype="float32").loaded
    tokenizer = loaded.processor.tokenizer
    encoder = PromptEncoder(loaded.processor, 32000, 32064)
    picture = loaded.layout([(100, 100)])
    plain, hostile = (encoder.encode(text, "chat", picture) for text in ("a red circle", "a <image></s> red circle"))
    assert hostile.ids.count(32000) == 576
    assert 2 not in hostile.ids
    after = hostile.patches[-1] + 1
    assert hostile.ids[:after] == plain.ids[:after]
    assert "<image></s> red circle" in tokenizer.decode(hostile.ids[after:])
    assert hostile.ids[-6:] == plain.ids[-6:]


def test_a_checkpoint_with_a_missing_weight_is_refused_by_name(published, tmp_path):
    folder, _ = published
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    gone = "language_model.model.layers.3.mlp.up_proj.weight"
    shard = tmp_path / index["weight_map"][gone]
    from safetensors.torch import load_file, save_file

    save_file({key: value for key, value in load_file(shard).items() if key != gone}, shard, metadata={"format": "pt"})
    with pytest.raises(SettingsError, match=r"missing_keys.*layers\.3\.mlp\.up_proj"):
        load(tmp_path, ModelSettings(name="broken"), device="cpu", dtype="float16")


def test_the_real_configuration_on_the_meta_device_has_the_published_size():
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(LlavaConfig.from_pretrained(CONFIGS))
    # The three published shards hold 4.99, 4.96 and 4.18 GB of fp16.
    assert sum(p.numel() for p in model.parameters()) * 2 == pytest.approx(14.13e9, rel=1e-3)


def test_estimate_adds_up_for_the_7b(capsys):
    assert estimate.main(["llava-1.5-7b", "--prompt-tokens", "40"]) == 0
    rows = dict(estimate.table(STORE, "llava-1.5-7b", {}, 40))
    # 32 layers x 32 heads x 128 values x 2 (keys, values) x 2 bytes, for 576 + 40 + 64 positions.
    assert rows["key-value cache"] == 32 * 32 * 128 * 2 * 2 * (576 + 40 + 64)
    assert rows["captured queries"] == 32 * 32 * 128 * 2 * 64
    assert rows["weights"] == pytest.approx(14.13e9, rel=1e-3)
    assert "fits" in capsys.readouterr().out
    everything = ["llava-1.5-7b", "--options", '{"layers": "all", "heads": "all", "reduction": "none"}']
    assert estimate.main(everything) == 1
    out = capsys.readouterr().out
    assert "refused with status 507: response, at most is over the limit of a response; set reduction" in out


def test_what_cannot_fit_is_refused_before_generation_with_numbers_and_advice(engine, monkeypatch):
    from dataclasses import replace

    limits = replace(engine.settings.limits, max_response_bytes=400_000)
    engine = Engine(engine.loaded, replace(engine.settings, limits=limits))
    monkeypatch.setattr("llava_server.run.decoders.generate", lambda *_: pytest.fail("nothing may be generated"))
    options = {"layers": "all", "heads": "all", "reduction": "none", "precision": "float32"}
    error = engine.run([GenerateRequest.build(scene_bytes(99, 99, 1), "Describe the image.", options)])[0]
    assert (error.code, error.status) == ("does_not_fit", 507)
    assert "expected 234464" in error.message
    assert 'set reduction "heads"' in error.message


def test_the_estimate_bounds_what_a_run_really_takes(engine):
    from llava_server.answer.response import to_response

    for options in (
        {},
        {"layers": "all", "heads": "all", "reduction": "none"},
        {"precision": "float32", "rows": "both"},
    ):
        request = GenerateRequest.build(
            scene_bytes(200, 150, 4), "Describe the image.", {"max_new_tokens": 12, **options}
        )
        needed = engine.estimate(request)
        record = engine.run([request])[0]
        assert len(to_response(record, "npz")[0]) <= needed.response_bytes


def test_a_mapped_model_answers_like_one_on_one_device(published):
    """`device: map` lets accelerate place the layers; on a machine without a GPU they all land on the CPU."""
    folder, _ = published
    request = GenerateRequest.build(scene_bytes(300, 300, 1), "What is in the image?", {"max_new_tokens": 3})
    one = Engine.load(folder, settings={"name": "x"}, device="cpu", dtype="float32").run([request])[0]
    mapped = Engine.load(folder, settings={"name": "x", "device": "map"}, dtype="float32").run([request])[0]
    assert [t.id for t in mapped.tokens] == [t.id for t in one.tokens]
    np.testing.assert_allclose(mapped.maps_float(), one.maps_float(), atol=1e-3, rtol=0)


def test_logits_that_are_not_finite_are_an_error_and_not_a_record(published):
    engine = Engine.load(published[0], settings={"name": "x"}, device="cpu", dtype="float32")
    with torch.no_grad():
        engine.loaded.model.lm_head.weight.fill_(float("nan"))
    error = engine.run([GenerateRequest.build(scene_bytes(90, 90, 1), "What?", {"max_new_tokens": 2})])[0]
    assert isinstance(error, RequestError)
    assert error.code == "internal"
    assert "logits that are not finite" in error.message
