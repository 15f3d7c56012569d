"""Streamed answers from a real server: the same as whole ones, beside others in a batch, and cut off when it dies."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llava_viewer.cli import main
from llava_viewer.client import Client, RequestError, StreamedToken
from llava_wire import Record, encode
from support.asking import MODEL, NPZ, Asker, a_quarter_ms

pytestmark = pytest.mark.serve
PROMPT = "Describe the image."
LONG = {"max_new_tokens": 256, "temperature": 100.0, "seed": 4}


@pytest.fixture
def client(asker: Asker) -> Iterator[Client]:
    """A client that sends nothing twice."""
    with Client.http(asker.state.http, token=Path(asker.state.key_file), timeout_s=60, retry_s=0) as one:
        yield one


def test_a_stream_is_the_whole_answer_in_parts(asker: Asker, client: Client, picture: bytes) -> None:
    options = {"precision": "float32", "layers": "all", "heads": "all", "reduction": "heads", "rows": "both"}
    *tokens, record = client.stream(picture, PROMPT, options, keep_picture=False)
    assert isinstance(record, Record)
    whole = asker.form(picture, PROMPT, options).record()
    assert encode(record.without_run()) == encode(whole.without_run())
    assert (record.run["transport"], len(record.run["request_id"])) == ("http", 36)
    # What only the finished answer can be tested for comes with the record alone.
    untested = [replace(token, without_image=None) for token in record.tokens]
    assert [part.token for part in tokens if isinstance(part, StreamedToken)] == untested
    for part in tokens:
        assert isinstance(part, StreamedToken)
        np.testing.assert_allclose(part.maps["selection"], whole.maps_float()[part.step], atol=1e-6, rtol=0)


def test_streams_beside_whole_answers_in_one_batch(asker: Asker, client: Client, picture: bytes) -> None:
    alone = {prompt: asker.form(picture, prompt).lasting() for prompt in ("How many?", PROMPT)}
    streamed = {n: list(client.stream(picture, "Hello?", {**LONG, "max_new_tokens": n}))[-1] for n in (10, 11)}

    def stream(length: int) -> bool:
        *tokens, record = client.stream(picture, "Hello?", {**LONG, "max_new_tokens": length})
        true = streamed[length]
        assert isinstance(record, Record)
        assert isinstance(true, Record)
        return len(tokens) == length and encode(record.without_run()) == encode(true.without_run())

    calls: list[Callable[[], bool]] = []
    for number in range(12):
        prompt = ("How many?", PROMPT)[number % 2]
        send = (asker.form, asker.grpc)[number // 2 % 2]
        calls.append(lambda send=send, prompt=prompt: send(picture, prompt).status == 200)
        calls.append(lambda number=number: stream(10 + number % 2))
        calls.append(lambda: asker.form(picture, PROMPT, {"layers": [99]}).error["field"] == "options.layers[0]")
    with ThreadPoolExecutor(len(calls)) as pool:
        assert all(pool.map(lambda call: call(), calls))
    assert {prompt: asker.form(picture, prompt).lasting() for prompt in alone} == alone


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"reduction": "all"}, "options.stream"),
        ({"num_beams": 2}, "options.stream"),
        ({"temperature": 1.0, "num_return_sequences": 2}, "options.stream"),
        ({"layers": [99]}, "options.layers[0]"),
    ],
)
def test_what_cannot_be_streamed_is_an_ordinary_refusal(
    options: dict[str, Any], field: str, asker: Asker, picture: bytes
) -> None:
    answer = asker.form(picture, PROMPT, {**options, "stream": True})
    assert (answer.status, answer.content_type, answer.error["field"]) == (422, "application/json", field)


def test_never_over_grpc(asker: Asker, picture: bytes) -> None:
    before = asker.workers()
    fields = {"image": picture, "prompt": PROMPT.encode(), "options": b'{"stream": true}'}
    for answer in (asker.grpc_map(fields), *asker.stream(fields)):
        assert (answer.status, answer.error["field"]) == (422, "options.stream")
    assert asker.grpc(picture, PROMPT).status == 200
    assert asker.workers() == before


def test_a_deadline_ends_a_stream_with_a_record(asker: Asker, client: Client, picture: bytes) -> None:
    deadline_ms = a_quarter_ms(asker.form(picture, "Hello?", LONG).record())
    *tokens, record = client.stream(picture, "Hello?", {**LONG, "deadline_ms": deadline_ms})
    assert isinstance(record, Record)
    assert record.facts.finish_reason == "deadline"
    assert 0 < len(tokens) == len(record.tokens) < 256


def test_a_client_that_leaves_a_stream_harms_nobody(asker: Asker, client: Client, picture: bytes) -> None:
    before = asker.workers()
    for _ in range(3):
        parts = client.stream(picture, "Hello?", LONG)
        assert isinstance(next(parts), StreamedToken)
        parts.close()
    assert asker.form(picture, PROMPT).status == 200
    assert asker.workers() == before


def test_a_worker_that_dies_in_a_stream_is_noticed(asker: Asker, client: Client, picture: bytes) -> None:
    """Which shows, too, that tokens are here before the answer is finished."""
    [(_, pid)] = asker.workers()
    parts = client.stream(picture, "Hello?", LONG)
    assert isinstance(next(parts), StreamedToken)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(RequestError, match="broke off") as caught:
        list(parts)
    assert caught.value.code == "unavailable"
    assert client.predict(picture, PROMPT, timeout_s=60).answer
    [(status, new)] = asker.workers()
    assert (status, new != pid) == ("READY", True)


def test_lines_as_curl_sees_them(asker: Asker, picture: bytes) -> None:
    files = {"image": ("x.png", picture), "prompt": (None, PROMPT), "options": (None, '{"stream": true}')}
    answer = asker.post(f"/predictions/{MODEL}", headers={"Accept": NPZ}, files=files)
    assert (answer.status, answer.content_type) == (200, "application/x-ndjson")
    lines = [json.loads(text) for text in answer.body.split(b"\n")[:-1]]
    assert [content["type"] for content in lines] == ["token"] * (len(lines) - 1) + ["record"]
    assert "".join(content["token"]["text"] for content in lines[:-1]).strip() == lines[-1]["answer"]


def test_the_command_prints_as_it_comes(
    asker: Asker, picture: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.png").write_bytes(picture)
    arguments = [str(tmp_path / "x.png"), PROMPT, "--url", asker.state.http, "--key-file", asker.state.key_file]
    assert main(["predict", *arguments, "--stream", "-o", str(tmp_path / "run.npz")]) == 0
    assert capsys.readouterr().out == asker.form(picture, PROMPT).record().answer + "\n"
    assert (tmp_path / "run.npz").read_bytes()[:2] == b"PK"
    assert main(["predict", *arguments, "--stream", "--format", "json"]) == 2
