"""Several pictures in one request: how each way in names them, and what is refused on it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from llava_server.ask.pictures import MAX_IMAGES
from llava_server.ask.request import GenerateRequest
from llava_server.front.incoming import read_request
from llava_viewer.client.transport.form import form
from llava_wire import RequestError, encode
from support.several import make_several

HTTP = {"host": "x"}
ONE, TWO, THREE = b"one", b"two", b"three"


def read(row: dict[str, Any], head: dict[str, str]) -> GenerateRequest:
    request = read_request(row, head)
    assert isinstance(request, GenerateRequest)
    return request


def refused(row: dict[str, Any], head: dict[str, str]) -> RequestError:
    with pytest.raises(RequestError) as error:
        read_request(row, head)
    return error.value


def posted(*parts: tuple[str, bytes]) -> tuple[dict[str, Any], dict[str, str]]:
    """A form's row and headers, the fields in this order and as often as given."""
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), data)
        for name, data in parts
    )
    return {"body": body + b"--b--\r\n"}, _headers("multipart/form-data; boundary=b")


def _headers(kind: str) -> dict[str, str]:
    from llava_wire.system.inner import FORM_HEADER, FORM_TYPE

    return {**HTTP, "content-type": FORM_TYPE, FORM_HEADER: kind}


def sent(body: object) -> tuple[dict[str, Any], dict[str, str]]:
    return {"body": json.dumps(body).encode()}, {**HTTP, "content-type": "application/json"}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_a_form_repeats_the_field() -> None:
    row, head = posted(("image", TWO), ("prompt", b"What?"), ("image", ONE), ("image", THREE))
    assert read(row, head).images == (TWO, ONE, THREE)
    row, head = posted(("image", ONE), ("prompt", b"What?"))
    assert read(row, head).images == (ONE,)


def test_json_has_a_string_or_a_list() -> None:
    assert read(*sent({"image": [b64(TWO), b64(ONE)], "prompt": "What?"})).images == (TWO, ONE)
    assert read(*sent({"image": [b64(ONE)], "prompt": "What?"})).images == (ONE,)
    assert read(*sent({"image": b64(ONE), "prompt": "What?"})).images == (ONE,)


def test_a_form_may_number_them_as_a_map_does() -> None:
    row, head = posted(("image_3", THREE), ("image", ONE), ("prompt", b"What?"), ("image_2", TWO))
    assert read(row, head).images == (ONE, TWO, THREE)


def test_json_has_images_too_and_data_uris_anywhere() -> None:
    uris = [f"data:image/png;base64,{b64(ONE)}", f" data:;charset=x;base64,\n{b64(TWO)}"]
    assert read(*sent({"images": uris, "prompt": "What?"})).images == (ONE, TWO)
    assert read(*sent({"images": [b64(ONE)], "prompt": "What?"})).images == (ONE,)
    assert read(*sent({"image": uris[1], "prompt": "What?"})).images == (TWO,)
    assert read(*sent({"image": [uris[0], b64(TWO)], "prompt": "What?"})).images == (ONE, TWO)


def test_a_map_numbers_them_whatever_its_order() -> None:
    row = {"image_3": THREE, "prompt": b"What?", "image": ONE, "image_2": TWO}
    assert read(row, {}).images == (ONE, TWO, THREE)


def test_what_the_client_sends_is_what_comes_in() -> None:
    kind, body = form({"image": ONE, "image_2": TWO, "prompt": b"What?", "options": b"{}"})
    assert read({"body": body}, _headers(kind)).images == (ONE, TWO)


