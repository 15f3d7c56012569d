"""The check of sets: numbers of the engine's own scorer, over a pipe too, and what is refused."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from integration.test_some_patches import answered
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_server.piped import answer
from llava_viewer.client.replays.scoring import SetScores
from llava_wire import Record, RequestError, decode, encode
from llava_wire.choose import ordinary_tokens
from llava_wire.findings.sets import ALL, MAX_SET_STEPS, MAX_SETS, NONE, SetCheck
from llava_wire.system.frames import read_frame, write_frame

PROMPT = "Describe the image."


def replayed(engine: Engine, record: Record, options: Mapping[str, Any], image: bytes | None = None) -> Record:
    [found] = engine.run([GenerateRequest.replay(record, options, image)])
    assert isinstance(found, Record), found
    return found


def test_every_number_is_that_of_the_scorer(engine: Engine, first_scene: bytes) -> None:
    record = answered(engine, first_scene, PROMPT)
    keep = np.random.default_rng(1).random((40, 64)) < np.linspace(0, 1, 40)[:, None]
    steps = ordinary_tokens(record.tokens)[2:6]
    asked = SetScores(lambda one, options: replayed(engine, one, options, first_scene), record, steps)
    for step in steps:
        direct = engine.scorer(record, step, first_scene).log_probs(keep)
        np.testing.assert_allclose(asked.of([step]).log_probs(keep), direct, rtol=1e-5, atol=1e-6)
    assert np.ptp(asked.of(steps).log_probs(keep)) > 1


def test_all_and_none_come_with_it(engine: Engine, first_scene: bytes) -> None:
    record = answered(engine, first_scene, PROMPT, check=["image", {"name": "sets", "hidden": {"7": [0]}}])
    check = SetCheck.of_checks(record.facts.checks)
    assert check is not None
    assert {*check.logprobs} == {ALL, NONE, "7"}
    assert list(check.steps) == ordinary_tokens(record.tokens)
    tokens = [record.tokens[step] for step in check.steps]
    np.testing.assert_allclose(check.logprobs[NONE], [token.without_image for token in tokens], atol=2e-6)
    np.testing.assert_allclose(check.logprobs[ALL], [token.logprob for token in tokens], atol=2e-5)
    assert SetCheck.of_checks(decode(encode(record)).facts.checks) == check


@pytest.mark.parametrize(
    ("parameters", "field", "says"),
    [
        ({}, "shown", "got 0 sets"),
        ({"shown": {str(n): [0] for n in range(MAX_SETS)}, "hidden": {"9999": [0]}}, "shown", "got 513 sets"),
        ({"shown": {"0": [1]}, "hidden": {"0": [1]}}, "hidden", "got the number 0"),
        ({"shown": {"0": [64]}}, "shown.0", "0 to 63"),
        ({"hidden": {"4": [64]}}, "hidden.4", "0 to 63"),
        ({"shown": {"0": [1]}, "steps": list(range(MAX_SET_STEPS + 1))}, "steps", "101 words"),
    ],
)
def test_what_cannot_be_tested_is_refused_before_it_runs(
    engine: Engine, first_scene: bytes, parameters: dict[str, Any], field: str, says: str
) -> None:
    request = GenerateRequest.build(first_scene, PROMPT, {"check": ["image", {"name": "sets", **parameters}]})
    with pytest.raises(RequestError, match=says) as refused:
        engine.estimate(request)
    assert (refused.value.code, refused.value.field) == ("invalid", f"options.check[1].{field}")


def test_a_word_after_the_end_is_told(engine: Engine, first_scene: bytes) -> None:
    record = answered(engine, first_scene, PROMPT, check=[{"name": "sets", "shown": {"0": [1]}, "steps": [1, 90]}])
    found = record.facts.checks["sets"]
    assert found["result"] == "not tested"
    assert "before the word at 90" in found["reason"]


def test_a_pipe_takes_answers_that_exist_and_refuses_what_is_none(engine: Engine, first_scene: bytes) -> None:
    record = answered(engine, first_scene, PROMPT)
    asked = io.BytesIO()
    options = {"check": [{"name": "sets", "shown": {"0": [1, 2]}}]}
    write_frame(asked, {"n": 3, "replay": True, "options": options}, [encode(record), first_scene])
    write_frame(asked, {"n": 4, "replay": True, "options": options}, [b"no record", first_scene])
    write_frame(asked, {"n": 5, "prompt": PROMPT, "options": {}}, [first_scene])
    asked.seek(0)
    told = io.BytesIO()
    answer(engine, asked, told)
    told.seek(0)
    frames = {}
    while (frame := read_frame(told)) is not None:
        if "n" in frame[0]:
            frames[frame[0]["n"]] = frame
    again = decode(frames[3][1][0])
    assert SetCheck.of_checks(again.facts.checks) is not None
    assert again.answer == record.answer == decode(frames[5][1][0]).answer
    refused = RequestError.from_body(frames[4][0]["error"])
    assert refused is not None
    assert refused.field == "record"
