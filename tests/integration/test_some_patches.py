"""Words that see only some patches: held against transformers alone, with both baselines, for several grids too."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from integration.reference import processor_inputs
from integration.test_several_images import OPTIONS, TALL, WIDE
from llava_doors.family import PatchGrid
from llava_doors.method import Needs
from llava_eval.metric import evaluate
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_server.fit.room import Room
from llava_server.look import scorer as scoring
from llava_server.look.painted import GREY_LEVEL, covered
from llava_wire import Record, RequestError
from llava_wire.geometry import Preprocess
from shapes.sightings import held_out
from support.pictures import scene_bytes

YELLOW = 5
"""The step of " yellow" in the first answer."""


def answered(engine: Engine, image: object, question: str = "Describe the image.", **options: object) -> Record:
    [record] = engine.run([GenerateRequest.build(image, question, options)])
    assert isinstance(record, Record), record
    return record


def some_sets(patches: int, count: int = 19) -> np.ndarray:
    """Random sets of very different sizes, nothing and everything among them; more than run side by side."""
    random = np.random.default_rng(3)
    keep = random.random((count, patches)) < random.random((count, 1))
    keep[0], keep[-1] = False, True
    return keep


def forced(model, processor, record: Record, image: bytes, keep: np.ndarray | None = None) -> np.ndarray:
    """log p of the record's tokens about an image by transformers alone; patches not kept are the mean embedding."""
    inputs = processor_inputs(processor, [image], [record.facts.prompt.text])
    ids = torch.cat([inputs["input_ids"], torch.tensor([[token.id for token in record.tokens]])], 1)
    with torch.no_grad():
        entered = model.get_input_embeddings()(ids)
        features = torch.cat(list(model.get_image_features(inputs["pixel_values"]).pooler_output))
        if keep is not None:
            features = torch.where(torch.from_numpy(keep)[:, None], features, features.mean(0))
        entered[0, ids[0] == model.config.image_token_id] = features
        rows = slice(inputs["input_ids"].shape[1] - 1, -1)
        logits = model(inputs_embeds=entered).logits[0, rows]
    return logits.log_softmax(-1).gather(1, ids[0, -len(logits) :, None])[:, 0].numpy()


def test_mean_embeddings_equal_transformers_and_the_values_of_another_implementation(engine, eager, first_scene):
    record = answered(engine, first_scene)
    scorer, keep = engine.scorer(record, YELLOW, first_scene), some_sets(64)
    found = scorer.log_probs(keep)
    expected = [forced(eager, engine.loaded.processor, record, first_scene, one)[YELLOW] for one in keep]
    assert (scorer.baseline, found.dtype, found.shape) == ("mean embedding", np.float64, (len(keep),))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert found[0] == pytest.approx(record.tokens[YELLOW].without_image, abs=1e-5) == pytest.approx(-2.8125, abs=1e-3)
    assert found[-1] == pytest.approx(record.tokens[YELLOW].logprob, abs=1e-5)
    alone = np.zeros((2, 64), bool)
    alone[0, [25, 26, 33, 34]] = True
    alone[1] = ~alone[0]
    np.testing.assert_allclose(np.exp(scorer.log_probs(alone)), [1.0, 0.999], atol=5e-4)


def test_grey_equals_painted_pixels_on_images_that_are_cropped(engine, eager):
    image = scene_bytes(256, 192, seed=1)
    record, keep = answered(engine, image), some_sets(64, 11)
    found = engine.scorer(record, 1, image, baseline="grey").log_probs(keep)
    pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]] + 0.5
    for one, value in zip(keep, found, strict=True):
        painted = pixels.copy()
        for x0, y0, x1, y1 in record.patch_rects().reshape(-1, 4)[~one]:
            painted[(x >= x0) & (x < x1) & (y >= y0) & (y < y1)] = GREY_LEVEL
        buffer = io.BytesIO()
        Image.fromarray(painted).save(buffer, "PNG")
        assert value == pytest.approx(forced(eager, engine.loaded.processor, record, buffer.getvalue())[1], abs=1e-4)


@pytest.mark.parametrize("baseline", ["mean embedding", "grey"])
def test_it_is_a_scorer_of_metrics(engine, first_scene, baseline):
    record = answered(engine, first_scene)
    sighting = held_out(71001, 240)[0]
    scorer = engine.scorer(record, YELLOW, first_scene, baseline=baseline)
    boxes = [thing.box for thing in sighting.scene.objects if thing.colour == "yellow"]
    insertion = evaluate("insertion", record.map(YELLOW), record.geometry.patch_rects(), boxes, scorer)
    deletion = evaluate("deletion", record.map(YELLOW), record.geometry.patch_rects(), boxes, scorer)
    assert insertion.value > insertion.control
    assert deletion.value < deletion.control


