"""What lies on an image's tokens that are in no grid: kept beside the shares, told apart from the prompt's text."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llava_wire import RecordError, decode, encode
from llava_wire.choose import choose_maps, mean_share
from llava_wire.schema import SHARE_NAMES
from llava_wire.view import View
from support.several import make_separated, make_several

NAME = "views/0/separators.npy"


def changed(
    data: bytes, facts: Callable[[dict[str, Any]], None], drop: str = "", array: np.ndarray | None = None
) -> bytes:
    """The same file with other facts, without a member, or with other numbers of separators."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            content = old.read(info)
            if info.filename == "record.json":
                plain = json.loads(content)
                facts(plain)
                content = json.dumps(plain).encode()
            if info.filename == NAME and array is not None:
                inner = io.BytesIO()
                np.save(inner, array.astype("<f4"))
                content = inner.getvalue()
            if info.filename != drop:
                new.writestr(info.filename, content)
    return buffer.getvalue()


def test_a_record_keeps_what_lies_on_separators() -> None:
    record = make_separated()
    data = encode(record)
    back = decode(data)
    view, made = back.views["attention"], record.views["attention"]
    assert (
        back.facts.prompt.separators
        == record.facts.prompt.separators
        == ((33, 1), (37, 1), (41, 1), (47, 1), (51, 1), (55, 1))
    )
    np.testing.assert_array_equal(view.separators, made.separators)
    assert back.views["signed"].separators is None
    assert encode(back) == data
    np.testing.assert_array_equal(view.at(2).separators, made.separators[2])
    np.testing.assert_array_equal(view.part(1).separators, made.separators)


def test_a_row_splits_into_five_and_they_sum_to_one() -> None:
    view = make_separated().views["attention"]
    assert view.split_names == (*SHARE_NAMES, "separators")
    split = view.split()
    np.testing.assert_allclose(split.sum(-1), 1, atol=1e-6)
    np.testing.assert_array_equal(split[..., [0, 1, 3]], view.shares[..., [0, 1, 3]])
    np.testing.assert_array_equal(split[..., 4], view.separators)
    np.testing.assert_allclose(split[..., 2], view.shares[..., 2] - view.separators, atol=1e-7)
    _, chosen = choose_maps(view, 1, 2, "base")
    np.testing.assert_array_equal(chosen, split[:, 1, 2])


def test_means_of_a_view_tell_separators() -> None:
    record = make_separated()
    view, rows = record.views["attention"], len(record.tokens) - 1  # all but the end of the sequence
    assert mean_share(record.facts, view, "separators") == pytest.approx(float(view.separators[:rows].mean()), abs=1e-6)
    assert mean_share(record.facts, make_several().views["attention"], "separators") is None
    assert mean_share(record.facts, record.views["signed"], "separators") is None


def test_a_record_of_earlier_writers_reads_as_before() -> None:
    data = encode(make_separated())
    old = changed(data, lambda facts: facts["prompt"].pop("separators"), drop=NAME)
    view = decode(old).views["attention"]
    assert (view.separators, view.split_names) == (None, SHARE_NAMES)
    np.testing.assert_array_equal(view.split(), decode(data).views["attention"].shares)
    assert (
        "separators"
        not in json.loads(zipfile.ZipFile(io.BytesIO(encode(make_several()))).read("record.json"))["prompt"]
    )


def test_what_earlier_readers_read_is_unchanged() -> None:
    """They pass over the key and the member: all else has the bytes that it would have without them."""
    with (
        zipfile.ZipFile(io.BytesIO(encode(make_separated()))) as new,
        zipfile.ZipFile(io.BytesIO(encode(make_several()))) as old,
    ):
        assert {*new.namelist()} - {*old.namelist()} == {NAME}
        for name in old.namelist():
            if name != "record.json":
                assert new.read(name) == old.read(name)


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([[4, 1]], "separators: got 4, expected no position of a patch"),
        ([[33, 2]], "separators: got 34, expected no position of a patch"),
        ([[37, 1], [33, 1]], "expected ascending runs inside the 63 ids"),
        ([[62, 2]], "expected ascending runs inside the 63 ids"),
        ([[33, 0]], "expected ascending runs inside the 63 ids"),
        ([[-1, 1]], "expected ascending runs inside the 63 ids"),
    ],
)
def test_separators_lie_in_the_prompt_and_on_no_patch(runs: list[list[int]], expected: str) -> None:
    data = changed(encode(make_separated()), lambda facts: facts["prompt"].update(separators=runs))
    with pytest.raises(RecordError, match=expected):
        decode(data)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.3, "what the prompt's text has: got -0.1"),
        (-0.1, "separators.npy: got -0.1"),
        (np.nan, "separators.npy: got nan"),
    ],
)
def test_no_more_lies_on_separators_than_on_the_prompt(value: float, expected: str) -> None:
    record = make_separated()
    numbers = record.views["attention"].separators.copy()
    numbers[1, 0, 2] = value
    with pytest.raises(RecordError, match=expected):
        decode(changed(encode(record), lambda _: None, array=numbers))
    with pytest.raises(RecordError, match=r"separators.npy: got .* expected <f4"):
        decode(changed(encode(record), lambda _: None, array=numbers[:-1]))


def test_a_view_of_another_quantity_has_none() -> None:
    record = make_separated()
    view, signed = record.views["attention"], record.views["signed"]
    with pytest.raises(ValueError, match=r"separators: got .*, expected none"):
        View.of(signed.facts, signed.patches_float(), None, record.grids, separators=view.separators)
    with pytest.raises(ValueError, match=r"separators: got \(11, 2, 3\).*expected \(12, 2, 3\)"):
        View.of(view.facts, view.patches_float(), view.shares, record.grids, separators=view.separators[:-1])
    with pytest.raises(RecordError, match="separators"):
        decode(encode(replace(record, views={"attention": replace(view, separators=view.separators + 1)})))
