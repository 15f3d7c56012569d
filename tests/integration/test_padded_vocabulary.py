"""A model padded to more ids than its tokenizer has words for, byte-level, with `<|im_start|>` in its template."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import ModelSettings, SettingsError
from llava_server.engine import Engine
from llava_wire import Record, RequestError, decode, encode
from support.pictures import scene_bytes
from support.processors import processor_of

WORDS = 263
PICTURE = scene_bytes(96, 80, seed=1)


def tiny(vocabulary: int, template: str = "chatml") -> tuple[LlavaForConditionalGeneration, Any]:
    """A random model with so many ids, and a processor whose tokenizer has `WORDS`, `<think>` the last of them."""
    processor = processor_of("bytes", template)
    text = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        vocab_size=vocabulary, max_position_embeddings=512, bos_token_id=256, eos_token_id=257, pad_token_id=258,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    image_id = processor.tokenizer.convert_tokens_to_ids("<image>")
    torch.manual_seed(3)
    config = LlavaConfig(text_config=text, vision_config=vision, image_token_index=image_id)
    return LlavaForConditionalGeneration(config).float(), processor


@pytest.fixture(scope="module")
def padded() -> Engine:
    """320 ids, of which the tokenizer has 263; those that it has not are likely."""
    model, processor = tiny(320)
    assert len(processor.tokenizer) == WORDS
    with torch.no_grad():
        model.lm_head.weight[WORDS:] *= 3
    return Engine.from_model(model, processor, ModelSettings(name="padded"))


@pytest.mark.parametrize("options", [{}, {"num_beams": 3, "num_return_sequences": 2}, {"temperature": 2.0, "seed": 1}])
def test_ids_without_a_word_are_named_in_tokens_and_candidates(padded: Engine, options: dict) -> None:
    [record] = padded.run([GenerateRequest.build(PICTURE, "Où est-il ?", {"max_new_tokens": 24, **options})])
    assert isinstance(record, Record), record
    tokens = [token for one in (record, *record.alternatives) for token in one.tokens]
    unused = [token for token in tokens if token.id >= WORDS]
    assert unused
    assert {(token.piece, token.text) for token in unused} == {(f"<unused {token.id}>", "") for token in unused}
    candidates = [candidate for token in tokens for candidate in token.top]
    assert any(candidate.id >= WORDS for candidate in candidates)
    for candidate in candidates:
        assert (candidate.text == f"<unused {candidate.id}>") == (candidate.id >= WORDS)
    prompt = record.facts.prompt
    assert "None" not in {*(token.piece for token in tokens), *prompt.pieces}
    assert prompt.rendered == "<|im_start|>user\n<image>\nOù est-il ?<|im_end|>\n<|im_start|>assistant\n"
    assert "".join(prompt.texts) == "user\n\nOù est-il ?\nassistant\n"


def test_a_replay_takes_such_an_answer(padded: Engine) -> None:
    [record] = padded.run([GenerateRequest.build(PICTURE, "What </s> is it?", {"max_new_tokens": 6})])
    assert [note.code for note in record.facts.notes] == ["literal-markup"]
    [again] = padded.run([GenerateRequest.replay(decode(encode(record)), {"reduction": "none"}, PICTURE)])
    assert isinstance(again, Record), again
    assert again.facts.prompt == record.facts.prompt
    assert [token.id for token in again.tokens] == [token.id for token in record.tokens]
    assert again.facts.notes == record.facts.notes


def test_a_word_that_the_model_has_no_embedding_for_is_refused_and_harms_nobody() -> None:
    engine = Engine.from_model(*tiny(WORDS - 1), ModelSettings(name="short"))
    requests = [GenerateRequest.build(PICTURE, text, {"max_new_tokens": 2}) for text in ("<think> What?", "What?")]
    refused, answered = engine.run(requests)
    assert isinstance(refused, RequestError)
    assert (refused.status, refused.field) == (422, "prompt")
    assert "got '<think> (262)', expected text of tokens that the model has embeddings for" in refused.message
    assert isinstance(answered, Record)


def test_a_template_that_the_model_has_no_embeddings_for_is_refused_at_load() -> None:
    with pytest.raises(SettingsError, match=r"got <\|im_start\|> \(260\) in every prompt, expected ids 0 to 259"):
        Engine.from_model(*tiny(260), ModelSettings(name="short"))


def test_a_model_without_end_and_padding_answers_to_its_limit_also_in_a_batch() -> None:
    model, processor = tiny(320)
    model.generation_config.eos_token_id = None
    processor.tokenizer = copy.deepcopy(processor.tokenizer)
    processor.tokenizer.eos_token = processor.tokenizer.pad_token = None
    engine = Engine.from_model(model, processor, ModelSettings(name="endless"))
    assert engine.loaded.eos_ids == ()
    requests = [GenerateRequest.build(PICTURE, text, {"max_new_tokens": 5}) for text in ("What?", "What is longer?")]
    requests.append(GenerateRequest.build(PICTURE, "What?", {"max_new_tokens": 5, "num_beams": 2}))
    for record in engine.run(requests):
        assert isinstance(record, Record), record
        assert (len(record.tokens), record.facts.finish_reason) == (5, "length")


def test_padding_is_never_a_patch_of_the_picture() -> None:
    model, processor = tiny(320)
    processor.tokenizer = copy.deepcopy(processor.tokenizer)
    processor.tokenizer.pad_token = "<image>"
    engine = Engine.from_model(model, processor, ModelSettings(name="odd"))
    requests = [GenerateRequest.build(PICTURE, text, {"max_new_tokens": 3}) for text in ("What?", "What is longer?")]
    assert all(isinstance(record, Record) for record in engine.run(requests))
