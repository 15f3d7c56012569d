"""Small requests beside a load: one a second that is sent once, and one a second of a client that sends again.

Flow: a server and a case with its truth -> requests at fixed moments, each in a thread of its own, so that one which
hangs delays no other -> `Answer`s.
"""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx

from llava_viewer.client import Client, RequestError
from llava_viewer.client.auth import bearer
from llava_wire import RecordError, decode
from servekit.state import ServerState
from stress.crowding.messages import SERVICE, message, payload
from stress.crowding.replies import ANSWERED, NO_CONNECTION, NO_REPLY, grpc_word, http_word, message_word
from stress.soaking.cases import Case, difference

RIGHT = "right"
_EVERY_S = 1.0
BARE_S = 30.0
"""After this a request that is sent once counts as without a reply."""
PATIENT_S = 60.0
RETRY_S = 30.0
_THREADS = 200
_WAYS = ("http", "grpc")


@dataclass(frozen=True)
class Answer:
    """One small request.

    Args:
        at_s: when it was sent, from the start.
        taken_s: seconds until it was answered or refused.
        way: "http" or "grpc".
        word: "right", or what came instead.
        patient: whether its client sends again.
    """

    at_s: float
    taken_s: float
    way: str
    word: str
    patient: bool


class Beside:
    """The small requests of one run.

    Args:
        state: the server.
        case: what is asked, with its truth.
    """

    def __init__(self, state: ServerState, case: Case) -> None:
        self._case, self._key_file = case, Path(state.key_file)
        self._url = f"{state.http}/predictions/{state.models[0]}"
        self._http = httpx.Client(timeout=BARE_S, trust_env=False)
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(state.grpc, options=options)
        model, key = state.models[0], self._key_file
        http = Client.http(state.http, model=model, token=key, timeout_s=PATIENT_S, retry_s=RETRY_S)
        calls = Client.grpc(state.grpc, model=model, token=key, timeout_s=PATIENT_S, retry_s=RETRY_S)
        self._patient = {"http": http, "grpc": calls}
        self._fields = {**case.fields, "options": json.dumps({**case.options, "format": "npz"}).encode()}
        self._message = message(state.models[0], list(self._fields.items()))
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="beside")
        self._pending: list[Future[Answer]] = []
        self._done = threading.Event()
        self._begin = time.monotonic()
        self._clock = threading.Thread(target=self._run, daemon=True, name="beside")

    def start(self) -> None:
        """Asks every transport once, so that the patient clients know the server, and goes on from there."""
        for client in self._patient.values():
            self._asked(client)
        self._begin = time.monotonic()
        self._clock.start()

    def stop(self) -> list[Answer]:
        """Sends no more, waits for what is on its way, and closes."""
        self._done.set()
        self._clock.join()
        answers = [future.result() for future in self._pending]
        self._pool.shutdown()
        self._http.close()
        self._channel.close()
        for client in self._patient.values():
            client.close()
        return answers

    def _run(self) -> None:
        second = 0
        while not self._done.wait(max(0.0, self._begin + second * _EVERY_S - time.monotonic())):
            way, other = _WAYS[second % 2], _WAYS[(second + 1) % 2]
            self._pending.append(self._pool.submit(self._one, way, patient=False))
            self._pending.append(self._pool.submit(self._one, other, patient=True))
            second += 1

    def _one(self, way: str, *, patient: bool) -> Answer:
        begin = time.monotonic()
        if patient:
            word = self._asked(self._patient[way])
        elif way == "http":
            word = self._by_http()
        else:
            word = self._by_grpc()
        return Answer(round(begin - self._begin, 2), round(time.monotonic() - begin, 2), way, word, patient)

    def _asked(self, client: Client) -> str:
        """One request of a client that sends again."""
        fields = self._case.fields
        try:
            record = client.predict(fields["image"], fields["prompt"].decode(), self._case.options, keep_picture=False)
        except RequestError as error:
            return f"{error.code} ({error.status})"
        except RecordError as error:
            return f"no record ({error})"
        assert self._case.truth is not None
        return difference(record, self._case.truth) or RIGHT

    def _by_http(self) -> str:
        fields = {name: (name, data) if name == "image" else (None, data) for name, data in self._fields.items()}
        try:
            reply = self._http.post(self._url, files=fields, headers=bearer(self._key_file))
        except httpx.TimeoutException:
            return NO_REPLY
        except httpx.ConnectError:
            return NO_CONNECTION
        except (httpx.HTTPError, RequestError) as error:
            return type(error).__name__
        word = http_word(reply.status_code, dict(reply.headers.items()))
        return self._judged(reply.content) if word == ANSWERED else word

    def _by_grpc(self) -> str:
        try:
            metadata = tuple(bearer(self._key_file).items())
            reply = self._channel.unary_unary(SERVICE + "Predictions")(self._message, metadata=metadata, timeout=BARE_S)
        except grpc.RpcError as error:
            code = error.code().name
            return NO_REPLY if code == "DEADLINE_EXCEEDED" else grpc_word(code, error.trailing_metadata() or ())
        except RequestError as error:
            return type(error).__name__
        word = message_word(reply)
        return self._judged(payload(reply)) if word == ANSWERED else word

    def _judged(self, body: bytes) -> str:
        assert self._case.truth is not None
        try:
            return difference(decode(body), self._case.truth) or RIGHT
        except RecordError as error:
            return f"no record ({error})"
