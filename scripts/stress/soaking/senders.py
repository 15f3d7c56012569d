"""Ways to send a request, the unfriendly ones included; each gives the outcome in one word.

Flow: case + transport -> reply, refusal or none -> "right", "refused", the error's code, "left", "wrong" or "hung".
"""

from __future__ import annotations

import base64
import contextlib
import json
import random
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np

from llava_viewer.client import Client, StreamedToken
from llava_viewer.client.auth import bearer
from llava_viewer.client.errors import from_http, raise_handler_error
from llava_viewer.client.protocol import Transport
from llava_viewer.client.transport.grpc import GrpcTransport
from llava_viewer.client.transport.http import HttpTransport
from llava_wire import Record, decode
from llava_wire.errors import RecordError, RequestError
from servekit.state import ServerState
from stress.soaking.cases import LARGEST_DIFFERENCE, Case, difference, shortened_difference
from stress.soaking.ledger import HUNG, WRONG

HUNG_S = 120.0
"""No request of a soak takes nearly so long: one without an answer by then counts as hung."""
_PIECE_BYTES = 2000
_PAUSE_S = 0.05


class Outcome(NamedTuple):
    """What became of a request, and what was wrong with it where something was."""

    word: str
    detail: str = ""


class Senders:
    """Everything that a soak sends with, for one server.

    Args:
        state: the server.
        model: the served model.
    """

    def __init__(self, state: ServerState, model: str) -> None:
        key_file = Path(state.key_file)
        self._url = f"{state.http}/predictions/{model}"
        self._token = key_file
        self.transports: dict[str, Transport] = {
            "http": HttpTransport(state.http, model, key_file, None),
            "grpc": GrpcTransport(state.grpc, model, key_file, False, None),
        }
        self.plain = {name: self._client(name, 0.0) for name in self.transports}
        self._patient = {name: self._client(name, HUNG_S / 2) for name in self.transports}
        self._slow = httpx.Client(timeout=HUNG_S)

    def close(self) -> None:
        """Closes the connections."""
        self._slow.close()
        for transport in self.transports.values():
            transport.close()

    def good(self, case: Case, way: str, rng: random.Random) -> Outcome:
        """A good request from a client that sends nothing twice."""
        return judged(lambda: self._ask(self.plain[way], case, rng), case)

    def patient(self, case: Case, way: str, rng: random.Random) -> Outcome:
        """A good request from a client that sends again what is safe to send again: it should always be answered."""
        return judged(lambda: self._ask(self._patient[way], case, rng), case)

    def bad(self, case: Case, way: str, rng: random.Random) -> Outcome:
        """A request that must be refused with its own error."""
        fields = {**case.fields, "options": json.dumps(case.options).encode()}
        try:
            raise_handler_error(self.transports[way].send(fields, npz=True, timeout_s=HUNG_S))
        except RequestError as error:
            code, field = case.refusal
            if error.code == code and error.field.startswith(field):
                return Outcome("refused")
            return failed(error, case, ("overloaded", "worker_died", "unavailable"))
        return Outcome(WRONG, f"{case.name}: got an answer, expected {case.refusal}")

    def hurried(self, case: Case, way: str, rng: random.Random) -> Outcome:
        """A request with a deadline of its own: it gets what was done by then, or is refused for being late."""
        options = {**case.options, "deadline_ms": rng.choice((1, 50, 150, 400, 1000))}
        hurried = Case(case.name, case.fields, options, case.truth)
        try:
            record = self._ask(self.plain[way], hurried, rng)
        except RequestError as error:
            if (error.code, error.field) == ("deadline", "options.deadline_ms"):
                return Outcome("refused")
            return failed(error, case, ("overloaded", "worker_died", "unavailable"))
        assert case.truth is not None
        detail = shortened_difference(record, case.truth)
        cut = record.facts.finish_reason == "deadline"
        return Outcome(WRONG, f"{case.name}: {detail}") if detail else Outcome("right, cut short" if cut else "right")

    def dribbling(self, case: Case, way: str, rng: random.Random) -> Outcome:
        """A client on a slow line: its request comes, and its reply goes, in small pieces. Over HTTP only."""
        return judged(lambda: self._dribbled(case), case)

    def streaming(self, case: Case, way: str, rng: random.Random) -> Outcome:
        """A good request whose tokens are looked at as they come. Over HTTP only."""
        return judged(lambda: self._streamed(case), case)

    def breaking(self, case: Case, way: str, rng: random.Random) -> Outcome:
        """A client that hangs up in the midst of a stream. Over HTTP only."""
        with contextlib.closing(self._begin_stream(case)) as parts:
            try:
                for _ in range(rng.randint(1, 6)):
                    if isinstance(next(parts), Record):
                        return Outcome("answered before it left")
            except RequestError as error:
                return Outcome(error.code)
        return Outcome("left")

    def leaving(self, case: Case, way: str, rng: random.Random) -> Outcome:
        """A client that hangs up before the answer; what it does to others is what counts."""
        fields = {**case.fields, "options": json.dumps(case.options).encode()}
        try:
            self.transports[way].send(fields, npz=True, timeout_s=rng.uniform(0.01, 0.3))
        except RequestError as error:
            return Outcome("left" if error.code == "deadline" else error.code)
        return Outcome("answered before it left")

    def _client(self, name: str, retry_s: float) -> Client:
        # One budget covers all attempts of a client: the last one has as long as a single one, too.
        return Client(self.transports[name], timeout_s=HUNG_S + 2 * retry_s, retry_s=retry_s)

    def _ask(self, client: Client, case: Case, rng: random.Random) -> Record:
        image = case.fields["image"]
        if "record" in case.fields:
            return client.replay(decode(case.fields["record"]), case.options, image=image, keep_picture=False)
        prompt = case.fields["prompt"].decode()
        if rng.random() < 0.2:
            reply = json.loads(client.predict_bytes(image, prompt, case.options, format="json"))
            return decode(base64.b64decode(reply["npz_base64"]))
        return client.predict(image, prompt, case.options, keep_picture=False)

    def _begin_stream(self, case: Case) -> Generator[StreamedToken | Record, None, None]:
        prompt = case.fields["prompt"].decode()
        parts = self.plain["http"].stream(case.fields["image"], prompt, case.options, keep_picture=False)
        yield from parts

    def _streamed(self, case: Case) -> Record:
        """The record of a stream whose parts were those of the record."""
        *tokens, record = self._begin_stream(case)
        assert isinstance(record, Record)
        if len(tokens) != len(record.tokens):
            raise RecordError("invalid", f"got {len(tokens)} streamed tokens, expected {len(record.tokens)}")
        steps = [query.step if query.kind == "answer" else -1 for query in record.queries]
        for part, token in zip(tokens, record.tokens, strict=True):
            assert isinstance(part, StreamedToken)
            if part.token != replace(token, without_image=None):  # what is tested is known when the answer is finished
                raise RecordError("invalid", f"got {part.token} streamed, expected {token}")
            for name, maps in part.maps.items():
                row = record.views[name].maps_float()[steps.index(part.step)]
                largest = float(np.abs(row - maps).max())
                if not largest <= LARGEST_DIFFERENCE:
                    raise RecordError("invalid", f"got streamed maps off by {largest:.2g}")
        return record

    def _dribbled(self, case: Case) -> Record:
        files = {"options": (None, json.dumps(case.options).encode())}
        files |= {name: (None if name == "prompt" else name, value) for name, value in case.fields.items()}  # type: ignore[misc]
        headers = {"accept": "application/octet-stream", **bearer(self._token)}
        whole = self._slow.build_request("POST", self._url, files=files, headers=headers)
        try:
            with self._slow.stream("POST", self._url, content=_pieces(whole.read()), headers=whole.headers) as reply:
                body = bytearray()
                for piece in reply.iter_raw(_PIECE_BYTES):
                    body += piece
                    time.sleep(_PAUSE_S / 5)
        except httpx.TimeoutException as error:
            raise RequestError("deadline", "timeout_s", f"got {error!r}") from error
        except httpx.HTTPError as error:
            raise RequestError("unavailable", "server", f"got {error!r}") from error
        if reply.status_code != 200:
            raise from_http(reply.status_code, bytes(body), 0)
        return decode(bytes(body))


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), _PIECE_BYTES):
        yield data[start : start + _PIECE_BYTES]
        time.sleep(_PAUSE_S)


def judged(ask: Callable[[], Record], case: Case) -> Outcome:
    """The outcome of a good request."""
    try:
        record = ask()
    except RequestError as error:
        return failed(error, case, ("overloaded", "worker_died", "unavailable"))
    except RecordError as error:
        return Outcome(WRONG, f"{case.name}: got {error}, expected a record")
    assert case.truth is not None
    detail = difference(record, case.truth)
    return Outcome(WRONG, f"{case.name}: {detail}") if detail else Outcome("right")


def failed(error: RequestError, case: Case, expected: tuple[str, ...]) -> Outcome:
    """An error as an outcome: one that load and dead workers explain, a hung request, or a wrong answer."""
    if (error.code, error.field) == ("deadline", "timeout_s"):
        return Outcome(HUNG, f"{case.name}: {error}")
    if error.code in expected and error.field == "server":
        return Outcome(error.code)
    return Outcome(WRONG, f"{case.name}: {error}")
