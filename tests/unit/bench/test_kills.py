"""What a killed run is held against: equal stores, and one whose records differ."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.dataset.kills import compared, watched
from llava_viewer.data.items import Item
from llava_wire import decode, encode
from support.runs import Made, data_of, record_of, worked

COUNT = 7


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_of(tmp_path_factory.mktemp("data"), COUNT)


@pytest.fixture(scope="module")
def calm(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("calm") / "out"
    worked(out, data, Made(data.parent))
    return out


def test_equal_runs_differ_in_nothing(calm: Path, data: Path, tmp_path: Path) -> None:
    def timed(item: Item) -> bytes:
        return encode(replace(decode(record_of(item)), run={"request_id": f"again-{item.n}"}))

    worked(tmp_path / "out", data, Made(data.parent, before=timed))
    found = compared(calm, tmp_path / "out")
    assert (found.rows, found.distinct) == (COUNT, COUNT)
    assert (found.errors, found.bytes_differ, found.answers_differ, found.log_p, found.codes) == (0, 0, 0, 0.0, 0)


def test_what_differs_is_measured(calm: Path, data: Path, tmp_path: Path) -> None:
    def other(item: Item) -> bytes | None:
        record = decode(record_of(item))
        if item.n == 2:
            return encode(record.with_facts(replace(record.facts, answer="something else")))
        if item.n == 3:
            first, *rest = record.tokens
            tokens = (replace(first, logprob=first.logprob - 0.25), *rest)
            return encode(record.with_facts(replace(record.facts, tokens=tokens)))
        if item.n == 4:
            [(name, view)] = record.views.items()
            codes = view.stored.copy()
            codes[0, 0] = codes[0, 0] + 3 if codes[0, 0] < 200 else codes[0, 0] - 3
            return encode(replace(record, views={name: replace(view, stored=codes)}))
        return None

    worked(tmp_path / "out", data, Made(data.parent, before=other))
    found = compared(calm, tmp_path / "out")
    assert (found.bytes_differ, found.answers_differ, found.codes) == (3, 1, 3)
    assert found.log_p == pytest.approx(0.25)


def test_an_item_that_is_missing_is_no_comparison(calm: Path, data: Path, tmp_path: Path) -> None:
    worked(tmp_path / "out", data, Made(data.parent))
    (tmp_path / "out" / "parts" / "000001.tar").unlink()
    with pytest.raises(RuntimeError, match="got 5 rows, expected one for each of 7 items"):
        compared(calm, tmp_path / "out")


def test_a_command_is_killed_in_time_or_told() -> None:
    sleeps = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert 0.5 <= watched(sleeps, 0.5).seconds < 30
    with pytest.raises(RuntimeError, match="got exit code 0, kill after 50 s"):
        watched([sys.executable, "-c", ""], 50)
    with pytest.raises(RuntimeError, match="got exit code 3"):
        watched([sys.executable, "-c", "raise SystemExit(3)"])
