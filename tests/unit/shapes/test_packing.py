"""Packing and tokens: a packed turn equals the prompt that is served, alone; a batch depends only on its step."""

import random

import numpy as np
import pytest
import torch

from shapes.dataset import make_scenes, normaliser
from shapes.packing import IGNORED, Packer, mirror_pictures, scene_numbers
from shapes.questions import ask_all, ask_some
from shapes.scenes import COLOURS, SHAPES
from shapes.stages import patch_targets
from shapes.tokenizer import build_tokenizer, word_id


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(6, seed=3)


@pytest.fixture(scope="module")
def pictures(scenes, processor):
    return mirror_pictures(scenes, [0, 1, 2], random.Random(4), normaliser(processor))


def test_each_packed_turn_equals_the_same_turn_alone(pictures, processor, tokenizer, model):
    turns = Packer(tokenizer, 3).pack(pictures.layouts, random.Random(5))
    with torch.no_grad():
        packed = model(
            input_ids=turns.ids,
            pixel_values=pictures.pixels,
            attention_mask=turns.mask,
            position_ids=turns.positions,
            use_cache=False,
        ).logits
    rng, start = random.Random(5), len(tokenizer("USER: " + "<image>" * 64 + "\n").input_ids)
    for row, layout in enumerate(pictures.layouts):
        at = start
        for question in ask_some(rng, layout, 3):
            content = [{"type": "image"}, {"type": "text", "text": question.text}]
            prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
            text = prompt.replace("<image>", "<image>" * 64) + f" {question.answer}</s>"
            alone = tokenizer(text, return_tensors="pt").input_ids
            length = alone.shape[1] - start
            assert turns.ids[row, at : at + length].tolist() == alone[0, start:].tolist()
            with torch.no_grad():
                wanted = model(input_ids=alone, pixel_values=pictures.pixels[row : row + 1]).logits[0, start:]
            assert torch.allclose(packed[row, at : at + length], wanted, atol=1e-5)
            at += length


def test_targets_are_the_answers_and_nothing_else(pictures, tokenizer):
    turns = Packer(tokenizer, 3).pack(pictures.layouts, random.Random(6))
    rng = random.Random(6)
    for row, layout in enumerate(pictures.layouts):
        kept = turns.targets[row] != IGNORED
        assert torch.equal(turns.targets[row][kept], turns.ids[row][kept])
        wanted = "".join(f" {question.answer}</s>" for question in ask_some(rng, layout, 3))
        assert tokenizer.decode(turns.targets[row][kept]) == wanted


def test_patch_targets_follow_the_mirror(pictures):
    colours, shapes, centres = patch_targets(pictures)
    assert any(across or down for across, down in pictures.mirrored)
    per_picture = colours.reshape(3, 64), shapes.reshape(3, 64), centres.reshape(3, 64, 2)
    for colour, shape, centre, layout in zip(*per_picture, pictures.layouts, strict=True):
        assert set(np.unique(colour)) == {0, *(1 + list(COLOURS).index(thing.colour) for thing in layout.objects)}
        for thing in layout.objects:
            mine = (colour == 1 + list(COLOURS).index(thing.colour)) & (shape == 1 + SHAPES.index(thing.shape))
            target = np.array(layout.in_crop(thing.centre)) * 2 - 1
            assert np.allclose(centre[mine], target, atol=1e-5)
            columns, rows = np.flatnonzero(mine) % 8, np.flatnonzero(mine) // 8
            found = np.array([columns.mean() + 0.5, rows.mean() + 0.5]) / 4 - 1
            assert np.abs(found - target).max() < 0.25, "labels and centre are of the same, mirrored image"


def test_batches_cover_every_scene_once_per_epoch_and_repeat_by_step():
    seen = [number for step in range(5) for number in scene_numbers(20, 4, step, "a")]
    assert sorted(seen) == list(range(20))
    assert scene_numbers(20, 4, 3, "a") == seen[12:16]
    assert [n for step in range(5, 10) for n in scene_numbers(20, 4, step, "a")] != seen
    across = scene_numbers(6, 4, 1, "a")
    assert across[:2] == [scene_numbers(6, 6, 0, "a")[4], scene_numbers(6, 6, 0, "a")[5]]


def test_every_name_is_one_token_and_sentences_come_back(tokenizer, scenes):
    assert len({word_id(tokenizer, word) for word in (*COLOURS, *SHAPES)}) == len(COLOURS) + len(SHAPES)
    for question in ask_all(random.Random(7), scenes.layouts[0]):
        assert tokenizer.decode(tokenizer(question.answer).input_ids, skip_special_tokens=True) == question.answer
    with pytest.raises(ValueError, match="wanted 1"):
        word_id(tokenizer, "hippopotamus")


def test_the_tokenizer_is_the_same_every_time(tokenizer):
    assert build_tokenizer(0).get_vocab() == tokenizer.get_vocab()
