"""Sound files with damaged arrays, impossible numbers or facts that contradict each other end in one typed error."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llava_wire import RecordError, decode, encode
from support.archives import members_of, npy, packed, reason_of, small, with_json

ARRAYS = ["patch_rects.npy", *(f"views/{i}/{name}.npy" for i in (0, 1) for name in ("maps", "scales", "shares"))]


DAMAGES = ("gone", "empty", "cut", "text", "dtype", "shape", "order", "longer", "pickle")


@pytest.mark.parametrize(
    ("name", "damage"),
    # One axis has one order.
    [(name, damage) for name in ARRAYS for damage in DAMAGES if (name, damage) != ("views/0/scales.npy", "order")],
)
def test_damaged_arrays(name: str, damage: str) -> None:
    members = members_of(encode(small()))
    array = np.load(io.BytesIO(members[name]))
    replacement = {
        "empty": b"",
        "cut": members[name][:-1],
        "text": b"not an array",
        "dtype": npy(array.astype(">i8")),
        "shape": npy(array[:-1]),
        "order": npy(np.asfortranarray(array)),
        "longer": members[name] + b"x",
        "pickle": npy(np.array([{"a": 1}], dtype=object), allow_pickle=True),
    }
    if damage == "gone":
        del members[name]
    else:
        members[name] = replacement[damage]
    assert reason_of(packed(members)) == "invalid"


@pytest.mark.parametrize("name", ["scales", "shares"])
def test_numbers_in_arrays_are_finite(name: str) -> None:
    members = members_of(encode(small()))
    array = np.load(io.BytesIO(members[f"views/0/{name}.npy"])).copy()
    array.flat[0] = np.nan
    assert reason_of(packed({**members, f"views/0/{name}.npy": npy(array)})) == "invalid"


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("shares", (5, -4, 0, 0), r"views/0/shares.npy: got 5, expected -0.001 to 1.001"),
        ("shares", (-0.1, 0.5, 0.3, 0.3), r"views/0/shares.npy: got -0.1, expected"),
        ("shares", (0.1, 0.1, 0.1, 0.1), r"views/0/shares.npy, sum of bos, .*: got 0.4, expected 0.99 to 1.01"),
        ("scales", -1, r"views/0/scales.npy: got -1, expected 1;"),
        ("maps", -0.5, r"views/0/maps.npy: got -0.5, expected 0 to 1.001"),
        ("maps", 7, r"views/0/maps.npy: got 7, expected 0 to 1.001"),
    ],
)
def test_numbers_that_no_attention_gives_are_refused(name: str, row: object, message: str) -> None:
    members = members_of(encode(small(precision="float32")))
    array = np.load(io.BytesIO(members[f"views/0/{name}.npy"])).copy()
    array[0] = row
    with pytest.raises(RecordError, match=message):
        decode(packed({**members, f"views/0/{name}.npy": npy(array)}))


@pytest.mark.parametrize("place", ["", ".top[0]"])
def test_a_log_probability_is_not_above_0(place: str) -> None:
    def change(document: dict[str, Any]) -> None:
        token = document["tokens"][1]
        (token["top"][0] if place else token)["logprob"] = 0.5

    with pytest.raises(RecordError, match=rf"record.json.tokens\[1\]{re.escape(place)}.logprob: got 0.5, expected"):
        decode(with_json(change))


def test_rectangles_must_follow_from_the_geometry() -> None:
    members = members_of(encode(small()))
    rects = np.load(io.BytesIO(members["patch_rects.npy"])) + 1.0
    assert reason_of(packed({**members, "patch_rects.npy": npy(rects)})) == "invalid"


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no grids": lambda d: d.pop("grids"),
    "grids is an object": lambda d: d.update(grids={}),
    "an empty list of grids": lambda d: d.update(grids=[]),
    "no images": lambda d: d.pop("images"),
    "an empty list of images": lambda d: d.update(images=[]),
    "step without size": lambda d: d["grids"][0]["steps"][0].pop("width_px"),
    "step of size 0": lambda d: d["grids"][0]["steps"][0].update(width_px=0),
    "step of text": lambda d: d["grids"][0]["steps"][0].update(width_px="9"),
    "offset of half a px": lambda d: d["grids"][0]["steps"][-1].update(left_px=0.5),
    "step unknown": lambda d: d["grids"][0]["steps"][0].update(op="rotate"),
    "trim of nothing alike": lambda d: d["grids"][0]["steps"][0].update(op="trim", left_px=7),
    "trim backwards": lambda d: d["grids"][0]["steps"][0].update(op="trim", left_px=-1),
    "trim without tiles": lambda d: d["grids"][0]["steps"][0].update(op="trim"),
    "too many steps": lambda d: d["grids"][0].update(steps=d["grids"][0]["steps"] * 99),
    "no rows": lambda d: d["grids"][0].update(rows=0),
    "rows of float": lambda d: d["grids"][0].update(rows=8.0),
    "patches of no px": lambda d: d["grids"][0].update(patch_px=0),
    "a grid without a name": lambda d: d["grids"][0].pop("name"),
    "a grid of no image": lambda d: d["grids"][0].update(image=1),
    "a grid of an image below 0": lambda d: d["grids"][0].update(image=-1),
    "no views": lambda d: d.update(views=[]),
    "views is an object": lambda d: d.update(views={}),
    "two views of one name": lambda d: d["views"][1].update(name=d["views"][0]["name"]),
    "axis unknown": lambda d: d["views"][0].update(axes=["time", "patch"]),
    "axis twice": lambda d: d["views"][0].update(axes=["query", "query", "patch"]),
    "axes of version 1": lambda d: d["views"][0].update(axes=["query", "row", "col"]),
    "axes turned": lambda d: d["views"][0].update(axes=["patch", "query"]),
    "precision unknown": lambda d: d["views"][0].update(precision="int4"),
    "one token less": lambda d: d["tokens"].pop(),
    "one query less": lambda d: d["queries"].pop(),
    "query of no token": lambda d: d["queries"][0].update(token=99),
    "query of a negative token": lambda d: d["queries"][0].update(token=-1),
    "kind unknown": lambda d: d["queries"][0].update(kind="image"),
    "pieces lost": lambda d: d["prompt"]["pieces"].pop(),
    "texts lost": lambda d: d["prompt"].update(texts=["What"]),
    "positions past the end": lambda d: d["grids"][0].update(positions=[[1000, 64]]),
    "positions up to the end": lambda d: d["grids"][0].update(positions=[[len(d["prompt"]["ids"]) - 63, 64]]),
    "positions before the start": lambda d: d["grids"][0].update(positions=[[-1, 64]]),
    "positions one by one": lambda d: d["grids"][0].update(positions=list(range(3, 67))),
    "a run of nothing": lambda d: d["grids"][0].update(positions=[[3, 64], [67, 0]]),
    "a run of three numbers": lambda d: d["grids"][0].update(positions=[[3, 64, 1]]),
    "a position twice": lambda d: d["grids"][0].update(positions=[[3, 32], [34, 32]]),
    "positions too few": lambda d: d["grids"][0].update(positions=[[3, 63]]),
    "no positions": lambda d: d["grids"][0].update(positions=[]),
    "a grid twice": lambda d: d.update(grids=d["grids"] * 2),
    "turns of text": lambda d: d["prompt"].update(turns=["hello"]),
    "turns without end": lambda d: d["prompt"].update(turns=[{"role": "user", "text": ""}] * 300),
    "a role without end": lambda d: d["prompt"].update(turns=[{"role": "u" * 5000, "text": ""}]),
    "annotations is a list": lambda d: d.update(annotations=[]),
    "annotations is null": lambda d: d.update(annotations=None),
    "right is text": lambda d: d.update(annotations={"right": "yes"}),
    "right is null": lambda d: d.update(annotations={"right": None}),
    "tags without end": lambda d: d.update(annotations={"tags": ["a"] * 101}),
    "a tag without end": lambda d: d.update(annotations={"tags": ["a" * 5000]}),
    "a quantity without a name": lambda d: d["views"][0]["quantity"].pop("name"),
    "signed is a number": lambda d: d["views"][0]["quantity"].update(signed=1),
    "a method is text": lambda d: d["views"][0].update(method="attention"),
    "parameters nested": lambda d: d["views"][0]["method"].update(parameters={"a": [[[[[[[[[1]]]]]]]]]}),
    "image of no width": lambda d: d["images"][0].update(width_px=0),
    "logprob is text": lambda d: d["tokens"][0].update(logprob="-1"),
    "logprob without end": lambda d: d["tokens"][0].update(logprob=10**400),
    "id is true": lambda d: d["tokens"][0].update(id=True),
    "answer is gone": lambda d: d.pop("answer"),
    "tokens is null": lambda d: d.update(tokens=None),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_impossible_facts(change: Callable[[dict[str, Any]], object]) -> None:
    assert reason_of(with_json(change)) == "invalid"


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"a": NaN}', b"9" * 5000])
@pytest.mark.parametrize("name", ["record.json", "run.json"])
def test_damaged_json(name: str, text: bytes) -> None:
    members = members_of(encode(small()))
    assert reason_of(packed({**members, name: text})) == "invalid"


def test_two_members_of_one_name() -> None:
    buffer = io.BytesIO(encode(small()))
    with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("record.json", b"{}")
    assert reason_of(buffer.getvalue()) == "invalid"
