"""From a box to words and heads, on held-out scenes: the first word names the object in it, known heads come early."""

from __future__ import annotations

import numpy as np
import pytest

from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record
from shapes.pointing import naming_tokens
from support.methods import asked_of_scenes, png

SCENES = 48
VIEWS = [
    {"name": "mean", "layers": "all", "heads": "all"},
    {"name": "cells", "layers": "all", "heads": "all", "reduction": "none"},
]
KNOWN = {(2, 7), (1, 4)}
"""The two heads of the small model that look at what a word names."""


@pytest.fixture(scope="module")
def judged(engine: Engine) -> np.ndarray:
    """[object, 4] bool: the first word names it, with all heads and with the known one for shapes; one row late; a
    known head is among the first three."""
    items = [item for item in asked_of_scenes(SCENES) if item.question.kind == "describe"]
    options = {"views": VIEWS, "precision": "float32", "max_new_tokens": 48, "check": []}
    found = []
    for item in items:
        [record] = engine.run([GenerateRequest.build(png(item), item.question.text, options)])
        assert isinstance(record, Record), record
        namings = naming_tokens([token.text for token in record.tokens], item.scene.objects)
        names = {naming.step: naming.index for naming in namings}
        for index in set(names.values()):
            box = item.scene.objects[index].box
            [word, *_] = record.words_at(box)
            [shape_word, *_] = record.words_at(box, view="cells", layer=1, head=4)
            heads = record.heads_at(box)[:3]
            found.append(
                (
                    names.get(word.token) == index,
                    names.get(shape_word.token) == index,
                    names.get(word.token - 1) == index and names.get(word.token) != index,
                    any((head.layer, head.head) in KNOWN for head in heads),
                )
            )
    return np.array(found)


def test_the_first_word_names_the_object_in_the_box(judged) -> None:
    mean, one_head, late, known = judged.mean(0)
    print(f"first word: all heads {mean:.3f}, L1H4 {one_head:.3f}, the word after {late:.3f}; n = {len(judged)}")
    print(f"a known head among the first three: {known:.3f}")
    assert mean >= 0.93
    assert one_head >= 0.93
    assert late <= 0.05


def test_known_heads_are_among_the_first_three(judged) -> None:
    """Two of 32 heads: .18 of objects by chance."""
    assert judged[:, 3].mean() >= 0.5
