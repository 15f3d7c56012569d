"""What answers a run: a server that comes and goes, an engine that dies; without a model."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llava_viewer.client.errors import ServerUnreachable
from llava_viewer.runs import engine as piped
from llava_viewer.runs import serving
from llava_viewer.runs.asking import Chunk
from llava_viewer.runs.engine import PipedEngine
from llava_viewer.runs.serving import Served
from llava_wire.errors import RequestError
from support.runs import data_of, items_in

ROOT = Path(__file__).parents[3]
_AWAY = RequestError("unavailable", "server", "got a connection that broke off, expected a whole reply")
_STARTING = RequestError("not_found", "model", "got an unknown model, expected one")
_DEAD = RequestError("worker_died", "server", "got a dead worker, expected an answer")
_ENGINE = """
import os, sys
sys.path.insert(0, {handler!r})
from llava_wire.system.frames import read_frame, write_frame
out = os.fdopen(os.dup(1), "wb")
write_frame(out, {{"ready": "small", "revision": "1"}})
group = []
while (frame := read_frame(sys.stdin.buffer)) is not None:
    if "flush" not in frame[0]:
        group.append(frame)
    if "flush" in frame[0] or len(group) == 4:
        write_frame(out, {{"begun": [plain["n"] for plain, _ in group]}})
        for plain, images in group:
            if "poison" in plain["prompt"]:
                os._exit(7)
        for plain, images in group:
            if "wrong" in plain["prompt"]:
                error = {{"code": "invalid", "status": 422, "field": "prompt", "message": "got it, expected none"}}
                write_frame(out, {{"n": plain["n"], "error": {{"error": error}}}})
            else:
                write_frame(out, {{"n": plain["n"]}}, [plain["prompt"].encode() + images[0][:4]])
        group = []
