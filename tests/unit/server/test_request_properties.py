"""Whatever a front end hands over becomes a checked request or one well-formed refusal, and nothing else."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llava_doors.family import ModelFacts
from llava_server.ask.options import KNOWN, parse_options
from llava_server.ask.plan import cells_of, make_plan
from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import ModelSettings
from llava_server.front.incoming import FIELDS, read_request
from llava_wire import RequestError, encode
from llava_wire.errors import STATUSES
from support.synthetic import make_record

FACTS = ModelFacts(layers=4, heads=8, kv_heads=8, head_dim=16, context=512, cache_bytes_per_value=4)
SETTINGS = ModelSettings.from_dict({"name": "toy", "head_sets": {"two": [[0, 1], [3, 7]]}})
RECORD = encode(make_record(words=("A", " red"), reductions=("layers_heads",)))

# Text with surrogates too: JSON can carry half a character.
TEXT = st.text(st.characters(), max_size=12) | st.sampled_from(
    ["all", "none", "heads", "layers_heads", "two", "chat", "raw", "both", "json", "npz", "uint8", "\ud800", "<image>"]
)
NUMBERS = st.integers() | st.integers(-2, 9) | st.floats() | st.sampled_from([10**400, -(2**63), 2**64, True, False])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | st.sampled_from(KNOWN), inner, max_size=4),
    max_leaves=12,
)
OPTIONS = st.dictionaries(st.sampled_from(KNOWN) | TEXT, VALUES, max_size=4)
HEADERS = st.fixed_dictionaries(
    {"host": st.just("x")},
    optional={
        "content-type": st.sampled_from(
            ["application/json", "multipart/form-data; boundary=b", "text/plain", "", "image/png", "\u202e"]
        ),
        "accept": TEXT
        | st.sampled_from(["application/x-npz;q=nan", "*/*;q=1e400", "application/json, application/zip"]),
        "explain": st.sampled_from(["True", "False"]),
    },
)


def outcome(row: Any, head: dict[str, str]) -> GenerateRequest | RequestError:
    """What becomes of a row; an exception of another kind is a fault."""
    try:
        return read_request(row, head)
    except RequestError as error:
        return error


def check(result: object) -> None:
    """A refusal is one printable line in the error form, with the value, what is allowed and a known code."""
    if not isinstance(result, RequestError):
        assert isinstance(result, GenerateRequest)
        assert result.format in ("npz", "json")
        return
    body = json.loads(json.dumps(result.to_body(), ensure_ascii=False).encode())
    error = body["error"]
    assert STATUSES[error["code"]] == error["status"] < 500
    assert (error["field"] + error["message"]).isprintable()
    assert len(error["field"]) <= 120
    assert error["message"].startswith("got ")
    assert any(word in error["message"] for word in ("expected ", "expected ")) or error["field"] == "record"


@settings(max_examples=400, deadline=None)
@given(row=st.dictionaries(st.sampled_from(FIELDS) | TEXT, st.binary(max_size=40) | OPTIONS | TEXT, max_size=4),
       head=st.just({}) | HEADERS)  # fmt: skip
@example(row={}, head={})
@example(row={"image": b"x", "prompt": b"\xff"}, head={})
@example(row={"image": b"x", "prompt": b"Is it?", "options": b'{"\\ud800": 1}'}, head={})
@example(row={"body": {"image": "é", "prompt": "x"}}, head={"host": "x", "content-type": "application/json"})
def test_any_row_of_fields(row: dict[str, Any], head: dict[str, str]) -> None:
    check(outcome(row, head))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(OPTIONS, st.booleans())
@example({"temperature": 10**400}, False)
@example({"heads": "\ud800"}, True)
@example({"layers": [[0]], "rows": "prompt", "reduction": "all"}, False)
def test_any_options_as_text_and_as_an_object(options: dict[str, Any], as_text: bool) -> None:
    head = {"host": "x", "content-type": "application/json"}
    given_options: Any = json.dumps(options) if as_text else options
    body = {"image": base64.b64encode(b"x").decode(), "prompt": "What?", "options": given_options}
    check(outcome({"body": body}, head))


@settings(max_examples=400, deadline=None)
@given(OPTIONS)
def test_any_options_meet_the_model(options: dict[str, Any]) -> None:
    try:
        plan = make_plan(parse_options(options), FACTS, SETTINGS)
    except RequestError as error:
        check(error)
        return
    assert plan.views
    assert all(0 <= layer < 4 and set(heads) <= set(range(8)) for layer, heads in cells_of(plan.views).items())


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text(st.characters(), max_size=60).map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_any_bytes_as_options_and_as_a_body(data: bytes) -> None:
    check(outcome({"image": b"x", "prompt": b"What?", "options": data}, {}))
    check(outcome({"body": data}, {"host": "x", "content-type": "application/json"}))


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(), max_size=40))
def test_any_text_as_a_prompt(text: str) -> None:
    try:
        request = GenerateRequest.build(b"x", text)
    except RequestError as error:
        check(error)
        return
    assert request.prompt == text
    text.encode("utf-8")


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(RECORD) - 1), st.binary(min_size=1, max_size=3)), max_size=8),
    cut=st.none() | st.integers(0, len(RECORD)),
)
def test_any_damage_to_a_record(changes: list[tuple[int, bytes]], cut: int | None) -> None:
    data = bytearray(RECORD)
    for at, new in changes:
        data[at : at + len(new)] = new
    check(outcome({"record": bytes(data[:cut])}, {}))
