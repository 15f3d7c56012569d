"""The parts of a row's total: they come back, where they do not belong they are refused, and by name."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llava_wire import RecordError, View, decode, encode
from llava_wire.limits import MAX_PARTS
from llava_wire.writing import document
from support.archives import Members, members_of, npy, packed, reason_of
from support.several import PARTS, make_several, make_split

MEMBER = "views/1/parts.npy"


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The record with other facts of its second view."""
    members = members_of(encode(make_split()))
    plain = json.loads(members["record.json"])
    change(plain["views"][1])
    return packed({**members, "record.json": json.dumps(plain).encode()})


def with_member(data: bytes | None) -> bytes:
    """The record with other parts of its second view, or none."""
    members: Members = members_of(encode(make_split()))
    if data is None:
        del members[MEMBER]
    else:
        members[MEMBER] = data
    return packed(members)


def parts() -> np.ndarray:
    return np.load(io.BytesIO(members_of(encode(make_split()))[MEMBER]))


@pytest.mark.parametrize("precision", ["uint8", "float16", "float32"])
def test_they_come_back_whole_in_every_precision(precision: str) -> None:
    record = make_split(precision=precision)
    again = decode(encode(record))
    for name in ("split", "whole"):
        view, wanted = again.views[name], record.views[name]
        assert view.facts.parts == PARTS
        assert view.parts is not None
        assert view.parts.shape == (*view.lead, len(PARTS))
        np.testing.assert_array_equal(view.parts, wanted.parts)
    assert again.views["layers_heads"].parts is None
    row = again.views["split"].at(2)
    np.testing.assert_array_equal(row.parts, record.views["split"].parts[2])


def test_a_view_without_parts_has_no_key_and_no_member_for_them() -> None:
    assert all("parts" not in view for view in document(make_several())["views"])
    assert not [name for name in members_of(encode(make_several())) if "parts" in name]
    assert [("parts" in view) for view in document(make_split())["views"]] == [False, True, True]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (lambda: None, r"views/1/parts\.npy"),
        (lambda: npy(parts()[:, :3]), r"views/1/parts\.npy: got .*expected <f4 \(12, 4\)"),
        (lambda: npy(parts()[:-1]), r"views/1/parts\.npy: got .*expected <f4 \(12, 4\)"),
        (lambda: npy(parts().astype("<f8")), r"views/1/parts\.npy: got .*expected .*<f4"),
        (lambda: npy(np.asfortranarray(parts())), r"views/1/parts\.npy"),
        (lambda: npy(np.full_like(parts(), np.nan)), r"views/1/parts\.npy: got nan"),
        (lambda: npy(np.full_like(parts(), -np.inf)), r"views/1/parts\.npy: got -inf"),
        (lambda: b"", r"views/1/parts\.npy"),
    ],
)
def test_damaged_parts_are_refused_by_name(data: Callable[[], bytes | None], says: str) -> None:
    with pytest.raises(RecordError, match=says) as refused:
        decode(with_member(data()))
    assert refused.value.reason == "invalid"


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        (
            lambda view: view.update(parts=[f"part {i}" for i in range(MAX_PARTS + 1)]),
            "invalid",
            r"views\[1\].parts: names: got 17, expected 0 to 16",
        ),
        (lambda view: view.update(parts=["image", "image", "answer", "itself"]), "invalid", "image"),
        (lambda view: view.update(parts=["image", "prompt", "answer", "x" * 5000]), "invalid", "5000 characters"),
        (lambda view: view.update(parts=["image", "prompt", "answer", 4]), "invalid", "parts"),
        (lambda view: view.update(parts="image"), "invalid", "parts"),
        (lambda view: view.update(parts=["image"]), "invalid", r"views/1/parts\.npy"),
    ],
    ids=["17 names", "a name twice", "a name without end", "a number", "a text", "fewer names"],
)
def test_names_that_cannot_be_are_refused(change: Callable[[dict[str, Any]], object], reason: str, says: str) -> None:
    data = changed(change)
    with pytest.raises(RecordError, match=says):
        decode(data)
    assert reason_of(data) == reason


def test_shares_have_no_parts_beside_them() -> None:
    members = members_of(encode(make_split()))
    plain = json.loads(members["record.json"])
    plain["views"][0]["parts"] = ["image"]
    members["views/0/parts.npy"] = npy(np.zeros((12, 1), np.float32))
    with pytest.raises(RecordError, match=r"record\.json\.views\[0\]\.parts: names: got 1, expected"):
        decode(packed({**members, "record.json": json.dumps(plain).encode()}))


def test_a_writer_must_give_one_number_for_each_name() -> None:
    view = make_split().views["split"]
    with pytest.raises(ValueError, match="parts: got"):
        View.of(view.facts, view.patches_float(), None, view.grids, view.parts[:, :2])
    with pytest.raises(ValueError, match="parts: got"):
        View.of(view.facts, view.patches_float(), None, view.grids)
    with pytest.raises(ValueError, match="parts: got"):
        View.of(replace(view.facts, parts=()), view.patches_float(), None, view.grids, view.parts)
    with pytest.raises(ValueError, match="parts: got"):
        View.of(view.facts, view.patches_float(), None, view.grids, view.parts[:-1])
