"""Views of text: they come back, their columns are words of this record, and a stranger's are checked by name."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llava_wire import RecordError, decode, encode
from llava_wire.limits import MAX_VIEWS
from llava_wire.writing import document
from support.archives import members_of, npy, packed, reason_of
from support.several import make_several, make_worded
from support.synthetic import make_record

MEMBER = "texts/0.npy"


def values() -> np.ndarray:
    return np.load(io.BytesIO(members_of(encode(make_worded()))[MEMBER]))


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The record with other facts of its first view of text."""
    members = members_of(encode(make_worded()))
    plain = json.loads(members["record.json"])
    change(plain["texts"][0])
    return packed({**members, "record.json": json.dumps(plain).encode()})


def test_they_come_back_and_name_their_words() -> None:
    record = make_worded()
    again = decode(encode(record))
    assert list(again.texts) == ["words", "rise"]
    assert encode(again) == encode(record)
    for name, view in record.texts.items():
        found = again.texts[name]
        assert found.facts == view.facts
        np.testing.assert_array_equal(found.values, view.values)
        assert len(found.positions) == found.values.shape[1]
    prompt = len(record.facts.prompt.ids)
    assert again.texts["rise"].positions == (prompt, prompt + 1, prompt + 2)
    assert again.texts["words"].name == "words"


def test_the_words_of_a_row_are_told_largest_first_and_without_zeros() -> None:
    view = make_worded().texts["rise"]
    prompt = view.positions[0]
    row = next(i for i, query in enumerate(make_worded().queries) if query.position == prompt + 1)
    wanted = sorted(zip(view.positions, view.values[row].tolist(), strict=True), key=lambda one: -abs(one[1]))[:2]
    assert view.most(row, 5) == wanted
    assert view.most(row, 1) == wanted[:1]
    assert view.most(0, 5) == []


def test_a_record_without_any_has_no_key_and_no_member() -> None:
    assert "texts" not in document(make_several())
    assert not [name for name in members_of(encode(make_several())) if "texts" in name]
    assert decode(encode(make_several())).texts == {}


def test_asking_for_maps_of_a_view_of_text_says_what_it_is() -> None:
    with pytest.raises(ValueError, match=r"view: got 'words', which is one of text and has no maps, expected \["):
        make_worded().view("words")
    with pytest.raises(ValueError, match=r"view: got 'word', expected \["):
        make_worded().view("word")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, r"texts/0\.npy: got no such member"),
        (lambda: npy(values()[:, :3]), r"texts/0\.npy: got .*expected <f4"),
        (lambda: npy(values()[:-1]), r"texts/0\.npy: got .*expected <f4"),
        (lambda: npy(values().astype("<f8")), r"texts/0\.npy"),
        (lambda: npy(values() - 1), r"texts/0\.npy: got -0.98.*, expected 0 to 1.001"),
        (lambda: npy(values() * np.float32("nan")), r"texts/0\.npy: got nan"),
        (lambda: npy(values() + 0.25), r"texts/0\.npy, words after their row: got 0.25, expected 0"),
    ],
)
def test_damaged_numbers_are_refused_by_name(data: Callable[[], bytes] | None, says: str) -> None:
    members = members_of(encode(make_worded()))
    if data is None:
        del members[MEMBER]
    else:
        members[MEMBER] = data()
    with pytest.raises(RecordError, match=says) as refused:
        decode(packed(members))
    assert refused.value.reason == "invalid"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.update(columns=[[0, 3], [2, 4]]), r"texts\[0\].columns: got \[2, 4\], expected ascending"),
        (lambda text: text.update(columns=[[0, 9999]]), r"columns: got \[0, 9999\], expected ascending runs inside"),
        (lambda text: text.update(columns=[[-1, 4]]), r"columns"),
        (lambda text: text.update(columns=[]), r"columns: runs: got 0, expected 1 to"),
        (lambda text: text.update(columns=[[3, 4]]), r"columns: got 4, expected no position of a patch"),
        (lambda text: text.update(columns="all"), r"columns"),
        (lambda text: text.update(name="rise"), r"texts\[1\].name: got 'rise', expected each name once"),
        (lambda text: text.update(name="attention"), r"texts: names: got 'attention', expected each name once among"),
        (lambda text: text.update(name="x" * 5000), r"5000 characters"),
        (lambda text: text.update(layers=[], heads=[]), r"texts\[0\].layers: got \[\], expected one or more"),
        (lambda text: text.update(layers=[7]), r"texts\[0\].layers"),
        (lambda text: text.update(pairs=[[0, 0]]), r"layers: got .*none beside pairs"),
        (lambda text: text.pop("quantity"), r"quantity"),
    ],
)
def test_facts_that_cannot_be_are_refused(change: Callable[[dict[str, Any]], object], says: str) -> None:
    data = changed(change)
    with pytest.raises(RecordError, match=says):
        decode(data)
    assert reason_of(data) == "invalid"


@pytest.mark.parametrize("texts", [{}, "words", [{}] * (MAX_VIEWS + 1), [1]])
def test_what_is_no_list_of_views_is_refused(texts: object) -> None:
    members = members_of(encode(make_worded()))
    plain = {**json.loads(members["record.json"]), "texts": texts}
    with pytest.raises(RecordError, match=r"record\.json\.texts"):
        decode(packed({**members, "record.json": json.dumps(plain).encode()}))


def test_a_record_of_version_1_has_none_whatever_its_keys_are() -> None:
    kept = Path(__file__).parents[2] / "data" / "records" / "v1" / "float32-prompt-rows.npz"
    members = members_of(kept.read_bytes())
    plain = {**json.loads(members["record.json"]), "texts": [{"name": "words"}]}
    assert decode(packed({**members, "record.json": json.dumps(plain).encode()})).texts == {}


def test_alternatives_have_their_own() -> None:
    record = replace(make_record(with_picture=False), alternatives=(replace(make_worded(), run={}),))
    again = decode(encode(record))
    assert not again.texts
    assert list(again.sequence(1).texts) == ["words", "rise"]
