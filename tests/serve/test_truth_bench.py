"""The truth table's program against a real server: scenes, quick and slow methods, controls that fail, a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.known import truth
from bench.known.asked import MODEL, SEED, numbered
from bench.known.figures import above, interval, scenes
from bench.known.page import tables
from bench.known.views import RANDOM_HEAD, UNIFORM, judged
from bench.parts.results import read, write
from llava_viewer.client import Client
from support.asking import Asker

pytestmark = pytest.mark.serve


VIEWS = {name: judged()[name] for name in ("contributions", "contrast", "value_norm")}
SLOW = {"integrated_gradients": {"method": "integrated_gradients", "parameters": {"steps": 2}}}
SETTINGS = {"scenes": 3, "seed": SEED, "passes": 1, "precision": "uint8"}


def test_scenes_are_asked_over_http_and_judged(asker: Asker, tmp_path: Path) -> None:
    items = numbered(3)
    with Client.http(asker.state.http, model=MODEL, token=Path(asker.state.key_file)) as client:
        measured = truth.measure(client, items, VIEWS, 1, "uint8")
        further = truth.measure_further(client, items, SLOW, 1, "uint8")
    assert measured["right"] >= len(items) - 1
    assert sum(measured["sinks"]["answers"]) == len(items)
    settings = {**SETTINGS, "questions": len(items), "right": measured["right"]}
    write(tmp_path / "truth.json", truth.result_of(measured, settings))
    earlier = read(tmp_path / "truth.json")
    assert earlier is not None
    result = truth.result_of(truth.joined(further, earlier), settings)
    assert tables(result).count("| `contributions` |") == 2
    assert "| `integrated_gradients` (2 scenes) |" in tables(result)
    raw = {name: series for name, series in result.raw.items() if name != "sinks"}
    assert set(raw) == {"words", *VIEWS, *SLOW, RANDOM_HEAD, UNIFORM}
    assert {name: scenes(raw, name) for name in raw if name != "words"} == {
        **dict.fromkeys((*VIEWS, RANDOM_HEAD, UNIFORM), 3), "integrated_gradients": 2,
    }  # fmt: skip
    even = interval(raw, UNIFORM, "all")
    assert even is not None
    assert 0.02 < even.value < 0.15
    for name in VIEWS:
        found = interval(raw, name, "all")
        assert found is not None
        assert found.value > 0.8
        for control in (RANDOM_HEAD, UNIFORM, "neighbour", "turned"):
            assert above(raw, name, control).value > 0.2, (name, control)