@pytest.mark.parametrize(
    ("row", "head", "field", "says"),
    [
        (*posted(("image", ONE), ("image", TWO), ("image_2", TWO), ("prompt", b"?")), "image_2", "beside 2 parts of"),
        (*posted(("image", ONE), ("image_3", TWO), ("prompt", b"?")), "image_2", "got none beside image_3"),
        (*posted(("images", ONE), ("prompt", b"?")), "images", "image, image_2 and so on in a form"),
        (*posted(("image", b" https://example.org/a.png"), ("prompt", b"?")), "image", "an address (https:)"),
        (*posted(("image", ONE), ("image_2", b"data:image/png;base64,AAAA"), ("prompt", b"?")), "image_2", "decode it"),
        (*posted(("image", ONE), ("prompt", b"a"), ("prompt", b"b")), "body", "two parts of the name 'prompt'"),
        (*sent({"images": [b64(ONE)], "image": b64(ONE), "prompt": "?"}), "images", "got it beside image"),
        (*sent({"images": b64(ONE), "prompt": "?"}), "images", "got 'str'"),
        (*sent({"image": b64(ONE), "image_2": b64(ONE), "prompt": "?"}), "image_2", "a list `images` in JSON"),
        (*sent({"images": [b64(ONE), "http://127.0.0.1/a.png"], "prompt": "?"}), "image_2", "an address (http:)"),
        (*sent({"image": "HTTPS://example.org/a.png", "prompt": "?"}), "image", "nothing is fetched"),
        (*sent({"image": "file:///etc/passwd", "prompt": "?"}), "image", "an address (file:)"),
        (*sent({"image": "s3:bucket", "prompt": "?"}), "image", "an address (s3:)"),
        (*sent({"image": "data:image/svg+xml,%3Csvg", "prompt": "?"}), "image", "data URI that is not of base64"),
        (*sent({"images": [f"data:;base64,{b64(ONE)}", "data:;base64,x"], "prompt": "?"}), "image_2", "base64"),
        ({"image": b"http://example.org/a.png", "prompt": b"?"}, {}, "image", "an address (http:)"),
        (*sent({"image": [], "prompt": "?"}), "image", "a list of 0, expected 1 to 16"),
        (*sent({"image": [b64(ONE)] * (MAX_IMAGES + 1), "prompt": "?"}), "image", "a list of 17, expected 1 to 16"),
        (*sent({"image": [b64(ONE), "not base64!"], "prompt": "?"}), "image_2", "expected base64"),
        (*sent({"image": [b64(ONE), [b64(TWO)]], "prompt": "?"}), "image_2", "got list, expected base64"),
        (*sent({"image": [b64(ONE), ""], "prompt": "?"}), "image_2", "got 0 bytes"),
        ({"image": ONE, "image_3": TWO, "prompt": b"?"}, {}, "image_2", "got none beside image_3"),
        ({"image_2": TWO, "prompt": b"?"}, {}, "image", "got none beside image_2"),
        ({"image": ONE, "images": TWO, "prompt": b"?"}, {}, "images", "and over gRPC"),
        ({"image": ONE, "image_17": TWO, "prompt": b"?"}, {}, "image_17", "unknown field"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(row: dict[str, Any], head: dict[str, str], field: str, says: str) -> None:
    error = refused(row, head)
    assert error.field == field
    assert says in error.message


def test_python_refuses_addresses_by_the_images_name() -> None:
    with pytest.raises(RequestError, match="got an address") as error:
        GenerateRequest.build([ONE, "https://example.org/a.png"], "What?")
    assert error.value.field == "image_2"


def test_a_replay_takes_as_many_as_its_record() -> None:
    from dataclasses import replace

    record = make_several()
    plain = replace(record.facts, prompt=replace(record.facts.prompt, system="", turns=()))
    record = replace(record, facts=plain)
    assert GenerateRequest.replay(record, None, [ONE, TWO]).images == (ONE, TWO)
    carried = record.with_pictures([("picture.png", ONE), ("picture.png", TWO)])
    for given in (carried, encode(carried)):
        assert GenerateRequest.replay(given).images == (ONE, TWO)
    for wrong in (ONE, [ONE], [ONE, TWO, THREE]):
        with pytest.raises(RequestError, match="expected the 2 of the record") as error:
            GenerateRequest.replay(record, None, wrong)
        assert error.value.field == "image"
    row = {"record": encode(record), "image": ONE, "image_2": TWO}
    assert read(row, {}).images == (ONE, TWO)
