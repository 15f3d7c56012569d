"""A client of a model in a process of its own: what an engine in this process answers, in Python and on the command."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_viewer import Client
from llava_viewer.cli import main
from llava_viewer.client.transport.engine import EngineTransport
from llava_wire import Record, decode, encode
from llava_wire.errors import RequestError
from support.pictures import scene_bytes

PROMPT = "Describe the image."
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client.engine("llava-shapes", device="cpu", dtype="float32") as one:
        yield one


@pytest.fixture(scope="module")
def image() -> bytes:
    return scene_bytes(192, 144, seed=3)


@pytest.fixture(scope="module")
def answered(client: Client, image: bytes) -> Record:
    return client.predict(image, PROMPT)


def same(one: Record, other: Record) -> bool:
    """Whether two records are the same bytes, their run blocks and images left out."""
    alone = [replace(each.without_run(), picture=None, further_pictures=()) for each in (one, other)]
    return encode(alone[0]) == encode(alone[1])


def run_one(engine: Engine, request: GenerateRequest) -> Record:
    [found] = engine.run([request])
    assert isinstance(found, Record), found
    return found


def test_it_answers_as_the_engine_does(client: Client, answered: Record, engine: Engine, image: bytes) -> None:
    assert (client.model, client.ready()) == ("llava-shapes", True)
    assert same(answered, run_one(engine, GenerateRequest.build(image, PROMPT, {})))
    assert len(answered.pictures) == 1
    assert client.predict(image, PROMPT, keep_picture=False).pictures == ()


def test_it_replays_and_checks_an_answer(client: Client, answered: Record, engine: Engine) -> None:
    options = {"layers": "all", "heads": "all", "reduction": "none"}
    [(_, picture)] = answered.pictures
    wanted = run_one(engine, GenerateRequest.replay(encode(answered), options, [picture]))
    assert same(client.replay(answered, options), wanted)
    checked = client.check(answered, ["image"])
    assert "image" in checked.facts.checks
    assert [token.text for token in checked.tokens] == [token.text for token in answered.tokens]
    own, sets = engine.scorer(answered, 1, picture), np.eye(len(answered.maps_float()[1].ravel()), dtype=bool)[:3]
    assert np.allclose(client.scorer(answered, 1).log_probs(sets), own.log_probs(sets), atol=1e-5)


def test_what_is_refused_names_its_field(client: Client, image: bytes, answered: Record) -> None:
    with pytest.raises(RequestError, match=r"options\.layers"):
        client.predict(image, PROMPT, layers=[99])
    with pytest.raises(RequestError, match=r"options\.format: got json, expected npz of an engine without a server"):
        client.predict_bytes(image, PROMPT, format="json")
    with pytest.raises(RequestError, match=r"options\.stream: got true, expected false of an engine without a server"):
        next(iter(client.stream(image, PROMPT)))
    assert same(client.predict(image, PROMPT), answered), "it lives"
    with pytest.raises(RequestError, match="engine: got 'nowhere', expected a checkpoint folder"):
        Client.engine("nowhere")


def test_a_request_that_was_given_up_leaves_no_answer_to_the_next(client: Client, image: bytes) -> None:
    with pytest.raises(RequestError) as error:
        client.predict(image, PROMPT, timeout_s=0.001)
    assert (error.value.code, error.value.field) == ("deadline", "timeout_s")
    other = scene_bytes(96, 96, seed=8)
    record = client.predict(other, "How many shapes are there?")
    assert record.facts.prompt.text == "How many shapes are there?"
    assert record.facts.image.width_px == 96


def test_threads_get_their_own_answers(client: Client) -> None:
    found: dict[int, Record] = {}

    def ask(side: int) -> None:
        found[side] = client.predict(scene_bytes(side, side, seed=side), PROMPT)

    threads = [threading.Thread(target=ask, args=(side,)) for side in (96, 128, 160)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {side: record.facts.image.width_px for side, record in found.items()} == {96: 96, 128: 128, 160: 160}


def test_a_process_that_died_is_started_again(image: bytes, answered: Record) -> None:
    said: list[str] = []
    with Client.engine("llava-shapes", device="cpu", dtype="float32", say=said.append) as client:
        transport = client._transport
        assert isinstance(transport, EngineTransport)
        assert transport._process is not None
        os.kill(transport._process._popen.pid, signal.SIGKILL)
        assert same(client.predict(image, PROMPT), answered)
    assert [line.startswith("the engine has loaded llava-shapes") for line in said] == [True, True]
    with Client.engine("llava-shapes", device="cpu", retry_s=0) as client:
        transport = client._transport
        assert isinstance(transport, EngineTransport)
        assert transport._process is not None
        os.kill(transport._process._popen.pid, signal.SIGKILL)
        with pytest.raises(RequestError, match=r"engine: got its end \(exit code -9\), expected a record"):
            client.predict(image, PROMPT)


def test_the_commands_take_an_engine(tmp_path: Path, image: bytes, answered: Record, capsys: Captured) -> None:
    picture, run = tmp_path / "a.png", tmp_path / "run.npz"
    picture.write_bytes(image)
    engine = ["--engine", "llava-shapes", "--device", "cpu", "--dtype", "float32"]
    assert main(["predict", str(picture), PROMPT, *engine, "-o", str(run)]) == 0
    said = capsys.readouterr()
    assert answered.answer in said.out
    assert "asking llava-shapes, without a server" in said.err
    assert same(decode(run.read_bytes()), answered)
    assert main(["replay", str(run), *engine, "--reduction", "none", "-o", str(tmp_path / "heads.npz")]) == 0
    assert decode((tmp_path / "heads.npz").read_bytes()).view().axes[:3] == ("query", "layer", "head")
    assert main(["check", str(run), *engine, "--check", "image", "-o", str(tmp_path / "checked.npz")]) == 0
    assert "image" in decode((tmp_path / "checked.npz").read_bytes()).facts.checks
    capsys.readouterr()
    for more, why in (
        (["--stream"], "--engine: got --stream or --format json, which only a server has"),
        (["--url", "http://127.0.0.1:1"], "--url: got it beside --engine"),
        (["--token", "x"], "--token: got it beside --engine"),
    ):
        assert main(["predict", str(picture), PROMPT, *engine, *more]) == 2
        assert why in capsys.readouterr().err
    assert main(["predict", str(picture), PROMPT, "--device", "cpu"]) == 2
    assert "--device: got it without --engine" in capsys.readouterr().err
