"""`Engine.answers`: what `run` gives, in order, from requests that are taken as they are needed."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

from llava_server import engine as engine_module
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record, RequestError

QUESTIONS = ["Describe the image.", "What colour is the square?", "Is there a red circle in the image?"]


def requests(pictures: list[bytes], count: int, taken: list[int]) -> Iterator[GenerateRequest]:
    for i in range(count):
        taken.append(i)
        options = {"max_new_tokens": 3, "layers": [99]} if i % 5 == 3 else {"max_new_tokens": 2 + i % 3}
        yield GenerateRequest.build(pictures[i % 3], QUESTIONS[i % 3], options)


def test_answers_are_those_of_run_in_order(engine: Engine, pictures: list[bytes]) -> None:
    one = list(engine.answers(requests(pictures, 11, [])))
    other = engine.run(list(requests(pictures, 11, [])))
    assert [isinstance(result, RequestError) for result in one] == [i % 5 == 3 for i in range(11)]
    for mine, theirs in zip(one, other, strict=True):
        if isinstance(mine, RequestError):
            assert isinstance(theirs, RequestError)
            assert mine.message == theirs.message
        else:
            assert isinstance(theirs, Record)
            assert mine.answer == theirs.answer
    assert list(engine.answers([])) == []


def test_a_long_list_is_neither_read_ahead_nor_kept(engine: Engine, pictures: list[bytes], monkeypatch) -> None:
    monkeypatch.setattr(engine_module, "_WINDOW", 4)
    taken: list[int] = []
    alive: list[weakref.ref[Record]] = []
    most = 0
    for number, result in enumerate(engine.answers(requests(pictures, 12, taken))):
        assert len(taken) <= (number // 4 + 1) * 4
        if isinstance(result, Record):
            alive.append(weakref.ref(result))
        del result
        gc.collect()
        most = max(most, sum(ref() is not None for ref in alive))
    assert len(taken) == 12
    assert most <= 4


def test_closing_early_leaves_the_engine_usable(engine: Engine, pictures: list[bytes]) -> None:
    some = engine.answers(requests(pictures, 8, []))
    assert isinstance(next(some), Record)
    some.close()
    assert isinstance(engine.run(list(requests(pictures, 1, [])))[0], Record)
