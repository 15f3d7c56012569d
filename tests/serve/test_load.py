"""Too many clients, slow ones, and ones that leave: only answers and refusals that say "later", every answer right."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_viewer.client import Client, RequestError
from llava_wire import Record
from servekit.paths import MODEL_STORE, run_folder
from servekit.server import start_server
from stress.soaking.cases import difference
from support.asking import MODEL, Asker, a_quarter_ms
from support.pictures import scene_bytes

pytestmark = pytest.mark.serve
CLIENTS = 200
QUEUE = 8
LONG = {"max_new_tokens": 256, "temperature": 100.0, "seed": 4}
LONGER = {**LONG, "num_return_sequences": 8}
PROMPTS = ("What color is the square?", "How many?", "Describe the image.", "Is there a blue square?")


@pytest.fixture(scope="module")
def small_queue(built_archive: Path) -> Iterator[Asker]:
    """A server in whose queue eight requests may wait."""
    overrides = {"job_queue_size": str(QUEUE)}
    with start_server([MODEL], name=f"test-load-{os.getpid()}", ports="auto", overrides=overrides) as server:
        one = Asker(server.state)
        yield one
        one.close()
    shutil.rmtree(run_folder(server.state.name), ignore_errors=True)


@pytest.fixture(scope="module")
def truths(picture: bytes) -> dict[str, Record]:
    """The engine's own answers."""
    engine = Engine.load(MODEL_STORE / MODEL, device="cpu", dtype="float32")
    results = [engine.run([GenerateRequest.build(picture, prompt, {"precision": "float32"})])[0] for prompt in PROMPTS]
    return {prompt: result for prompt, result in zip(PROMPTS, results, strict=True) if isinstance(result, Record)}


def ask_all(asker: Asker, picture: bytes, truths: dict[str, Record], retry_s: float) -> Counter[str]:
    """The outcomes of `CLIENTS` clients with connections of their own, all at the moment when a long request begins."""
    held = ThreadPoolExecutor(1)
    gate = threading.Barrier(CLIENTS, action=lambda: held.submit(asker.form, picture, "Hello?", LONGER))

    def one(number: int) -> str:
        key_file, prompt = Path(asker.state.key_file), PROMPTS[number % len(PROMPTS)]
        make = Client.grpc if number % 2 else Client.http
        address = asker.state.grpc if number % 2 else asker.state.http
        with make(address, token=key_file, timeout_s=240, retry_s=retry_s) as client:
            gate.wait()
            try:
                record = client.predict(picture, prompt, precision="float32", keep_picture=False)
            except RequestError as error:
                return f"{error.code} {error.status}"
            return difference(record, truths[prompt]) or "right"

    with ThreadPoolExecutor(CLIENTS) as pool:
        outcomes = Counter(pool.map(one, range(CLIENTS)))
    held.shutdown()
    return outcomes


def test_200_clients_get_answers_or_come_back_later(
    small_queue: Asker, picture: bytes, truths: dict[str, Record]
) -> None:
    before = small_queue.workers()
    outcomes = ask_all(small_queue, picture, truths, retry_s=0)
    assert set(outcomes) <= {"right", "overloaded 503"}, outcomes
    # At least the queue and a batch; who comes after a place is free again is answered too.
    assert QUEUE <= outcomes["right"] < CLIENTS, outcomes
    assert small_queue.workers() == before


def test_200_patient_clients_are_all_answered(small_queue: Asker, picture: bytes, truths: dict[str, Record]) -> None:
    before = small_queue.workers()
    assert ask_all(small_queue, picture, truths, retry_s=200) == {"right": CLIENTS}
    assert small_queue.workers() == before


def test_a_deadline_ends_the_work_and_frees_the_worker(asker: Asker, picture: bytes) -> None:
    whole = asker.form(picture, "Hello?", LONG).record()
    assert whole.facts.finish_reason == "length"
    cut = asker.form(picture, "Hello?", {**LONG, "deadline_ms": a_quarter_ms(whole)}).record()
    assert cut.facts.finish_reason == "deadline"
    ids = [token.id for token in cut.tokens]
    assert ids == [token.id for token in whole.tokens][: len(ids)]
    assert len(ids) < len(whole.tokens)
    assert cut.run["decode_ms"] < whole.run["decode_ms"]


def test_waiting_counts_against_the_deadline(asker: Asker, picture: bytes) -> None:
    """In one batch with a long request the time runs for both; the short one is done when its own time is."""
    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(asker.form, picture, "Hello?", LONG)
        short = pool.submit(asker.form, picture, "Hello?", {**LONG, "deadline_ms": 1})
        assert long.result().record().facts.finish_reason == "length"
        answer = short.result()
    if answer.status == 503:
        assert (answer.error["code"], answer.error["field"]) == ("deadline", "options.deadline_ms")
    else:
        assert answer.record().facts.finish_reason == "deadline"


def test_clients_that_leave_harm_nobody(asker: Asker, picture: bytes, truths: dict[str, Record]) -> None:
    before = asker.workers()
    key_file = Path(asker.state.key_file)
    for make, address in ((Client.http, asker.state.http), (Client.grpc, asker.state.grpc)):
        with make(address, token=key_file, timeout_s=0.05, retry_s=0) as client:
            for _ in range(5):
                with pytest.raises(RequestError, match="timeout_s: got no answer"):
                    client.predict(picture, "Hello?", LONG, keep_picture=False)
    for prompt in PROMPTS[:2]:
        assert difference(asker.form(picture, prompt, {"precision": "float32"}).record(), truths[prompt]) == ""
    assert asker.workers() == before


def test_stalled_connections_do_not_keep_others_waiting(asker: Asker, picture: bytes) -> None:
    """A hundred clients that send half a form and then nothing: as many as Java has threads would stop it otherwise."""
    host, port = urlsplit(asker.state.http).hostname, urlsplit(asker.state.http).port
    head = (
        f"POST /predictions/{MODEL} HTTP/1.1\r\nHost: x\r\nAuthorization: {asker.auth()['Authorization']}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000\r\n\r\n--b\r\n"
    )
    stalled = []
    try:
        for _ in range(100):
            stalled.append(socket.create_connection((host, port), timeout=10))
            stalled[-1].sendall(head.encode())
        time.sleep(0.2)
        assert asker.form(picture, PROMPTS[0]).status == 200
        assert asker.grpc(picture, PROMPTS[0]).status == 200
    finally:
        for connection in stalled:
            connection.close()
    assert asker.form(picture, PROMPTS[1]).status == 200


def test_a_client_that_reads_slowly_gets_all_of_it(asker: Asker) -> None:
    picture = scene_bytes(256, 192, seed=5)
    options = {"layers": "all", "heads": "all", "reduction": "none", "precision": "float32"}
    files = {
        "image": ("x.png", picture),
        "prompt": (None, PROMPTS[2]),
        "options": (None, str(options).replace("'", '"')),
    }
    headers = {**asker.auth(), "Accept": "application/x-npz"}
    with asker.http_client.stream("POST", f"/predictions/{MODEL}", files=files, headers=headers) as reply:
        assert asker.form(picture, PROMPTS[0]).status == 200
        body = bytearray()
        for piece in reply.iter_raw(20_000):
            body += piece
            time.sleep(0.02)
    assert bytes(body[:2]) == b"PK"
    assert len(body) == int(reply.headers["content-length"])
