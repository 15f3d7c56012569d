"""Forms, multipart bodies and gRPC messages: what is counted and refused before anybody takes them apart."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava_viewer.client.transport.messages import messages
from llava_wire.errors import RequestError
from servekit.front.shape import FIELDS, check_body, check_message, is_urlencoded


def multipart(count: int, boundary: str = "b", head: str = "", name: str = "n") -> tuple[str, bytes]:
    """Content type and body of so many parts."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}{n}"\r\n{head}\r\n{n}\r\n' for n in range(count)
    ]
    return f"multipart/form-data; boundary={boundary}", ("".join(parts) + f"--{boundary}--\r\n").encode()


def refused(content_type: str, body: bytes) -> str:
    with pytest.raises(RequestError) as caught:
        check_body(content_type, body)
    assert caught.value.field == "body"
    return caught.value.message


def test_kinds_of_bodies() -> None:
    for kind in ("application/x-www-form-urlencoded; charset=utf-8", " APPLICATION/X-WWW-FORM-URLENCODEDX"):
        assert is_urlencoded(kind)
    for kind in ("multipart/form-data; boundary=b", "application/json", "", "image/png"):
        assert not is_urlencoded(kind)
    check_body("application/json", b"&" * 1000)
    check_body("", b"--b")


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.binary(max_size=200), min_size=1, max_size=8))
def test_what_a_library_sends_passes(files: dict[str, bytes]) -> None:
    fields = {"prompt": (None, "what?"), **{name: ("f", data) for name, data in files.items()}}
    request = httpx.Request("POST", "http://x/", files=fields)
    check_body(request.headers["content-type"], request.read())


def test_parts() -> None:
    check_body(*multipart(FIELDS))
    check_body('multipart/form-data; boundary="a b"', multipart(1, "a b")[1])
    assert "more than 64 parts" in refused(*multipart(FIELDS + 1))
    assert "part of parts" in refused(*multipart(1, head="Content-Type: Multipart/mixed; boundary=c\r\n"))
    kind, body = multipart(2)
    assert "no boundary" in refused("multipart/form-data", body)
    assert "more than one" in refused(kind + "; boundary=c", body)
    assert "before its first" in refused(kind, b"x" + body)
    assert "no boundary at its end" in refused(kind, body.removesuffix(b"--b--\r\n"))
    assert "followed by" in refused(kind, body.replace(b"--b\r\n", b"--b  \r\n"))
    assert "Content-Disposition" in refused(kind, body.replace(b"Content-Disposition", b"X"))
    # Boundaries by hundreds of thousands are counted, not walked through.
    assert "parts" in refused(kind, b"--b\r\n" * 400_000)


@given(st.dictionaries(st.text(max_size=8), st.binary(max_size=300), max_size=30), st.text(max_size=20))
def test_messages_pass(fields: dict[str, bytes], model: str) -> None:
    check_message(messages().PredictionsRequest(model_name=model, input=fields).SerializeToString())


@pytest.mark.parametrize("message", [b"\x0a", b"\x0a\x05abc", b"\x0b", b"\x0c", b"\xff" * 11, b"\x09abc", b"\x0a\x80"])
def test_bytes_that_are_no_message(message: bytes) -> None:
    with pytest.raises(RequestError, match="not a PredictionsRequest"):
        check_message(message)


def test_messages_of_many_fields() -> None:
    many = messages().PredictionsRequest(input={str(n): b"" for n in range(2_000)}).SerializeToString()
    with pytest.raises(RequestError, match="more than 64 inputs"):
        check_message(many)
