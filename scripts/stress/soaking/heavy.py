"""The heavy and unfriendly part of a soak: large pictures, many fields, crafted replays, connections that are held.

Flow: case + transport -> bytes of `stress.crowding.bodies` over a plain connection -> reply -> `Outcome`.
"""

from __future__ import annotations

import contextlib
import functools
import random
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_viewer.client import Client
from llava_viewer.client.auth import bearer
from llava_viewer.client.errors import from_http, raise_handler_error
from llava_viewer.client.protocol import Transport
from llava_wire import decode, encode
from llava_wire.errors import RequestError
from servekit.paths import MODEL_STORE
from servekit.state import ServerState
from stress.crowding import bodies
from stress.crowding.sockets import post
from stress.soaking.cases import Case
from stress.soaking.ledger import WRONG
from stress.soaking.senders import HUNG_S, Outcome, failed, judged

_LATER = ("overloaded", "worker_died", "unavailable")
_REFUSED = ("bad_request", "invalid", "too_large", "unsupported_media")
_SIZES = (100_000, 1_000_000, 12_000_000)
_CROWDED: tuple[tuple[str, Callable[[int], bytes]], ...] = (
    (bodies.FIELDS_TYPE, bodies.many_fields),
    (bodies.FIELDS_TYPE, bodies.many_names),
    (bodies.JSON_TYPE, bodies.many_members),
    (bodies.FORM_TYPE, lambda size_bytes: bodies.many_parts(size_bytes // 60)),
)
_HELD = 6
_LONGEST_HOLD_S = 45.0
OPTIONS: dict[str, Any] = {"precision": "float32", "max_new_tokens": 8}


def large_case(seed: int) -> Case:
    """A question about a picture of nearly 10 MiB, with the engine's own answer."""
    picture = bodies.large_picture(seed=seed)
    engine = Engine.load(MODEL_STORE / "llava-shapes", device="cpu", dtype="float32")
    [record] = engine.run([GenerateRequest.build(picture, bodies.PROMPT.decode(), OPTIONS)])
    if isinstance(record, RequestError):
        raise record
    return Case("large picture", {"image": picture, "prompt": bodies.PROMPT}, OPTIONS, record)


class HeavySenders:
    """What a soak sends besides ordinary requests.

    Args:
        state: the server; model: the served model.
        transports, plain: ways to it, and clients that send nothing twice, by name.
    """

    def __init__(
        self, state: ServerState, model: str, transports: Mapping[str, Transport], plain: Mapping[str, Client]
    ) -> None:
        self._state, self._transports, self._plain = state, transports, plain
        self._http = httpx.Client(timeout=HUNG_S, trust_env=False)
        self._path, self._key_file = f"/predictions/{model}", Path(state.key_file)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def large(self, case: Case, way: str, rng: random.Random) -> Outcome:
        """A large picture as a form, as JSON or over gRPC: answered rightly, or told to come again."""
        picture, prompt = case.fields["image"], case.fields["prompt"].decode()
        if way == "http" and rng.random() < 0.5:
            body = bodies.json_question(picture, {**case.options, "format": "npz"})
            return judged(lambda: decode(self._post(bodies.JSON_TYPE, body)), case)
        return judged(lambda: self._plain[way].predict(picture, prompt, case.options, keep_picture=False), case)

    def crowded(self, case: Case, way: str, rng: random.Random) -> Outcome:
        """A body of a great many fields, parts, members or keys: refused, and nobody else waits for it."""
        size_bytes = rng.choice(_SIZES)
        if way == "grpc":
            keys = {f"{number:x}": b"" for number in range(size_bytes // 100)}
            return self._refused(lambda: self._send("grpc", keys), case)
        kind, make = rng.choice(_CROWDED)
        return self._refused(lambda: self._post(kind, make(size_bytes)), case)

    def crafted(self, case: Case, way: str, rng: random.Random) -> Outcome:
        """A replay of a small record with one endless list: refused, or answered as if the list were not there."""
        assert case.truth is not None
        record = _crafted(encode(case.truth), rng.choice(bodies.CRAFTS))
        fields = {"image": case.fields["image"], "record": record}
        return self._refused(lambda: self._send(way, fields), case, or_answered=True)

    def holding(self, case: Case, way: str, rng: random.Random) -> Outcome:
        """Some connections that say nothing, or not the rest, for a while; what they do to others is what counts."""
        with contextlib.suppress(RequestError):
            key = bearer(self._key_file)["authorization"].removeprefix("Bearer ")
            begun = rng.choice(self._begun(key if rng.random() < 0.5 else None))
            place = urlsplit(self._state.http if way == "http" else f"http://{self._state.grpc}")
            return _held((place.hostname or "", place.port or 0), begun, rng.uniform(1.0, _LONGEST_HOLD_S))
        return Outcome("no key file")

    def _begun(self, key: str | None) -> tuple[bytes, ...]:
        head = post(self._path, bodies.FORM_TYPE, 20_000_000, key)
        return (b"", head[: len(head) // 2], head, head + bytes(3_000_000), b"PRI * HTTP/2.0\r\n")

    def _refused(self, send: Callable[[], bytes], case: Case, *, or_answered: bool = False) -> Outcome:
        try:
            reply = send()
            raise_handler_error(reply)
        except RequestError as error:
            return Outcome("refused") if error.code in _REFUSED else failed(error, case, _LATER)
        return Outcome("answered") if or_answered else Outcome(WRONG, f"got {reply[:80]!r}, expected a refusal")

    def _send(self, way: str, fields: Mapping[str, bytes]) -> bytes:
        return self._transports[way].send(fields, npz=True, timeout_s=HUNG_S)

    def _post(self, kind: str, body: bytes) -> bytes:
        try:
            headers = {"content-type": kind, **bearer(self._key_file)}
            reply = self._http.post(self._state.http + self._path, content=body, headers=headers)
        except httpx.TimeoutException as error:
            raise RequestError("deadline", "timeout_s", f"got {error!r}") from error
        except httpx.HTTPError as error:
            raise RequestError("unavailable", "server", f"got {error!r}") from error
        if reply.status_code != 200:
            raise from_http(reply.status_code, reply.content, len(body))
        return reply.content


@functools.lru_cache(maxsize=8)
def _crafted(record: bytes, craft: bodies.Craft) -> bytes:
    return bodies.crafted(record, craft, bodies.LISTED)


def _held(place: tuple[str, int], begun: bytes, hold_s: float) -> Outcome:
    """Opens some connections, sends the beginning, and waits; whether the server closed all of them meanwhile."""
    with contextlib.ExitStack() as stack:
        held = []
        for _ in range(_HELD):
            try:
                held.append(stack.enter_context(socket.create_connection(place, timeout=5)))
                held[-1].sendall(begun)
            except OSError:
                return Outcome("turned away")
        time.sleep(hold_s)
        return Outcome("closed" if all(map(_is_closed, held)) else "left")


def _is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        while connection.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
