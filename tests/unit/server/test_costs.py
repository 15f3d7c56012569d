"""What costs a worker time is counted before anything is made of it: JSON, records to replay, parts of pictures.

Each case is refused without the step that would have cost the time: the JSON parser or Pillow, which here would fail
the test.
"""

from __future__ import annotations

import base64
import io
import json
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image as PillowImage

from llava_server.ask.checking import MAX_INTEGER
from llava_server.ask.request import MAX_PROMPT_CHARS, RECORD_LIMITS, GenerateRequest
from llava_server.ask.settings import Limits
from llava_server.front import incoming
from llava_server.front.incoming import MAX_JSON_VALUES, MAX_OPTIONS_BYTES, Probe, read_request
from llava_server.read import picture_file
from llava_server.read.picture_file import open_picture
from llava_server.read.picture_parts import MAX_BLOCKS, MAX_PARTS, MAX_RUN_BYTES, MAX_SEGMENTS, MAX_STRIPS
from llava_wire import RequestError, container, encode
from support.synthetic import make_record

HEAD = {"host": "x", "content-type": "application/json"}
LIMITS = Limits()


@pytest.fixture
def unparsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test when JSON is parsed."""

    def parses(*_: object, **__: object) -> None:
        pytest.fail("parsed")

    monkeypatch.setattr(incoming.json, "loads", parses)


def asked(text: str) -> Callable[[], object]:
    return lambda: read_request({"image": b"x", "prompt": b"What?", "options": text.encode()}, {})


def posted(text: str) -> Callable[[], object]:
    return lambda: read_request({"body": text.encode()}, HEAD)


def refused(call: Callable[[], object]) -> RequestError:
    with pytest.raises(RequestError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    ("call", "field", "says"),
    [
        (asked(" " * MAX_OPTIONS_BYTES + "{}"), "options", "bytes, expected"),
        (asked('{"layers": [' + "0," * MAX_JSON_VALUES + "0]}"), "options", "values, expected"),
        (asked('{"layers": [' + "[]," * MAX_JSON_VALUES + "0]}"), "options", "values, expected"),
        (asked("[" * MAX_JSON_VALUES), "options", "values, expected"),
        (asked("{" + '"a":1,' * MAX_JSON_VALUES + '"b":1}'), "options", "values, expected"),
        (posted('{"image": [' + "{}," * MAX_JSON_VALUES + "0]}"), "body", "values, expected"),
        (posted('{"options": {"steps": [' + "0," * MAX_JSON_VALUES + "0]}}"), "body", "values, expected"),
    ],
)
def test_json_is_counted_before_it_is_parsed(call: Callable[[], object], field: str, says: str, unparsed: None) -> None:
    error = refused(call)
    assert (error.status, error.field, says in error.message) == (413, field, True), error


def test_the_largest_options_that_are_allowed_are_taken() -> None:
    views = [{"name": str(i), "heads": [[1000, j + 1000] for j in range(4096)]} for i in range(32)]
    request = read_request({"image": b"x", "prompt": b"What?", "options": json.dumps({"views": views}).encode()}, {})
    assert not isinstance(request, Probe)
    assert len(request.options.views) == 32


@pytest.mark.parametrize("digits", [4300, 5000, 1_000_000])
def test_numbers_of_many_digits(digits: int) -> None:
    error = refused(asked('{"seed": 1' + "0" * (digits - 1) + "}"))
    assert (error.status, error.field) == ((422, "options.seed") if digits <= 4300 else (400, "options"))
    assert len(error.message) < 400
    assert refused(asked('{"top_p": ' + "1" * digits + ".5}")).field == "options.top_p"
    assert refused(asked(f'{{"top_k": {MAX_INTEGER + 1}}}')).message.endswith(f"from 1 to {MAX_INTEGER}")


@pytest.mark.parametrize("sign", [" ", "a", "\u200b"])
def test_a_prompt_is_measured_before_it_is_read(sign: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llava_server.ask.request.shows_nothing", lambda text: pytest.fail("read"))
    row = {"image": b"x", "prompt": (sign * (MAX_PROMPT_CHARS + 1)).encode()}
    error = refused(lambda: read_request(row, {}))
    assert (error.status, error.field) == (413, "prompt")


def test_base64_may_be_wrapped_and_of_megabytes() -> None:
    data = bytes(range(256)) * 4096
    body = {"image": base64.encodebytes(data).decode(), "prompt": "What?"}
    request = read_request({"body": json.dumps(body).encode()}, HEAD)
    assert isinstance(request, GenerateRequest)
    assert request.image == data


def record(change: Callable[[dict[str, Any]], object]) -> bytes:
    """A record's file whose record.json was changed."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(encode(make_record(words=("A", " red"), reductions=("layers_heads",))))) as read,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as written,
    ):
        for name in read.namelist():
            data = read.read(name)
            if name == "record.json":
                plain = json.loads(data)
                change(plain)
                data = json.dumps(plain, separators=(",", ":")).encode()
            written.writestr(name, data)
    return buffer.getvalue()


