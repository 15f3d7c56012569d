"""Multipart forms: what libraries write is read, what two readers could read in two ways is refused."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava_server.ask.request import GenerateRequest
from llava_server.front.incoming import read_request
from llava_viewer.client.transport.form import form
from llava_wire.errors import RequestError
from llava_wire.system.inner import FORM_HEADER, FORM_TYPE
from llava_wire.system.multipart import MAX_PARTS, FormError, TooManyParts, parts
from support.pictures import scene_bytes

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=12)


def read(content_type: str, body: bytes) -> list[tuple[str, bytes]]:
    return [(part.name, body[part.start : part.end]) for part in parts(content_type, body)]


@given(st.dictionaries(st.sampled_from(["image", "prompt", "options", "a-b"]), st.binary(max_size=300), min_size=1))
def test_forms_of_the_client_and_of_httpx(fields: dict[str, bytes]) -> None:
    kind, body = form(fields)
    assert dict(read(kind, body)) == fields
    request = httpx.Request("POST", "http://x/", files={name: ("f", data) for name, data in fields.items()})
    assert read(request.headers["content-type"], request.read()) == list(fields.items())


@given(st.binary(max_size=400))
def test_any_bytes_end_in_parts_or_an_error(body: bytes) -> None:
    for whole in (
        body,
        b"--b\r\n" + body,
        b'--b\r\nContent-Disposition: form-data; name="n"\r\n\r\n' + body + b"\r\n--b--",
    ):
        try:
            found = read("multipart/form-data; boundary=b", whole)
        except FormError:
            continue
        assert sum(len(data) for _, data in found) <= len(whole)


def one(head: bytes, content: bytes = b"x") -> bytes:
    return b"--b\r\n" + head + b"\r\n\r\n" + content + b"\r\n--b--\r\n"


NAMED = b'Content-Disposition: form-data; name="n"'


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "before its first"),
        (one(b"X: y"), "without one Content-Disposition"),
        (one(NAMED + b"\r\n" + NAMED), "without one Content-Disposition"),
        (one(b"Content-Disposition: form-data"), "without a plain name"),
        (one(b"Content-Disposition: form-data; name*=utf-8''n"), "without a plain name"),
        (one(NAMED + b"\r\nno header"), "no header"),
        (one(NAMED + b"\r\n folded: x"), "no header"),
        (one(NAMED + b"\r\nContent-Type: multipart/mixed; boundary=c"), "part of parts"),
        (one(NAMED + b"\r\nContent-Transfer-Encoding: base64"), "encoded"),
        (one(NAMED + b"\r\nX: " + b"y" * 5000), "head is longer"),
        (one(NAMED).removesuffix(b"--b--\r\n"), "no boundary at its end"),
        (one(NAMED).replace(b"--b\r\n", b"--b \r\n", 1), "followed by something else"),
    ],
)
def test_forms_that_could_be_read_in_two_ways(body: bytes, words: str) -> None:
    with pytest.raises(FormError, match=words):
        read("multipart/form-data; boundary=b", body)


def test_content_that_looks_like_a_boundary_stays_content() -> None:
    content = b"x--b\n--b--\r--b\r\n-b--"
    assert read("multipart/form-data; boundary=b", one(NAMED, content)) == [("n", content)]
    assert read("multipart/form-data; boundary=b", one(NAMED, b"")) == [("n", b"")]


def test_many_parts_are_counted_first() -> None:
    with pytest.raises(TooManyParts):
        read("multipart/form-data; boundary=b", b"--b\r\n" * 400_000)
    assert len(read("multipart/form-data; boundary=b", one(NAMED).replace(b"--b--", b"") * MAX_PARTS + b"--b--")) == 64


def test_a_form_that_the_front_passed_on_is_read() -> None:
    picture = scene_bytes(256, 192, seed=1)
    kind, body = form({"image": picture, "prompt": "Où?".encode(), "options": b'{"max_new_tokens": 3}'})
    head = {"content-type": FORM_TYPE, FORM_HEADER: kind}
    request = read_request({"body": bytearray(body)}, head)
    assert isinstance(request, GenerateRequest)
    assert (request.image, request.prompt, request.options.max_new_tokens) == (picture, "Où?", 3)
    for row, headers, words in (
        ({"body": body}, {**head, FORM_HEADER: "multipart/form-data"}, "no boundary"),
        ({"body": form({"image": b"x"})[1]}, head, "before its first"),
        (
            {"body": one(NAMED).replace(b"--b--", b"") + one(NAMED)},
            {**head, FORM_HEADER: "multipart/x; boundary=b"},
            "two parts",
        ),
        ({"body": b"--b--\r\n"}, {**head, FORM_HEADER: "multipart/form-data; boundary=b"}, "no readable parts"),
    ):
        with pytest.raises(RequestError, match=words):
            read_request(row, headers)
    for other in ({}, {FORM_HEADER: "application/x-www-form-urlencoded"}):
        with pytest.raises(RequestError) as refused:
            read_request({"body": body}, {"content-type": FORM_TYPE, **other})
        assert refused.value.status == 415


@pytest.mark.parametrize(
    ("name", "words"),
    [("question", "did you mean 'prompt'"), ("Picture", "did you mean 'image'"), ("layers", "inside `options`"),
     ("promt", "did you mean 'prompt'")],
)  # fmt: skip
def test_names_that_are_none_say_what_was_meant(name: str, words: str) -> None:
    kind, body = form({"image": b"x", name: b"y"})
    with pytest.raises(RequestError, match=words) as refused:
        read_request({"body": body}, {"content-type": FORM_TYPE, FORM_HEADER: kind})
    assert (refused.value.status, refused.value.field) == (422, name)
