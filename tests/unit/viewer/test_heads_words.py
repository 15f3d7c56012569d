"""Words that heads are judged by: phrases found in tokens, what needs the image, kinds and boxes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llava_viewer.heads.words import answer_spots, own_places, phrase_tokens, question_spots
from llava_wire.schema import Query
from support.heads import told

WORDS = ("A", " red", " sq", "uare", ",", " a", " blue", " star", ".")
BOX, OTHER = (0.0, 0.0, 10.0, 10.0), (20.0, 20.0, 30.0, 30.0)
NEEDING = (False, True, True, False, True, False, False, True, True)
ANSWER = told(WORDS, range(9), needing=NEEDING)


@pytest.mark.parametrize(
    ("texts", "phrase", "tokens"),
    [
        (WORDS, "red square", (1, 2, 3)),
        (WORDS, "Red  SQUARE", (1, 2, 3)),
        (WORDS, "square", (2, 3)),
        (WORDS, "squ", ()),
        (WORDS, "ed", ()),
        (WORDS, "a", (0,)),
        (WORDS, "blue star.", (6, 7, 8)),
        (WORDS, "green", ()),
        ((" star", " stars", " star"), "star", (0,)),
        ((" stars", " star"), "star", (1,)),
        (("T-", "shirt"), "T-shirt", (0, 1)),
        (("一只", "猫", "在"), "猫", (1,)),
        (("caf", "", "é", " noir"), "café noir", (0, 1, 2, 3)),
    ],
)
def test_phrases_are_whole_words_where_they_stand_first(texts, phrase, tokens) -> None:
    assert phrase_tokens(texts, phrase) == tokens


@pytest.mark.parametrize(
    ("texts", "places"),
    [
        ((" a", " teddy", " bear", " and", " a", " bear"), {"teddy bear": (1, 2), "bear": (5,)}),
        ((" a", " teddy", " bear", " and", " a", " teddy", " bear"), {"teddy bear": (1, 2)}),
        ((" a", " bear", " and", " a", " teddy", " bear"), {"teddy bear": (4, 5), "bear": (1,)}),
        ((" a", " bear"), {"bear": (1,)}),
    ],
)
def test_a_phrase_inside_a_longer_one_is_not_itself(texts, places) -> None:
    assert own_places(texts, ("bear", "teddy bear", "cat")) == places
    boxes = {"bear": (BOX,), "teddy bear": (OTHER,)}
    spots = answer_spots(told(texts, range(len(texts))), boxes, {}, every=True).spots
    assert {spot.boxes[0]: spot.rows for spot in spots if spot.kinds == ("phrase",)} == {
        boxes[phrase][0]: rows for phrase, rows in places.items()
    }


def test_words_that_need_the_image_count_and_punctuation_is_no_word() -> None:
    found = answer_spots(ANSWER, {}, {}, every=False)
    assert [(spot.text, spot.kinds, spot.rows) for spot in found.spots] == [
        ("red", ("word",), (1,)),
        ("square", ("word",), (2, 3)),
        ("star", ("word",), (7,)),
    ]
    assert (found.words, found.needing) == (6, 3)
    every = answer_spots(ANSWER, {}, {}, every=True)
    assert [spot.text for spot in every.spots] == ["A", "red", "square", "a", "blue", "star"]
    untested = answer_spots(told(WORDS, range(9)), {}, {}, every=False)
    assert (len(untested.spots), untested.needing) == (6, None)


def test_phrases_with_boxes_as_a_whole_and_by_first_and_last_word() -> None:
    boxes = {"red square": (BOX,), "blue star": (OTHER,), "A": (BOX,), "green cross": (BOX,)}
    found = answer_spots(ANSWER, boxes, {}, every=False)
    assert [(spot.text, spot.kinds[0], spot.rows, spot.boxes) for spot in found.spots if spot.kinds != ("word",)] == [
        ("red square", "phrase", (1, 2, 3), (BOX,)),
        ("red", "first", (1,), (BOX,)),
        ("square", "last", (2, 3), (BOX,)),
        # Without the image "blue" is as probable: it is no evidence of where anything was seen.
        ("blue star", "phrase", (7,), (OTHER,)),
        ("star", "last", (7,), (OTHER,)),
    ]
    assert found.missing == ("green cross",)


def test_kinds_that_somebody_named_and_the_boxes_of_their_phrases() -> None:
    kinds = {"colour": frozenset({"red", "blue"}), "thing": frozenset({"square", "star", "red"})}
    boxes = {"red square": (BOX,), "blue star": (OTHER,)}
    found = answer_spots(ANSWER, boxes, kinds, every=True)
    assert [(spot.text, spot.kinds, spot.boxes) for spot in found.spots] == [
        ("red", ("colour", "thing"), (BOX,)),
        ("square", ("thing",), (BOX,)),
        ("blue", ("colour",), (OTHER,)),
        ("star", ("thing",), (OTHER,)),
    ]
    inside = answer_spots(ANSWER, {"red square": (BOX,), "square": (OTHER,)}, kinds, every=True)
    assert [spot.boxes for spot in inside.spots[:2]] == [(BOX,), (BOX,)], "the longer phrase is meant"
    overlapping = answer_spots(ANSWER, {"red square": (BOX,), "square, a": (OTHER,)}, kinds, every=True)
    assert [spot.boxes for spot in overlapping.spots[:2]] == [(BOX,), ()], "of two phrases nobody knows which"


def test_the_questions_last_token_and_the_one_phrase_that_it_names() -> None:
    queries = tuple(Query("prompt", position, position, 0) for position in (20, 21))
    facts = replace(ANSWER.facts, queries=queries, prompt=replace(ANSWER.facts.prompt, text="Where is the red star?"))
    asked = replace(ANSWER, facts=facts)
    [spot] = question_spots(asked, {"red star": (BOX,), "cross": (OTHER,)}).spots
    assert (spot.kinds, spot.rows, spot.boxes) == (("question",), (21,), (BOX,))
    assert question_spots(asked, {"red star": (BOX,), "star": (OTHER,)}).spots[0].boxes == ()
    assert question_spots(ANSWER, {}).spots == ()