ROW = {"kind": "answer", "token": 0, "position": 0, "step": 0}


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain.update(queries=[ROW] * 163_918),
        lambda plain: plain.update(sampling={"a": [[]] * (RECORD_LIMITS.json_values // 2)}),
        lambda plain: plain["tokens"][0].update(top=[{"id": 1, "text": "", "logprob": 0}] * 100_000),
        lambda plain: plain.update(views=[0] * RECORD_LIMITS.json_values),
    ],
)
def test_a_record_to_replay_is_counted_before_it_is_parsed(
    change: Callable[[dict[str, Any]], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = record(change)
    assert len(hostile) < 150_000
    monkeypatch.setattr(json, "loads", lambda *_, **__: pytest.fail("parsed"))
    error = refused(lambda: GenerateRequest.replay(hostile))
    assert (error.status, error.field) == (422, "record")
    assert f"expected {RECORD_LIMITS.json_values}" in error.message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda plain: plain.update(tokens=plain["tokens"][:1] * (RECORD_LIMITS.tokens + 1)), "tokens: got 8193"),
        (lambda plain: plain["prompt"].update(ids=[1] * 40_000), "prompt.ids: got 40000"),
        (lambda plain: plain["prompt"].update(pieces=[[]] * 40_000), "prompt.pieces: got 40000"),
    ],
)
def test_lists_of_a_record_are_counted_before_facts_are_made(
    change: Callable[[dict[str, Any]], object], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bare(plain: dict[str, Any]) -> None:
        for token in plain["tokens"]:
            token["top"] = []
        change(plain)

    hostile = record(bare)
    monkeypatch.setattr(container, "from_plain", lambda *_, **__: pytest.fail("made"))
    assert says in refused(lambda: GenerateRequest.replay(hostile)).message


def test_a_replay_reads_neither_rows_nor_candidates() -> None:
    request = GenerateRequest.replay(record(lambda plain: plain.update(queries=[{"kind": "no such"}] * 40_000)))
    assert request.given is not None
    assert request.given.queries == ()
    assert [token.text for token in request.given.tokens][:2] == ["A", " red"]
    assert all(token.top == () for token in request.given.tokens)


def test_deadlines_count_from_the_arrival_and_not_from_the_end_of_parsing() -> None:
    came = time.monotonic() - 5
    for row in ({"image": b"x", "prompt": b"What?"}, {"record": record(lambda plain: None)}):
        request = read_request(row, {}, arrived_s=came)
        assert isinstance(request, GenerateRequest)
        assert request.arrived_s == came


def saved(kind: str, **how: Any) -> bytes:
    """A small picture file."""
    buffer = io.BytesIO()
    PillowImage.new("RGB", (64, 48), (200, 30, 30)).save(buffer, kind, **how)
    return buffer.getvalue()


JPEG, PNG, GIF, BMP = (saved(kind) for kind in ("JPEG", "PNG", "GIF", "BMP"))
AFTER_COLOURS = 13 + (3 << (GIF[10] & 7) + 1)


def jpeg(between: bytes) -> bytes:
    return JPEG[:2] + between + JPEG[2:]


def segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def png(chunk: bytes, count: int) -> bytes:
    whole = struct.pack(">I", 0) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return PNG[:33] + whole * count + PNG[33:]


def gif(between: bytes) -> bytes:
    return GIF[:AFTER_COLOURS] + between + GIF[AFTER_COLOURS:]


def tiff(strips: int) -> bytes:
    """Grey, 16 px wide, a strip per row, all in one place."""
    base = 8 + 2 + 9 * 12 + 4
    one = {256: 16, 257: strips, 258: 8, 259: 1, 262: 1, 277: 1, 278: 1}
    tags = [(tag, 4, 1, value) for tag, value in one.items()]
    tags += [(273, 4, strips, base), (279, 4, strips, base + 4 * strips)]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags)) + bytes(4)
    return (
        b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", base) * strips + struct.pack("<I", 16) * strips
    )


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (jpeg(segment(0xE5, b"") * MAX_SEGMENTS), "segments"),
        (jpeg(segment(0xE1, b"Exif\0\0" + b"x" * 1000) * MAX_SEGMENTS), "segments"),
        (jpeg(b"\xff\xd0" * MAX_SEGMENTS), "segments"),
        (jpeg(b"x" * (MAX_PARTS + 1)), "bytes between the segments"),
        (jpeg(b"\xff" * (MAX_PARTS + 1)), "bytes between the segments"),
        (jpeg(segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0" * 4000) * 17), "resources of Photoshop"),
        (png(b"IDAT", MAX_PARTS), "chunks"),
        (png(b"tEXt", MAX_PARTS), "chunks"),
        (gif(b"!\xfe" + b"\1x" * MAX_BLOCKS + b"\0"), "blocks"),
        (gif(b"!\xff\1x\0" * MAX_BLOCKS), "blocks"),
        (gif(b"x" * MAX_BLOCKS), "blocks"),
        (GIF[:-1] + b"!\xfe\1x\0" * MAX_BLOCKS + b";", "blocks"),
        (BMP[:30] + b"\1\0\0\0" + BMP[34:] + bytes(MAX_RUN_BYTES), "run lengths"),
        (tiff(MAX_STRIPS + 1), "strips"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_pictures_of_very_many_parts_never_reach_the_decoder(
    data: bytes, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_file.PillowImage, "open", lambda *_, **__: pytest.fail("opened"))
    error = refused(lambda: open_picture(data, LIMITS))
    assert (error.status, error.field, says in error.message) == (413, "image", True), error


@pytest.mark.parametrize(
    "data",
    [
        JPEG, PNG, GIF, BMP, saved("TIFF"), saved("WEBP"), saved("JPEG", progressive=True), saved("PNG", interlace=1),
        jpeg(segment(0xE2, b"ICC_PROFILE\0\1\xff" + b"x" * 60_000) * 150), jpeg(b"\xff" * 1000), tiff(3000),
        png(b"tEXt", 60_000), gif((b"!\xfe" + b"\xff" + b"x" * 255 + b"\0") * 30_000),
        saved("GIF", save_all=True, append_images=[PillowImage.new("RGB", (64, 48), (i, 0, 0)) for i in range(9)]),
    ],
    ids=lambda data: f"{data[:4]!r} of {len(data)}",
)  # fmt: skip
def test_what_programs_write_is_read(data: bytes) -> None:
    tall = data[:2] == b"II" and len(data) > 24_000
    assert open_picture(data, LIMITS).pixels.size == ((16, 3000) if tall else (64, 48))