def test_several_grids_and_images_are_one_row_of_patches(toy):
    """Of the toy family: what is not kept is the mean of all patches of all grids; its newlines stay."""
    record = answered(toy, [WIDE, TALL], "What?", **OPTIONS)
    count, keep = sum(grid.patches for grid in record.grids), None
    scorer = toy.scorer(record, 2, [WIDE, TALL])
    keep = some_sets(count, 9)
    found = scorer.log_probs(keep)
    seen = scorer._seen
    embeddings, places = seen.embeddings(), [*seen.asked.prompt.patches]
    mean = embeddings[places].mean(0)
    for one, value in zip(keep, found, strict=True):
        given = embeddings.clone()
        given[torch.tensor(places)[torch.from_numpy(~one)]] = mean
        with torch.no_grad():
            logits = seen.forward(given[None])[0, 0].log_softmax(-1)
        assert value == pytest.approx(float(logits[record.tokens[2].id]), abs=1e-5)
    assert len({round(value, 4) for value in found}) > 5
    grey = toy.scorer(record, 2, [WIDE, TALL], baseline="grey")
    every = np.ones((2, count), bool)
    every[1, : record.grids[0].patches + record.grids[1].patches] = False  # the first image, in both of its grids
    shown, painted = grey.log_probs(every)
    assert shown == pytest.approx(record.tokens[2].logprob, abs=1e-5) != pytest.approx(painted, abs=1e-5)
    every[1, : record.grids[0].patches] = True
    with pytest.raises(ValueError, match="the same places in each grid"):
        grey.log_probs(every)


def test_every_pixel_lies_in_one_patch_whatever_the_size():
    """Rectangles end between pixels: a pixel belongs to the patch that holds its centre, crops to none."""
    for size in ((256, 192), (101, 230), (64, 64), (37, 41)):
        geometry = Preprocess(12, shortest_edge=96, crop=(96, 96)).plan(*size)
        counted = np.zeros(size[::-1], int)
        for image, box in covered(PatchGrid(0, "base", geometry, range(64))):
            assert image == 0
            counted[box] += 1
        x0, y0, x1, y1 = geometry.seen_rect()
        y, x = np.mgrid[: size[1], : size[0]] + 0.5
        np.testing.assert_array_equal(counted, (x >= x0) & (x < x1) & (y >= y0) & (y < y1))


def test_what_cannot_be_asked_is_refused(engine, first_scene):
    record = answered(engine, first_scene)
    for token in (-1, len(record.tokens), True):
        with pytest.raises(RequestError, match="a step of the answer") as refused:
            engine.scorer(record, token, first_scene)
        assert refused.value.field == "token"
    with pytest.raises(RequestError, match="mean embedding"):
        engine.scorer(record, 0, first_scene, baseline="gray")
    with pytest.raises(RequestError, match="image"):
        engine.scorer(record, 0)
    scorer = engine.scorer(record, 0, first_scene)
    for wrong in (np.ones((2, 63), bool), np.ones(64, bool), np.ones((2, 64))):
        with pytest.raises(ValueError, match="64"):
            scorer.log_probs(wrong)
    assert scorer.log_probs(np.ones((0, 64), bool)).shape == (0,)


def test_sets_side_by_side_are_counted_before_and_their_time_while_they_run(engine, first_scene):
    record = answered(engine, first_scene)
    scorer = engine.scorer(record, 0, first_scene)
    seen = scorer._seen
    late = scoring.PatchScorer(replace(seen, asked=replace(seen.asked, deadline_s=0.0)), engine._turn)
    with pytest.raises(RequestError, match="which passed") as refused:
        late.log_probs(some_sets(64))
    assert refused.value.code == "deadline"
    request = GenerateRequest.replay(record, scoring.UNSEEN, first_scene)
    room = Room.of(engine.loaded, engine.settings.limits.batch_bytes)
    prepared = engine._preparer.finish(engine._preparer.check(request, room))
    tight = replace(room, batch_bytes=prepared.checked.needed.device_bytes)
    with pytest.raises(RequestError) as refused:
        scoring.seen_at(engine.loaded, prepared, 0, tight)
    assert refused.value.code == "does_not_fit"
    assert Needs(rows="none", passes=8) == scoring.NEEDS
