"""Plain HTTP and gRPC calls to a server, written out by hand so that they check the project's client too.

Flow: fields -> multipart, JSON or a protobuf map -> `Answer`: status, content type, body.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx

from llava_wire import Record, decode, encode
from servekit.paths import MODEL_STORE, run_folder
from servekit.server import start_server
from servekit.state import ServerState, current_token, worker_states
from servekit.tls import trusting

MODEL = "llava-shapes"
NPZ = "application/x-npz"
_SERVICE = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/"
_MESSAGE_BYTES = 1 << 28


@dataclass(frozen=True)
class Answer:
    """What came back; over gRPC the status is the one in an error's body, else 200."""

    status: int
    content_type: str
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error in the project's own form."""
        return json.loads(self.body)["error"]

    def record(self) -> Record:
        """The record of an npz or JSON answer."""
        assert self.status == 200, self.body[:500]
        data = self.body if self.body[:2] == b"PK" else base64.b64decode(json.loads(self.body)["npz_base64"])
        return decode(data)

    def lasting(self) -> bytes:
        """The record's bytes without what differs from run to run."""
        return encode(self.record().without_run())


class Asker:
    """Asks one running server."""

    def __init__(self, state: ServerState) -> None:
        self.state = state
        self.http_client = httpx.Client(base_url=state.http, timeout=120, verify=trusting(state.certificate) or True)
        limits = [("grpc.max_receive_message_length", _MESSAGE_BYTES), ("grpc.max_send_message_length", _MESSAGE_BYTES)]
        if state.certificate:
            credentials = grpc.ssl_channel_credentials(Path(state.certificate).read_bytes())
            self.channel = grpc.secure_channel(state.grpc, credentials, options=limits)
        else:
            self.channel = grpc.insecure_channel(state.grpc, options=limits)

    def close(self) -> None:
        """Closes both connections."""
        self.http_client.close()
        self.channel.close()

    def auth(self) -> dict[str, str]:
        """The header with the current key."""
        return {"Authorization": f"Bearer {current_token(self.state)}"}

    def post(
        self, path: str = f"/predictions/{MODEL}", headers: Mapping[str, str] | None = None, **body: Any
    ) -> Answer:
        """One POST with whatever body httpx is given."""
        got = self.http_client.post(path, headers={**self.auth(), **(headers or {})}, **body)
        return Answer(got.status_code, got.headers.get("content-type", ""), got.content)

    def form(self, image: bytes | None, prompt: str | None, options: Any = None, accept: str = NPZ) -> Answer:
        """A multipart request; `options` that are not text become JSON."""
        files: dict[str, Any] = {}
        if image is not None:
            files["image"] = ("image.png", image, "image/png")
        for name, value in (("prompt", prompt), ("options", _text(options))):
            if value is not None:
                files[name] = (None, value.encode())
        return self.post(headers={"Accept": accept}, files=files)

    def json(self, image: bytes, prompt: str, options: Any = None, accept: str = NPZ) -> Answer:
        """A JSON request."""
        body = {"image": base64.b64encode(image).decode(), "prompt": prompt}
        return self.post(headers={"Accept": accept}, json=body if options is None else {**body, "options": options})

    def grpc(self, image: bytes | None, prompt: str | None, options: Any = None) -> Answer:
        """A gRPC Predictions call."""
        fields = {"image": image, "prompt": prompt and prompt.encode(), "options": _encoded(_text(options))}
        return self.grpc_map({name: value for name, value in fields.items() if value is not None})

    def grpc_map(self, fields: Mapping[str, bytes]) -> Answer:
        """A gRPC Predictions call with any map."""
        call = self.channel.unary_unary(_SERVICE + "Predictions")
        return _grpc_answer(call(_request(fields), metadata=self._metadata(), timeout=120))

    def stream(self, fields: Mapping[str, bytes]) -> list[Answer]:
        """A gRPC StreamPredictions call; every part of the stream."""
        call = self.channel.unary_stream(_SERVICE + "StreamPredictions")
        return [_grpc_answer(part) for part in call(_request(fields), metadata=self._metadata(), timeout=120)]

    def workers(self) -> list[tuple[str, int]]:
        """Status and pid of every worker."""
        return [(worker["status"], worker["pid"]) for worker in worker_states(self.state, MODEL)]

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {current_token(self.state)}"),)


@contextmanager
def running_server(
    name: str, *, model: str = MODEL, store: Path = MODEL_STORE, timeout_s: float = 300
) -> Iterator[Asker]:
    """A server of its own with the small model's archive, on free ports; nothing of it is left behind.

    Args:
        name: unique on this machine but for the process's number, which is added.
        store: the folder with the archive.
        timeout_s: for the start.
    """
    with start_server([model], name=f"{name}-{os.getpid()}", ports="auto", store=store, timeout_s=timeout_s) as server:
        asker = Asker(server.state)
        try:
            yield asker
        finally:
            asker.close()
    shutil.rmtree(run_folder(server.state.name), ignore_errors=True)


def a_quarter_ms(record: Record) -> int:
    """A deadline that cuts the same request short on any machine, long after its first token."""
    return max(1, round((record.run["prefill_ms"] + record.run["decode_ms"]) / 4))


def together(calls: Sequence[Callable[[], Answer]]) -> list[Answer]:
    """Makes all calls at the same moment; answers in the order of the calls."""
    answers: list[Answer | None] = [None] * len(calls)
    gate = threading.Barrier(len(calls))

    def make(index: int) -> None:
        gate.wait()
        answers[index] = calls[index]()

    threads = [threading.Thread(target=make, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(answer is not None for answer in answers)
    return [answer for answer in answers if answer is not None]


def _request(fields: Mapping[str, bytes]) -> bytes:
    """A PredictionsRequest: model_name = 1, map<string, bytes> input = 3."""
    entries = (_field(1, name.encode()) + _field(2, value) for name, value in fields.items())
    return _field(1, MODEL.encode()) + b"".join(_field(3, entry) for entry in entries)


def _grpc_answer(response: bytes) -> Answer:
    """The body of a PredictionResponse: prediction = 1."""
    body = b""
    if response:
        assert response[0] == 1 << 3 | 2
        size, shift, at = 0, 0, 1
        while True:
            size |= (response[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if response[at - 1] < 128:
                break
        body = response[at : at + size]
    if body[:1] == b"{":
        error = json.loads(body).get("error")
        return Answer(error["status"] if error else 200, "application/json", body)
    return Answer(200, NPZ, body)


def _field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _text(options: Any) -> str | None:
    return options if options is None or isinstance(options, str) else json.dumps(options)


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
