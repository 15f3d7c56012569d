"""A model padded to more ids than its tokenizer has words for, byte-level, with `<|im_start|>` in its template."""

from __future__ import annotations

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from llava_server.engine import Engine
from llava_server.request import GenerateRequest
from llava_server.settings import ModelSettings
from llava_wire import Record, decode, encode
from support.pictures import scene_bytes
from support.processors import processor_of

WORDS = 263
PICTURE = scene_bytes(96, 80, seed=1)


@pytest.fixture(scope="module")
def padded() -> Engine:
    """320 ids, of which the tokenizer has 263; those that it has not are likely."""
    processor = processor_of("bytes", "chatml")
    assert len(processor.tokenizer) == WORDS
    text = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        vocab_size=320, max_position_embeddings=512, bos_token_id=256, eos_token_id=257, pad_token_id=258,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    image_id = processor.tokenizer.convert_tokens_to_ids("<image>")
    torch.manual_seed(3)
    model = LlavaForConditionalGeneration(
        LlavaConfig(text_config=text, vision_config=vision, image_token_index=image_id)
    ).float()
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
