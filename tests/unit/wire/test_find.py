"""Words and heads by what they spent inside a box: against sums over single pixels, and what cannot be asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llava_wire.schema import Query
from support.synthetic import make_record

RECORD = make_record(words=("A", " red", " cup"), layers=2, heads=3, precision="float32", pairs=((1, 2), (0, 1)))
BOX = (40.0, 30.0, 130.0, 101.0)


def inside(values: np.ndarray, box: tuple[float, ...] = BOX) -> tuple[float, float]:
    """The sum of a map [row, col] in a box, and that of the whole: pixels counted, all edges being whole ones."""
    x0, y0, x1, y1 = box
    xs, ys = np.arange(256), np.arange(192)
    in_box = ((xs >= x0) & (xs < x1))[None, :] & ((ys >= y0) & (ys < y1))[:, None]
    found = 0.0
    for value, (left, top, right, bottom) in zip(values.ravel(), RECORD.patch_rects(), strict=True):
        there = ((xs >= left) & (xs < right))[None, :] & ((ys >= top) & (ys < bottom))[:, None]
        found += float(value) * (there & in_box).sum() / there.sum()
    return found, float(values.sum())


def test_words_by_what_they_spent_inside() -> None:
    found = RECORD.words_at(BOX)
    assert sorted(one.token for one in found) == [0, 1, 2], "the end of the answer is no word"
    assert [one.inside for one in found] == sorted((one.inside for one in found), reverse=True)
    for one in found:
        spent, whole = inside(RECORD.map(one.token))
        assert one.inside == pytest.approx(spent, rel=1e-5)
        assert one.of_image == pytest.approx(spent / whole, rel=1e-5)
        even, _ = inside(np.full((8, 8), 1 / 64))
        assert one.times_even == pytest.approx(spent / whole / even, rel=1e-5)
        assert (one.text, one.layer, one.head) == (RECORD.tokens[one.token].text, None, None)
    single = RECORD.words_at(BOX, view="none", layer=1, head=2)
    assert single[0].inside == pytest.approx(
        inside(RECORD.map(single[0].token, view="none", layer=1, head=2))[0], rel=1e-5
    )
    whole = RECORD.words_at((0, 0, 256, 192))
    assert [one.times_even for one in whole] == pytest.approx([1.0] * 3)


def test_heads_at_their_best_word() -> None:
    for view, cells in (
        ("none", {(layer, head) for layer in range(2) for head in range(3)}),
        ("pairs", {(1, 2), (0, 1)}),
    ):
        found = RECORD.heads_at(BOX, view=view)
        assert {(one.layer, one.head) for one in found} == cells
        scores = []
        for one in found:
            maps = {token: RECORD.map(token, view=view, layer=one.layer, head=one.head) for token in range(3)}
            by_token = {
                token: spent * spent / whole for token, (spent, whole) in ((t, inside(m)) for t, m in maps.items())
            }
            assert one.token == max(by_token, key=by_token.__getitem__)
            scores.append(by_token[one.token])
        assert scores == sorted(scores, reverse=True)
    assert RECORD.heads_at(BOX) == RECORD.heads_at(BOX, view="none"), "the first view that keeps heads apart"
    assert {one.token for one in RECORD.heads_at(BOX, token=1)} == {1}


def test_signed_maps_count_their_positive_part() -> None:
    view = RECORD.views["layers_heads"]
    quantity = replace(view.quantity, name="pull", unit="logit", signed=True)
    facts = replace(view.facts, quantity=quantity)
    maps = view.patches_float() - view.patches_float().mean()
    record = replace(RECORD, views={"pull": type(view).of(facts, maps, None, RECORD.grids)})
    for one in record.words_at(BOX):
        values = record.map(one.token)
        assert one.inside == pytest.approx(inside(values)[0], abs=1e-5)
        spent, whole = inside(values.clip(min=0))
        assert one.of_image == pytest.approx(spent / whole, rel=1e-5)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: RECORD.words_at((0, 0, 257, 10)), r"box: got 0,0,257,10, expected x0,y0,x1,y1 in px .* x1 <= 256"),
        (lambda: RECORD.words_at((5, 0, 5, 10)), "box: got 5,0,5,10"),
        (lambda: RECORD.words_at((0, 0, 9)), r"box: got \[0, 0, 9\]"),
        (lambda: RECORD.words_at((0, 0, float("nan"), 9)), r"box: got \[0, 0, nan, 9\]"),
        (lambda: RECORD.words_at((0, 0, 10, 192)), "box: got 0,0,10,192, expected a part that the model saw"),
        (lambda: RECORD.words_at(BOX, image=1), "image: got 1, expected 0 to 0"),
        (lambda: RECORD.words_at(BOX, view="all"), "view: got 'all', a mean over the answer"),
        (lambda: RECORD.words_at(BOX, layer=0), "layer: got 0, expected none"),
        (
            lambda: RECORD.heads_at(BOX, view="heads"),
            r"view: got heads, expected one that keeps .*'none', 'pairs'",
        ),
        (lambda: RECORD.heads_at(BOX, token=9), "token: got 9, expected a word with a map"),
    ],
)
def test_what_cannot_be_asked(ask, message) -> None:
    with pytest.raises(ValueError, match=message):
        ask()


def test_rows_of_a_question_are_no_words() -> None:
    queries = tuple(Query("prompt", 68 + i, 68 + i, 0) for i in range(len(RECORD.queries)))
    record = replace(RECORD, facts=replace(RECORD.facts, queries=queries))
    with pytest.raises(ValueError, match="without maps of the answer's words"):
        record.words_at(BOX)
