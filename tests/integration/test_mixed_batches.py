"""Any mixture of good, bad and replay items in one batch: each good one gets the answer that it has alone."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llava_handler import LlavaHandler
from llava_server.engine import Engine
from llava_wire import Record, decode, encode
from stress.soaking.cases import difference
from support.context import Context
from support.pictures import encoded, scene, scene_bytes

PICTURES = [scene_bytes(256, 192, 1), encoded(scene(192, 240, 2), "JPEG"), encoded(scene(97, 260, 3), "WEBP")]
HTTP = {"Host": "x", "Content-Type": "multipart/form-data; boundary=b", "Accept": "application/x-npz"}
JSON = {"Host": "x", "Content-Type": "application/json", "Accept": "application/x-npz"}


@dataclass(frozen=True)
class Item:
    """One item of a batch: its row, its headers (none: gRPC), and the status of a refusal, 200 for an answer."""

    row: Mapping[str, Any]
    head: Mapping[str, Any]
    status: int = 200


def item(status: int = 200, head: Mapping[str, Any] = HTTP, *, prompt: bytes = b"Describe the image.", image: bytes =
         PICTURES[0], **options: Any) -> Item:  # fmt: skip
    """A question in float32 about a picture."""
    row = {"image": image, "prompt": prompt, "options": json.dumps({"precision": "float32", **options}).encode()}
    return Item(row, head, status)


GOOD = [
    item(),
    item(head={}, prompt=b"What color is the square?", image=PICTURES[1], max_new_tokens=5),
    item(image=PICTURES[2], layers="all", heads="all", reduction="none", max_new_tokens=6),
    item(head={}, prompt=b"Is there a red circle in the image?", rows="both"),
    item(prompt=b"How many? " * 12, temperature=3.0, seed=5, max_new_tokens=8),
    item(prompt=b"<image></s> what?", num_beams=2, num_return_sequences=2, max_new_tokens=5),
    item(head={}, temperature=2.0, seed=9, num_return_sequences=2, max_new_tokens=4),
]
BAD = [
    item(422, image=PICTURES[0][:700]),
    item(415, image=b"hello"),
    item(422, head={}, prompt=b"\xe2\x80\x8b"),
    item(400, prompt=b"\xff"),
    item(413, prompt=b"x" * 4001),
    item(422, head={}, layers=[99]),
    item(422, prompt=b"word " * 700),
    item(507, views=[{"name": str(i), "reduction": "none"} for i in range(32)], max_new_tokens=256),
    Item({**item().row, "options": b'{"\\ud800": 1}'}, HTTP, 422),
    Item({"record": b"PK\x03\x04"}, {}, 422),
    Item({}, HTTP, 400),
    Item({"body": bytearray(b"{")}, JSON, 400),
]
CHOICES = len(GOOD) + len(BAD) + 3


@functools.cache
def handler_of(engine: Engine) -> LlavaHandler:
    """A handler around this engine, as if TorchServe had made it."""
    handler = LlavaHandler()
    handler._engine = engine
    return handler


@functools.cache
def answer_alone(engine: Engine, number: int) -> Record:
    """What a good item gets when nothing else is asked."""
    [body], _ = answers(engine, [items_of(engine)[number]])
    return decode(body)


def answers(engine: Engine, items: list[Item]) -> tuple[list[bytes], Context]:
    """One batch."""
    context = Context([dict(one.head) for one in items])
    return handler_of(engine).handle([one.row for one in items], context), context


@functools.cache
def items_of(engine: Engine) -> tuple[Item, ...]:
    """Good items, replays of two answers and of a damaged one, and bad items."""
    first, second = (decode(answers(engine, [GOOD[i]])[0][0]) for i in (0, 4))
    views = json.dumps({"precision": "float32", "layers": "all", "heads": "all", "reduction": "heads"}).encode()
    replays = [
        Item({"record": encode(first), "image": PICTURES[0], "options": views}, {}),
        Item({"record": encode(second), "image": PICTURES[0], "options": views}, HTTP),
    ]
    mismatched = Item({"record": encode(first), "image": PICTURES[1], "options": views}, HTTP, 422)
    return (*GOOD, *replays, *BAD, mismatched)


@pytest.mark.parametrize("count", [25, pytest.param(100, marks=pytest.mark.long)])
def test_each_item_has_its_own_outcome(engine: Engine, count: int) -> None:
    @settings(max_examples=count, deadline=None)
    @given(chosen=st.lists(st.integers(0, CHOICES - 1), min_size=2, max_size=8))
    @example(chosen=list(range(CHOICES)))
    @example(chosen=[0, 0, 8, 0, 7, 7, 8])
    def each_has_its_own(chosen: list[int]) -> None:
        ask_together(engine, chosen)

    each_has_its_own()


def ask_together(engine: Engine, chosen: list[int]) -> None:
    """One batch: each answer is the one that its item gets alone, each refusal has the item's status."""
    items = items_of(engine)
    assert len(items) == CHOICES
    bodies, context = answers(engine, [items[number] for number in chosen])
    for place, (number, body) in enumerate(zip(chosen, bodies, strict=True)):
        expected = items[number].status
        if expected == 200:
            assert place not in context.statuses, body[:300]
            record = decode(body)
            assert difference(record, answer_alone(engine, number)) == ""
            assert record.run["request_id"] == f"request-{place}"
        else:
            assert context.statuses[place] == (expected, ""), body[:300]
            assert json.loads(body)["error"]["status"] == expected


@pytest.mark.parametrize("broken", [3, 0])
def test_an_engine_that_fails_over_one_item_costs_only_that_one(
    engine: Engine, broken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault that nobody foresaw, in the middle of a batch."""
    build = engine._builder.build
    prompt = GOOD[broken].row["prompt"].decode()

    def fails(request: Any, *rest: Any) -> Any:
        if request.prompt == prompt:
            raise ZeroDivisionError
        return build(request, *rest)

    expected = {number: answer_alone(engine, number) for number in (0, 1, 3) if number != broken}
    monkeypatch.setattr(engine._builder, "build", fails)
    bodies, context = answers(engine, [GOOD[0], GOOD[1], GOOD[3]])
    for place, number in enumerate((0, 1, 3)):
        if number == broken:
            assert context.statuses[place] == (500, "")
            assert json.loads(bodies[place])["error"]["code"] == "internal"
        else:
            assert difference(decode(bodies[place]), expected[number]) == ""
