"""What strangers send beside pictures: numbers, names and text that break naive programs, and records to replay."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from llava_server.ask.options import parse_options
from llava_server.ask.request import RECORD_LIMITS, GenerateRequest
from llava_server.front.incoming import read_request
from llava_wire import RequestError, encode
from support.synthetic import make_record

RECORD = encode(make_record(words=("A", " red"), reductions=("layers_heads",)))


def refused(call: Callable[[], object]) -> RequestError:
    """The error of a call; it must fit in one line of UTF-8 and say what was given and what is allowed."""
    with pytest.raises(RequestError) as caught:
        call()
    error = caught.value
    json.dumps(error.to_body(), ensure_ascii=False).encode()
    assert str(error).isprintable()
    assert len(str(error)) < 2200
    assert "got " in error.message
    return error


def with_options(text: str) -> Callable[[], object]:
    """A request with these options as text."""
    return lambda: read_request({"image": b"x", "prompt": b"What?", "options": text.encode()}, {})


@pytest.mark.parametrize(
    ("text", "field", "says"),
    [
        ('{"temperature": 1' + "0" * 400 + "}", "options.temperature", "a number from 0 to 100"),
        ('{"temperature": NaN}', "options.temperature", "got nan"),
        ('{"temperature": -Infinity}', "options.temperature", "got -inf"),
        ('{"temperature": 1, "top_p": 1e400}', "options.top_p", "got inf"),
        ('{"max_new_tokens": -1' + "0" * 4000 + "}", "options.max_new_tokens", "1 or more"),
        ('{"max_new_tokens": 1' + "0" * 5000 + "}", "options", "malformed JSON"),
        ('{"max_new_tokens": 15e-1}', "options.max_new_tokens", "got 1.5"),
        ('{"max_new_tokens": 1e400}', "options.max_new_tokens", "got inf"),
        ('{"max_new_tokens": 4e9}', "options.max_new_tokens", "got 4000000000.0, expected a whole number from 1 to"),
        ("null", "options", "got None, expected a JSON object"),
        ('{"layers": [false]}', "options.layers[0]", "got False"),
        ('{"steps": [0, 1, 0]}', "options.steps[2]", "each index once"),
        ('{"\\ud800": 1}', "options.\\ud800", "unknown option"),
        ('{"a\\nb\\u202e": 1}', "options.a\\nb\\u202e", "unknown option"),
        ('{"views": [{"name": "a", "\\udfff": 1}]}', "options.views[0].\\udfff", "unknown key"),
        ('{"views": [{"name": "\\u0000"}]}', "options.views[0].name", "printable"),
        ('{"heads": "\\ud83d"}', "", ""),
        ('{"' + "m" * 100_000 + '": 1}', "options." + "m" * 109 + "...", "unknown option"),
        ('{"seed": 1, "seed": 2, "temperature": 1}', "options", "given twice"),
        ('{"views": [{"name": "a", "name": "b"}]}', "options", "given twice"),
        ("[" * 50_000, "options", "nested too deeply"),
        ('{"layers": ' + "[" * 900 + "]" * 900 + "}", "options.layers[0]", "a whole number"),
        ("{} {}", "options", "malformed JSON"),
        ("nul", "options", "malformed JSON"),
    ],
)
def test_options(text: str, field: str, says: str) -> None:
    if not field:  # an unknown head set is known to be one only when the model is
        assert with_options(text)()
        return
    error = refused(with_options(text))
    assert (error.field, says in error.message) == (field, True), error


def test_the_longest_lists_are_read_in_one_pass_each() -> None:
    views = [{"name": str(i), "layers": list(range(4096)), "heads": list(range(4096))} for i in range(16)]
    views += [{"name": f"pairs {i}", "heads": [[0, j] for j in range(4096)]} for i in range(16)]
    assert len(parse_options({"views": views}).views) == 32


def test_values_of_python_callers_are_shown_too() -> None:
    assert refused(lambda: parse_options({"max_new_tokens": -(10**6000)})).field == "options.max_new_tokens"
    assert refused(lambda: parse_options({"rows": [0] * 1_000_000})).message.startswith("got [0, 0, 0")
    assert refused(lambda: parse_options({b"layers": 1})).field == "options.b'layers'"


@pytest.mark.parametrize("prompt", ["", " \t\r\n", "\u200b\u2060", "\u202e", "\0", "\u00a0\u3000"])
def test_prompts_with_nothing_to_see(prompt: str) -> None:
    error = refused(lambda: GenerateRequest.build(b"x", prompt))
    assert (error.status, error.field) == (422, "prompt")


def test_half_characters_in_prompts() -> None:
    error = refused(lambda: GenerateRequest.build(b"x", "Is it \ud83d?"))
    assert (error.status, error.field) == (422, "prompt")
    assert "at character 6" in error.message
    assert "'\\ud83d'" in error.message


@pytest.mark.parametrize("prompt", ["e\u0301" * 20, "\U0001f469\u200d\U0001f52c?", "\u202eright to left", "a\0b"])
def test_odd_but_whole_text_is_a_prompt(prompt: str) -> None:
    assert GenerateRequest.build(b"x", prompt).prompt == prompt


def changed(change: Callable[[dict[str, Any]], object], more: dict[str, bytes] | None = None) -> bytes:
    """The record with another record.json and further members."""
    with zipfile.ZipFile(io.BytesIO(RECORD)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    document = json.loads(members["record.json"])
    change(document)
    # JSON has no word for infinity, but numbers that are too large for a float.
    text = json.dumps(document).replace("Infinity", "1e400")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**members, "record.json": text.encode(), **(more or {})}.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda d: d["prompt"].update(text="half \ud83d"), "record"),
        (lambda d: d["prompt"].update(text="\u200b"), "record.prompt.text"),
        (lambda d: d["images"][0].update(sha256="\ud800" * 64), "record"),
        (lambda d: d["images"][0].update(sha256="A" * 64), "record.images[0].sha256"),
        (lambda d: d.update(images=d["images"] * 2), "record"),
        (lambda d: d.update(images=[]), "record"),
        (lambda d: d["prompt"].update(turns=[{"role": "user", "text": "a"}]), "record.prompt.turns"),
        (lambda d: d["prompt"].update(system="Be kind."), "record.prompt.system"),
        (lambda d: d.update(tokens=[], queries=[]), "record.tokens"),
        (lambda d: d["tokens"][0].update(logprob=1e400), "record"),
        (lambda d: d["tokens"][0].update(id="\ud800"), "record"),
        (lambda d: d["prompt"].update(template="\ud800"), "record"),
        (lambda d: d.update(filler="x" * RECORD_LIMITS.json_bytes), "record"),
    ],
)
def test_records_that_are_not_replayed(change: Callable[[dict[str, Any]], object], field: str) -> None:
    error = refused(lambda: GenerateRequest.replay(changed(change)))
    assert (error.status, error.field) == (422, field), error


def test_what_a_replay_does_not_take_of_a_record_is_not_read() -> None:
    bomb = bytes(20 << 20)
    hostile = changed(lambda d: d.update(views="none"), {"views/0/maps.npy": bomb, "alternatives/1.npz": b"PK\3\4bad"})
    assert len(hostile) < 1 << 20
    request = GenerateRequest.replay(hostile)
    assert request.given is not None
    assert request.given.answer == "A red"


def test_a_picture_that_inflates_to_too_much_is_refused() -> None:
    hostile = changed(lambda d: None, {"picture.png": bytes(65 << 20)})
    assert "picture.png: got 68157440 bytes" in refused(lambda: GenerateRequest.replay(hostile)).message


def test_how_an_answer_was_chosen_is_kept_as_far_as_it_is_numbers_that_this_version_knows() -> None:
    told = {"greedy": False, "seed": 7, "temperature": "warm", "top_p": None, "score": [[1]], "later": 3}
    request = GenerateRequest.replay(changed(lambda d: d.update(sampling=told)))
    assert request.given is not None
    assert request.given.sampling == {"greedy": False, "seed": 7}
