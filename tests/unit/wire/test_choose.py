"""`Record.map`: the numbers are those of the arrays, and what is not there is refused by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llava_wire.schema import Query
from support.several import make_signed
from support.synthetic import make_record

RECORD = make_record(words=("A", " red"), layers=2, heads=3, pairs=((1, 2), (0, 1), (1, 0)))


def test_one_token_of_every_kind_of_view() -> None:
    arrays = {name: view.maps_float() for name, view in RECORD.views.items()}
    assert np.array_equal(RECORD.map(1), arrays["layers_heads"][1])
    assert np.array_equal(RECORD.map(1, view="none", layer=1, head=2), arrays["none"][1, 1, 2])
    assert np.array_equal(RECORD.map(2, view="heads", layer=0), arrays["heads"][2, 0])
    assert np.array_equal(RECORD.map(0, view="pairs", layer=0, head=1), arrays["pairs"][0, 1])
    assert np.array_equal(RECORD.map(view="all"), arrays["all"])


def test_what_is_not_named_is_averaged() -> None:
    none = RECORD.views["none"].maps_float()
    assert np.allclose(RECORD.map(1, view="none"), none[1].mean((0, 1)), atol=1e-7)
    assert np.allclose(RECORD.phrase([1, 2], view="none", head=0), none[1:3, :, 0].mean((0, 1)), atol=1e-7)
    with pytest.raises(ValueError, match=r"tokens: got none, expected one or more"):
        RECORD.phrase([])
    with pytest.raises(ValueError, match=r"how: got 'sum', expected mean or max"):
        RECORD.phrase([1], how="sum")  # type: ignore[arg-type]
    signed = make_signed()
    values = np.stack([signed.map(token, view="signed") for token in (1, 2, 4)])
    largest = signed.phrase([1, 2, 4], how="max", view="signed")
    assert np.array_equal(np.abs(largest), np.abs(values).max(0))
    assert ((largest == values).any(0)).all(), "with its sign"
    assert (largest < 0).any()
    assert np.allclose(RECORD.map(1, view="none", layer=1), none[1, 1].mean(0), atol=1e-7)
    assert np.allclose(RECORD.map(1, view="none", head=0), none[1, :, 0].mean(0), atol=1e-7)
    assert np.allclose(RECORD.map(view="none"), none[:2].mean((0, 1, 2)), atol=1e-7), "without the end token"
    pairs = RECORD.views["pairs"].maps_float()
    assert np.allclose(RECORD.map(0, view="pairs", layer=1), pairs[0, [0, 2]].mean(0), atol=1e-7)
    assert RECORD.map(0).dtype == np.float32


def test_layers_are_named_by_their_numbers_not_their_places() -> None:
    view = RECORD.views["heads"]
    renamed = replace(view, facts=replace(view.facts, layers=(7, 3)))
    record = replace(RECORD, views={"heads": renamed})
    assert np.array_equal(record.map(0, layer=3), view.maps_float()[0, 1])


def test_question_rows() -> None:
    queries = (*RECORD.queries[:-1], Query("prompt", 68, 68, 0))
    record = replace(RECORD, facts=replace(RECORD.facts, queries=queries))
    assert np.array_equal(record.map(68, kind="prompt"), record.maps_float()[-1])
    with pytest.raises(ValueError, match="token: got 2, expected 0 to 1"):
        record.map(2)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"view": "mean"}, "view: got 'mean', expected .*layers_heads"),
        ({"token": 9}, "token: got 9, expected 0 to 2"),
        ({"token": 0, "view": "all"}, "token: got 0, expected none in view 'all'"),
        ({"token": 0, "kind": "prompt"}, r"token: got 0, expected none \(0 prompt tokens"),
        ({"layer": 0}, "layer: got 0, expected none in view 'layers_heads'"),
        ({"view": "none", "layer": 2}, r"layer: got 2, expected \[0, 1\] in view 'none'"),
        ({"view": "none", "head": 3}, r"head: got 3, expected \[0, 1, 2\]"),
        ({"view": "pairs", "layer": 0, "head": 2}, r"layer, head: got 0, 2, expected \[\(1, 2\), \(0, 1\), \(1, 0\)\]"),
    ],
)
def test_what_the_record_does_not_hold(asked: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RECORD.map(**asked)  # type: ignore[arg-type]
