"""Whether a reply is one that the documents promise: an answer, the error form, or TorchServe's own words.

Flow: `Shot` + `Reply` -> `Verdict`: a short outcome to count, and what is wrong when something is.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

from llava_wire import decode
from llava_wire.errors import STATUSES, RecordError
from stress.crowding.messages import SERVICE, payload
from stress.crowding.replies import grpc_word, http_word, turned_away
from stress.fuzzing.senders import Reply
from stress.fuzzing.shots import Shot

FRONT_END = frozenset(
    {
        (404, "ModelNotFoundException"),
        (404, "ModelVersionNotFoundException"),
        (404, "ResourceNotFoundException"),
        (404, "WorkflowNotFoundException"),
        (405, "MethodNotAllowedException"),
        (500, "ArrayIndexOutOfBoundsException"),
        (500, "StringIndexOutOfBoundsException"),
    }
)
"""Status and exception of what TorchServe refuses over HTTP; docs/http-api.md has the table."""
GRPC: tuple[tuple[str, str], ...] = (
    ("PERMISSION_DENIED", ""),
    ("INTERNAL", "Model not found"),
    ("INTERNAL", "Model version"),
    ("INTERNAL", "Parameter model_name is required"),
    ("UNIMPLEMENTED", ""),
    ("INVALID_ARGUMENT", "expected"),
    ("RESOURCE_EXHAUSTED", ""),
)
"""Status and words of what the front and TorchServe refuse over gRPC; the same table."""
_LINE = b'{"type":'
"""How a line of a streamed answer begins."""


@dataclass(frozen=True)
class Verdict:
    """One judged reply: what to count it as, and the fault, empty when there is none."""

    outcome: str
    fault: str = ""


def judge(shot: Shot, reply: Reply) -> Verdict:
    """Judges one reply."""
    if reply.word == "hung":
        return Verdict("hung", "got no reply in time, expected one")
    if shot.way.startswith("grpc"):
        return _judge_grpc(shot, reply)
    if reply.word in ("closed", "waiting"):
        if shot.way in ("raw", "held") or _unfinished(shot):
            return Verdict(f"TorchServe: {reply.word}")
        return Verdict(reply.word, f"got a connection that ended without a reply ({reply.detail}), expected a reply")
    own = _handlers_own(reply.body, reply.status)
    if own is not None:
        return _with_pause(own, reply)
    if reply.status == 200 and (
        shot.way in ("form", "json", "heavy") or reply.body.startswith((_LINE, b'{"answer": '))
    ):
        return _answer(reply)
    return _front_end(shot, reply)


def _judge_grpc(shot: Shot, reply: Reply) -> Verdict:
    if reply.word != "reply":
        if turned_away(again := grpc_word(reply.word, [("retry-after", reply.again)])):
            return Verdict(again)
        for status, words in GRPC:
            if reply.word == status and words in reply.detail:
                return Verdict(f"TorchServe: {status} {words}".rstrip())
        if shot.way == "grpc raw" and reply.word == "UNKNOWN":
            return Verdict("TorchServe: UNKNOWN for a message that is none")
        return Verdict(reply.word, f"got {reply.word} {reply.detail!r}, expected a reply")
    if shot.path not in (SERVICE + "Predictions", SERVICE + "StreamPredictions"):
        return Verdict("answered: another method")
    if reply.detail not in ("", "1 parts"):
        return Verdict("parts", f"got {reply.detail}, expected one")
    body = payload(reply.body)
    own = _handlers_own(body, None)
    return own if own is not None else _answer(Reply(200, "", body))


def _handlers_own(body: bytes, status: int | None) -> Verdict | None:
    """The verdict on a body in the project's error form, or None for another body."""
    if not body.startswith(b'{"error": {'):
        return None
    try:
        error = json.loads(body)["error"]
        code, field, message = error["code"], error["field"], error["message"]
        outcome = f"refused: {code} {error['status']}"
        if set(error) != {"code", "status", "field", "message"} or STATUSES[code] != error["status"]:
            return Verdict(outcome, f"got {error}, expected the error form")
    except (ValueError, KeyError, TypeError) as problem:
        return Verdict("refused", f"got {body[:200]!r} ({problem}), expected the error form")
    if status is not None and status != error["status"]:
        return Verdict(outcome, f"got HTTP status {status} for {error}, expected the error's")
    if code == "internal":
        return Verdict(outcome, f"got {error}, expected no error inside the server")
    if ("got " not in message and "retry" not in message) or not (field + message).isprintable() or len(body) > 10_000:
        return Verdict(outcome, f"got {error}, expected a printable line with what was given")
    if (
        code not in ("overloaded", "deadline", "unavailable")
        and "expected " not in message
        and "no readable record" not in message
    ):
        return Verdict(outcome, f"got {error}, expected a message that says what is expected")
    return Verdict(outcome)


def _with_pause(verdict: Verdict, reply: Reply) -> Verdict:
    """The verdict, or the fault that a refusal for overload does not say when to come again."""
    if reply.status == 503 and not verdict.fault and not turned_away(http_word(503, {"retry-after": reply.again})):
        return Verdict(verdict.outcome, f"got Retry-After {reply.again!r} with 503, expected a number of seconds")
    return verdict


def _answer(reply: Reply) -> Verdict:
    """A record, alone, in JSON, or at the end of a stream of lines."""
    body = reply.body
    try:
        if body.startswith(_LINE):
            last = json.loads(body.rstrip(b"\n").rsplit(b"\n", 1)[-1])
            if last["type"] != "record":
                return Verdict(
                    "streamed", f"got a last line of type {last['type']}: {str(last)[:300]}, expected a record"
                )
            decode(base64.b64decode(last["npz_base64"]))
            return Verdict("answered: lines")
        if body.startswith(b"{"):
            decode(base64.b64decode(json.loads(body)["npz_base64"]))
            return Verdict("answered: json")
        decode(body)
        return Verdict("answered: npz")
    except (ValueError, KeyError, RecordError) as problem:
        return Verdict("answered", f"got {body[:200]!r} ({problem}), expected a record")


def _front_end(shot: Shot, reply: Reply) -> Verdict:
    outcome = f"TorchServe: {reply.status}"
    if reply.status == 200 and shot.way in ("route", "raw", "held"):
        return Verdict(f"{outcome} on another route")
    if shot.method == "HEAD" and reply.status in (400, 404, 405, 413, 415, 422, 500):
        return Verdict(f"{outcome}, no body to HEAD")
    try:
        kind = json.loads(reply.body)["type"]
    except (ValueError, KeyError, TypeError):
        return Verdict(outcome, f"got {reply.body[:300]!r}, expected the error form or a row of the table")
    if (reply.status, kind) in FRONT_END:
        return Verdict(f"{outcome} {kind}")
    return Verdict(f"{outcome} {kind}", f"got {reply.body[:300]!r}, expected the error form or a row of the table")


def _unfinished(shot: Shot) -> bool:
    """Whether headers tell the front end to expect something else than what is sent."""
    return any(name in ("Expect", "Content-Encoding") for name, _ in shot.headers)
