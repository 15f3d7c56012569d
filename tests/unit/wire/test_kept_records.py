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

FOLDER = Path(__file__).parents[2] / "data" / "records" / "v1"
EXPECTED: dict[str, dict[str, Any]] = json.loads((FOLDER / "expected.json").read_text("utf-8"))


def test_every_kept_file_is_checked() -> None:
    assert {path.stem for path in FOLDER.glob("*.npz")} == EXPECTED.keys()


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
        assert list(view.axes) == wanted["axes"]
        assert list(maps.shape) == wanted["shape"]
        first = maps.reshape(-1, *maps.shape[-2:])[0]
        np.testing.assert_allclose(first, wanted["first_map"], atol=1e-7)
        assert float(maps.sum(dtype=np.float64)) == pytest.approx(wanted["sum"], abs=1e-5)
        assert float(view.shares[..., 1].mean()) == pytest.approx(wanted["image_share"], abs=1e-5)


@pytest.mark.parametrize("name", EXPECTED)
def test_writing_it_again_loses_nothing(name: str) -> None:
    record = decode((FOLDER / f"{name}.npz").read_bytes())
    again = decode(encode(record))
    assert (again.facts, again.geometry, again.run, again.picture) == (
        record.facts, record.geometry, record.run, record.picture,
    )  # fmt: skip
    for view_name, view in record.views.items():
        np.testing.assert_array_equal(again.views[view_name].stored, view.stored)