"""


class Scripted:
    """A client whose replies are written down: an error is raised, anything else answered."""

    def __init__(self, *replies: Exception | None) -> None:
        self._replies, self._lock = list(replies), threading.Lock()
        self.asked = 0

    def predict_bytes(self, image: bytes, prompt: str, options: Mapping[str, Any]) -> bytes:
        """See `Client.predict_bytes`."""
        with self._lock:
            self.asked += 1
            reply = self._replies.pop(0) if self._replies else None
        if reply is not None:
            raise reply
        return prompt.encode()

    def close(self) -> None:
        """See `Client`."""


@pytest.fixture
def chunks(tmp_path: Path) -> list[Chunk]:
    """Six items in two chunks, of which one has no image."""
    items = items_in(data_of(tmp_path / "data", 6, missing=(4,)))
    return [Chunk(0, items[:3]), Chunk(1, items[3:])]


def served(client: Scripted, tmp_path: Path, budget_s: float = 60.0) -> Served:
    """A server that answers one at a time."""
    return Served(client, {}, tmp_path / "data", budget_s=budget_s, in_flight=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("trouble", [_AWAY, _DEAD, _STARTING, ServerUnreachable("here", "refused")])
def test_a_server_that_comes_back_costs_nothing(
    tmp_path: Path, chunks: list[Chunk], monkeypatch: pytest.MonkeyPatch, trouble: RequestError
) -> None:
    monkeypatch.setattr(serving, "_PAUSE_S", 0.01)
    client = Scripted(None, None, trouble, trouble)
    found = {item.n: reply for item, reply in served(client, tmp_path).answers(iter(chunks))}
    assert {n for n, reply in found.items() if isinstance(reply, bytes)} == {0, 1, 2, 3, 5}
    assert isinstance(found[4], OSError)
    assert client.asked == 7


def test_a_server_that_stays_away_ends_the_run(
    tmp_path: Path, chunks: list[Chunk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_PAUSE_S", 0.01)
    client = Scripted(None, *[_AWAY] * 1000)
    replies = [reply for _, reply in served(client, tmp_path, budget_s=0.1).answers(iter(chunks[:1]))]
    assert replies[0] == b"What is in 0?"
    assert replies[1] is _AWAY
    assert client.asked > 3


def test_waiting_for_a_server_is_told_now_and_then(
    tmp_path: Path, chunks: list[Chunk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_PAUSE_S", 0.01)
    told: list[str] = []
    for every_s, lines in ((60.0, 1), (0.0, 5)):
        monkeypatch.setattr(serving, "_TELL_S", every_s)
        client: Any = Scripted(None, *[_AWAY] * 5)
        asks = Served(client, {}, tmp_path / "data", budget_s=60.0, in_flight=1, say=told.append)
        assert all(isinstance(reply, bytes) for _, reply in asks.answers(iter(chunks[:1])))
        waiting = [line for line in told if line.startswith("waiting for the server, up to 60 s more: ")]
        assert len(waiting) == lines
        told.clear()


def test_a_server_that_was_never_there_is_told_at_once(tmp_path: Path, chunks: list[Chunk]) -> None:
    client = Scripted(*[ServerUnreachable("here", "refused")] * 1000)
    _, reply = next(served(client, tmp_path).answers(iter(chunks)))
    assert isinstance(reply, ServerUnreachable)
    assert client.asked == 1
    client = Scripted(*[_STARTING] * 1000)
    assert next(served(client, tmp_path).answers(iter(chunks)))[1] is _STARTING


def test_an_item_that_kills_workers_is_given_up(
    tmp_path: Path, chunks: list[Chunk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_PAUSE_S", 0.01)
    client = Scripted(_DEAD, _DEAD, _DEAD)
    replies = [reply for _, reply in served(client, tmp_path).answers(iter(chunks[:1]))]
    assert replies == [_DEAD, b"What is in 1?", b"What is in 2?"]


def made_engine(tmp_path: Path) -> PipedEngine:
    """An engine of a few lines, which dies of the word "poison"."""
    command = [sys.executable, "-c", _ENGINE.format(handler=str(ROOT / "handler"))]
    return PipedEngine(command, {}, tmp_path / "data")


def with_prompts(chunks: list[Chunk], prompts: Mapping[int, str]) -> list[Chunk]:
    """The chunks with other questions for some items."""
    from dataclasses import replace

    return [
        Chunk(chunk.number, [replace(item, prompt=prompts.get(item.n, item.prompt)) for item in chunk.items])
        for chunk in chunks
    ]


def test_an_engine_that_dies_is_started_again_and_the_culprit_found(tmp_path: Path, chunks: list[Chunk]) -> None:
    engine = made_engine(tmp_path)
    asked = with_prompts(chunks, {1: "poison", 2: "wrong"})
    found = {item.n: reply for item, reply in engine.answers(iter(asked))}
    engine.close()
    assert {n for n, reply in found.items() if isinstance(reply, bytes)} == {0, 3, 5}
    assert found[0] == b"What is in 0?\x89PNG"
    assert isinstance(found[4], OSError)
    errors = {n: reply.code for n, reply in found.items() if isinstance(reply, RequestError)}
    assert errors == {1: "worker_died", 2: "invalid"}
    assert "died 2 times (exit code 7)" in str(found[1])


def test_an_engine_that_always_dies_ends_the_run(
    tmp_path: Path, chunks: list[Chunk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(piped, "_DEATHS_IN_A_ROW", 1)
    engine = made_engine(tmp_path)
    asked = with_prompts(chunks, dict.fromkeys(range(6), "poison"))
    with pytest.raises(RequestError, match=r"got 2 ends in a row without an answer \(exit code 7\)"):
        list(engine.answers(iter(asked)))
    engine.close()


def test_no_model_is_loaded_where_nothing_is_left(tmp_path: Path) -> None:
    engine = made_engine(tmp_path)
    engine._command = [sys.executable, "-c", "raise SystemExit(3)"]
    assert list(engine.answers(iter(()))) == []
    engine.close()


def test_a_model_that_does_not_load_is_told(tmp_path: Path, chunks: list[Chunk]) -> None:
    engine = PipedEngine([sys.executable, "-c", "raise SystemExit(3)"], {}, tmp_path / "data")
    with pytest.raises(RequestError, match="engine: got exit code 3"):
        list(engine.answers(iter(chunks)))
