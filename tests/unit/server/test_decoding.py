"""Ways of decoding: which one options mean, what each says of batches, sizes, seeds, streams and the record."""

from __future__ import annotations

import pytest

from llava_server.ask.decoding import BEAMS, GIVEN, GREEDY, SAMPLED, Chosen, decoding_of
from llava_server.ask.options import parse_options
from llava_wire.errors import RequestError

WAYS = [
    ({}, GREEDY),
    ({"temperature": 0}, GREEDY),
    ({"top_k": 5, "seed": 7, "num_return_sequences": 3}, SAMPLED),
    ({"num_beams": 4, "num_return_sequences": 2, "length_penalty": 2.0}, BEAMS),
]


class Recorder:
    """Decoders that tell which of them was asked."""

    def search(self, item: str) -> list[str]:
        return [f"{item} first", f"{item} second"]

    def write(self, items: list[str]) -> tuple[str, list[str]]:
        return "write", items

    def replay(self, items: list[str]) -> tuple[str, list[str]]:
        return "replay", items


@pytest.mark.parametrize(("options", "way"), WAYS)
def test_options_mean_one_way(options: dict, way: object) -> None:
    assert decoding_of(parse_options(options)) is way
    assert decoding_of(parse_options(options), given=True) is GIVEN


def test_each_way_runs_with_its_decoder() -> None:
    found = {way.name: way.run(list(way.found(("a",), Recorder())), Recorder()) for _, way in (*WAYS, ({}, GIVEN))}
    assert found == {
        "greedy": ("write", ["a"]),
        "sampled": ("write", ["a"]),
        "beams": ("replay", ["a first", "a second"]),
        "given": ("replay", ["a"]),
    }


def test_sequences_that_are_held_and_begun() -> None:
    held = {way.name: way.held(parse_options(options)) for options, way in WAYS}
    assert held == {"greedy": 1, "sampled": 3, "beams": 4}
    assert SAMPLED.seeds(parse_options(WAYS[2][0])) == (7, 8, 9)
    last = parse_options({"top_k": 5, "seed": 2**63 - 1, "num_return_sequences": 2})
    assert SAMPLED.seeds(last) == (2**63 - 1, 0)
    fresh = parse_options({"top_k": 5})
    assert SAMPLED.seeds(fresh) != SAMPLED.seeds(fresh)
    assert BEAMS.seeds(parse_options(WAYS[3][0])) == (None,)


def test_only_ways_that_are_written_step_by_step_share_a_batch_and_stream() -> None:
    assert (GREEDY.batch, BEAMS.batch) == (SAMPLED.batch, "")
    assert GIVEN.batch not in (GREEDY.batch, "")
    one = parse_options({"temperature": 1.0})
    assert (GREEDY.no_stream(one), SAMPLED.no_stream(one)) == ("", "")
    for options, way in WAYS[2:]:
        assert "several sequences" in way.no_stream(parse_options(options))
    assert "known already" in GIVEN.no_stream(one)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"num_beams": 2, "temperature": 1.0}, "options.num_beams"),
        ({"length_penalty": 1.0}, "options.length_penalty"),
        ({"length_penalty": 1.0, "top_k": 3}, "options.length_penalty"),
        ({"num_return_sequences": 2}, "options.num_return_sequences"),
        ({"num_beams": 2, "num_return_sequences": 3}, "options.num_return_sequences"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict, field: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_options(options)
    assert (caught.value.code, caught.value.field) == ("invalid", field)


def test_the_record_says_how_an_answer_was_chosen() -> None:
    chosen = Chosen(seed=8, sequence=1, logprobs=(-1.0, -2.0), plain=True)
    assert GREEDY.recorded(parse_options({}), chosen) == {"max_new_tokens": 64, "greedy": True}
    assert SAMPLED.recorded(parse_options(WAYS[2][0]), chosen) == {
        "max_new_tokens": 64, "greedy": False, "temperature": None, "seed": 8, "top_k": 5,
        "sequence": 1, "sequences": 3,
    }  # fmt: skip
    assert BEAMS.recorded(parse_options(WAYS[3][0]), chosen) == {
        "max_new_tokens": 64, "greedy": False, "num_beams": 4, "length_penalty": 2.0, "score": -0.75,
        "sequence": 1, "sequences": 2,
    }  # fmt: skip
    told = Chosen(None, 0, (-1.0,), True, {"greedy": False, "seed": 3})
    assert GIVEN.recorded(parse_options({}), told) == {"greedy": False, "seed": 3}


def test_a_search_is_asked_for_no_single_token() -> None:
    with pytest.raises(TypeError, match="beams: got a token to choose"):
        BEAMS.choose(None, None)
