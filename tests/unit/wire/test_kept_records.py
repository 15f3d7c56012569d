"""Records written by earlier releases decode for ever: files in tests/data/records are never regenerated.

A new format version gets a new folder beside v1; the expected values lie in the folder's expected.json.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llava_wire import decode, encode
from llava_wire.findings.patches import PatchCheck, brightest
from llava_wire.quantity import ATTENTION

FOLDER = Path(__file__).parents[2] / "data" / "records"
FIRST, SECOND = (json.loads((FOLDER / name / "expected.json").read_text("utf-8")) for name in ("v1", "v2"))
EXPECTED: dict[str, dict[str, Any]] = {f"v1/{name}": one for name, one in FIRST.items()}


def test_every_kept_file_is_checked() -> None:
    for version, expected in (("v1", FIRST), ("v2", SECOND)):
        assert {path.stem for path in (FOLDER / version).glob("*.npz")} == expected.keys()
    assert {path.name for path in FOLDER.iterdir()} == {"v1", "v2"}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_kept_record_still_decodes_to_its_values(name: str) -> None:
    data, expected = (FOLDER / f"{name}.npz").read_bytes(), EXPECTED[name]
    assert hashlib.sha256(data).hexdigest() == expected["sha256"], "the kept file itself was changed"
    record = decode(data)
    assert record.answer == expected["answer"]
    assert record.facts.prompt.text == expected["prompt"]
    assert [[query.kind, query.token] for query in record.queries] == expected["queries"]
    assert (record.picture and record.picture[0]) == expected["picture"]
    assert list(record.geometry.seen_rect()) == expected["seen_rect"]
    assert list(record.views) == list(expected["views"])
    for view_name, wanted in expected["views"].items():
        view = record.views[view_name]
        maps = view.maps_float()
        assert [axis for axis, _ in view.sizes] == wanted["axes"]
        assert (view.facts.method.name, view.quantity, view.shares is None) == ("attention", ATTENTION, False)
        assert list(maps.shape) == wanted["shape"]
        first = maps.reshape(-1, *maps.shape[-2:])[0]
        np.testing.assert_allclose(first, wanted["first_map"], atol=1e-7)
        assert float(maps.sum(dtype=np.float64)) == pytest.approx(wanted["sum"], abs=1e-5)
        assert float(view.shares[..., 1].mean()) == pytest.approx(wanted["image_share"], abs=1e-5)


@pytest.mark.parametrize("name", SECOND)
def test_a_kept_record_of_version_2_still_decodes_to_its_values(name: str) -> None:
    data, expected = (FOLDER / "v2" / f"{name}.npz").read_bytes(), SECOND[name]
    assert hashlib.sha256(data).hexdigest() == expected["sha256"], "the kept file itself was changed"
    record = decode(data)
    assert record.answer == expected["answer"]
    assert record.facts.prompt.text == expected["prompt"]
    assert [[query.kind, query.token] for query in record.queries] == expected["queries"]
    assert (record.picture and record.picture[0]) == expected["picture"]
    assert [[image.width_px, image.height_px] for image in record.facts.images] == expected["images"]
    assert [list(run) for run in record.facts.prompt.separators] == expected.get("separators", [])
    assert len(record.grids) == len(expected["grids"])
    for number, (grid, wanted) in enumerate(zip(record.grids, expected["grids"], strict=True)):
        assert (grid.name, grid.image, [grid.rows, grid.cols]) == (wanted["name"], wanted["image"], wanted["shape"])
        assert [list(run) for run in grid.positions] == wanted["positions"]
        assert list(record.geometry_of(number).seen_rect()) == wanted["seen_rect"]
    assert list(record.views) == list(expected["views"])
    for view_name, wanted in expected["views"].items():
        view = record.views[view_name]
        maps, quantity = view.patches_float(), view.quantity
        assert (list(view.axes), list(maps.shape)) == (wanted["axes"], wanted["shape"])
        assert (view.facts.encoding, view.facts.method.name) == (wanted["encoding"], wanted["method"])
        assert [quantity.name, quantity.unit, quantity.signed, quantity.additive] == wanted["quantity"]
        np.testing.assert_allclose(maps.reshape(-1, maps.shape[-1])[0], wanted["first_map"], atol=1e-6)
        assert float(maps.sum(dtype=np.float64)) == pytest.approx(wanted["sum"], abs=1e-4)
        share = None if view.shares is None else float(view.shares[..., 1].mean())
        assert share == (wanted["image_share"] and pytest.approx(wanted["image_share"], abs=1e-5))
        if "separators" in wanted:
            np.testing.assert_allclose(view.separators, wanted["separators"], atol=1e-6)
        else:
            assert view.separators is None
        assert list(view.facts.parts) == wanted.get("part_names", [])
        if view.parts is None:
            assert not view.facts.parts
        else:
            np.testing.assert_allclose(view.parts, wanted["parts"], atol=1e-6)
    assert list(record.texts) == list(expected.get("texts", {}))
    for text_name, wanted in expected.get("texts", {}).items():
        text = record.texts[text_name]
        assert (list(text.positions), text.facts.method.name) == (wanted["positions"], wanted["method"])
        assert (text.facts.quantity.name, text.facts.quantity.signed) == (wanted["quantity"], wanted["signed"])
        np.testing.assert_allclose(text.values[-1], wanted["last_row"], atol=1e-6)
        assert float(text.values.sum(dtype=np.float64)) == pytest.approx(wanted["sum"], abs=1e-4)
    if "checks" in expected:
        assert record.facts.checks == expected["checks"]
        assert [token.without_image for token in record.tokens] == expected["without_image"]


def test_the_kept_check_of_patches_is_read() -> None:
    record = decode((FOLDER / "v2" / "checks.npz").read_bytes())
    found = PatchCheck.of_checks(record.facts.checks, len(record.tokens), record.grids[0].patches)
    assert found is not None
    assert [word.patches for word in found.words] == [
        brightest(record.map(word.token).ravel(), found.top) for word in found.words
    ]
    assert found.words[2].random_alone_low == 1.25e-12


@pytest.mark.parametrize("name", [*EXPECTED, *(f"v2/{name}" for name in SECOND)])
def test_writing_it_again_loses_nothing(name: str) -> None:
    record = decode((FOLDER / f"{name}.npz").read_bytes())
    data = encode(record)
    again = decode(data)
    assert (again.facts, again.run, again.picture) == (record.facts, record.run, record.picture)
    assert (record.version, again.version) == (int(name[1]), 2)
    assert encode(again) == data
    for view_name, view in record.views.items():
        assert again.views[view_name].facts == view.facts
        np.testing.assert_array_equal(again.views[view_name].stored, view.stored)
        np.testing.assert_array_equal(again.views[view_name].scales, view.scales)
        np.testing.assert_array_equal(again.views[view_name].parts, view.parts)
        np.testing.assert_array_equal(again.views[view_name].separators, view.separators)
        np.testing.assert_array_equal(again.views[view_name].patches_float(), view.patches_float())
    for text_name, text in record.texts.items():
        assert again.texts[text_name].facts == text.facts
        np.testing.assert_array_equal(again.texts[text_name].values, text.values)
