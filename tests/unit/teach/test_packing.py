"""Packing and tokens: a packed turn equals the prompt that is served, alone; a batch depends only on its step."""

from __future__ import annotations

import random

import pytest
import torch

from shapes.questions import ask_all, ask_some
from shapes.scenes import COLOURS, SHAPES
from teach.packing import IGNORED, Packer, scene_numbers
from teach.tokens import word_id


@pytest.fixture(scope="module")
def pictures(taught):
    numbers, mirrored = torch.tensor([0, 1, 2]), torch.tensor([[True, False], [False, True], [True, True]])
    return {"numbers": numbers, "mirrored": mirrored}


@pytest.fixture(scope="module")
def layouts(taught, pictures):
    return taught.layouts(pictures)


def test_each_packed_turn_equals_the_same_turn_alone(taught, world, pictures, layouts, processor, tokenizer):
    turns, pixels = Packer(world, tokenizer, 3).pack(layouts, random.Random(5)), taught.pixel_values(pictures)
    with torch.no_grad():
        packed = taught.model(
            input_ids=turns.ids,
            pixel_values=pixels,
            attention_mask=turns.mask(),
            position_ids=turns.positions,
            use_cache=False,
        ).logits
    rng, start = random.Random(5), len(tokenizer("USER: " + "<image>" * 64 + "\n").input_ids)
    for row, layout in enumerate(layouts):
        at = start
        for question in ask_some(rng, layout, 3):
            content = [{"type": "image"}, {"type": "text", "text": question.text}]
            prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
            text = prompt.replace("<image>", "<image>" * 64) + f" {question.answer}</s>"
            alone = tokenizer(text, return_tensors="pt").input_ids
            length = alone.shape[1] - start
            assert turns.ids[row, at : at + length].tolist() == alone[0, start:].tolist()
            with torch.no_grad():
                wanted = taught.model(input_ids=alone, pixel_values=pixels[row : row + 1]).logits[0, start:]
            assert torch.allclose(packed[row, at : at + length], wanted, atol=1e-5)
            at += length


def test_targets_are_the_answers_and_nothing_else(world, layouts, tokenizer):
    turns = Packer(world, tokenizer, 3).pack(layouts, random.Random(6))
    rng = random.Random(6)
    for row, layout in enumerate(layouts):
        kept = turns.targets[row] != IGNORED
        assert torch.equal(turns.targets[row][kept], turns.ids[row][kept])
        wanted = "".join(f" {question.answer}</s>" for question in ask_some(rng, layout, 3))
        assert tokenizer.decode(turns.targets[row][kept]) == wanted


def test_rows_of_few_lengths_end_in_padding_that_nothing_sees(world, layouts, tokenizer):
    turns = Packer(world, tokenizer, 3).pack(layouts, random.Random(6))
    padding = turns.ids == tokenizer.pad_token_id
    assert turns.ids.shape[1] % 16 == 0
    assert padding.any()
    seen = turns.mask()[:, 0]
    assert not (seen & padding[:, None, :] & ~padding[:, :, None]).any()


def test_batches_cover_every_scene_once_per_epoch_and_repeat_by_step():
    seen = [number for step in range(5) for number in scene_numbers(20, 4, step, "a")]
    assert sorted(seen) == list(range(20))
    assert scene_numbers(20, 4, 3, "a") == seen[12:16]
    assert [n for step in range(5, 10) for n in scene_numbers(20, 4, step, "a")] != seen
    across = scene_numbers(6, 4, 1, "a")
    assert across[:2] == [scene_numbers(6, 6, 0, "a")[4], scene_numbers(6, 6, 0, "a")[5]]


def test_every_name_is_one_token_and_sentences_come_back(tokenizer, layouts):
    assert len({word_id(tokenizer, word) for word in (*COLOURS, *SHAPES)}) == len(COLOURS) + len(SHAPES)
    for question in ask_all(random.Random(7), layouts[0]):
        assert tokenizer.decode(tokenizer(question.answer).input_ids, skip_special_tokens=True) == question.answer
    with pytest.raises(ValueError, match="wanted 1"):
        word_id(tokenizer, "hippopotamus")
