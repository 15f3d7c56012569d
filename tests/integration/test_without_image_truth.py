"""The check without the image tells which words need it: held against images whose objects were really painted over."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from integration.reference import processor_inputs
from llava_eval.statistics import auroc
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record
from shapes.sightings import held_out
from teach.pictures import painted_over

SCENES = [40, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
SEED = 20_261_127
BATCH = 32


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def logprobs(model, processor, image: bytes, record: Record) -> np.ndarray:
    """Of the record's tokens about another image, by transformers alone."""
    inputs = processor_inputs(processor, [image], [record.facts.prompt.text])
    answer = torch.tensor([[token.id for token in record.tokens]])
    ids = torch.cat([inputs["input_ids"], answer], 1)
    with torch.no_grad():
        logits = model(input_ids=ids, pixel_values=inputs["pixel_values"], attention_mask=torch.ones_like(ids)).logits[
            0, inputs["input_ids"].shape[1] - 1 : -1
        ]
    return logits.log_softmax(-1).gather(1, answer[0, :, None])[:, 0].numpy()


@pytest.mark.parametrize("count", SCENES)
def test_words_that_need_the_image_are_told_from_those_that_do_not(engine: Engine, eager, count):
    items = held_out(SEED, count)
    scores, shares, truth, scenes = [], [], [], []
    for start in range(0, len(items), BATCH):
        batch = items[start : start + BATCH]
        requests = [GenerateRequest.build(png(item.scene.image), item.question.text, {}) for item in batch]
        for item, record in zip(batch, engine.run(requests), strict=True):
            assert isinstance(record, Record), record
            really = logprobs(eager, engine.loaded.processor, png(painted_over(item.scene)), record)
            share = record.views["mean"].shares[:, 1]
            for number, token in enumerate(record.tokens):
                if not token.special:
                    scores.append(token.logprob - token.without_image)
                    shares.append(share[number])
                    truth.append(token.logprob - really[number] > 1)
                    scenes.append(id(item.scene))
    needs = np.array(truth)
    found, by_share = auroc(np.array(scores), needs), auroc(np.array(shares), needs)
    said = np.array(scores) > 1
    print(
        f"{len(needs)} tokens of {len(set(scenes))} scenes, {needs.mean():.3f} need the objects: AUROC of the check "
        f"{found:.3f}, of the attention share {by_share:.3f}; of those said to need it {needs[said].mean():.3f} do, of "
        f"those that do {said[needs].mean():.3f} are said to"
    )
    assert found >= 0.95
    assert by_share < 0.7
