"""The example of docs/own-family.md is a family that works."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from llava_doors.door import FAMILIES
from llava_server.engine import Engine
from support.installed import installed

ROOT = Path(__file__).resolve().parents[2]
SHAPES = ROOT / "model_store" / "llava-shapes"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped weights as a checkpoint of the example's kind, and the example as a module."""
    text = (ROOT / "docs" / "own-family.md").read_text(encoding="utf-8")
    (tmp_path / "my_family.py").write_text(text.split("<!-- family -->\n```python\n")[1].split("```")[0])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_family", raising=False)
    weights = tmp_path / "weights"
    weights.mkdir()
    for path in SHAPES.iterdir():
        if path.name != "config.json":
            (weights / path.name).symlink_to(path)
    config = json.loads((SHAPES / "config.json").read_text()) | {"model_type": "llava_halves"}
    (weights / "config.json").write_text(json.dumps(config))
    return weights


def test_the_example_is_loaded_and_tests_itself(folder: Path, tmp_path: Path) -> None:
    with installed(tmp_path / "site", FAMILIES, "my_family:DECLARATION"):
        engine = Engine.load(folder, device="cpu", dtype="float32")
    assert engine.loaded.checks["self_test"]["result"] == "passed"
    left, right = engine.loaded.layout([(301, 200)]).grids
    assert (left.name, right.name, right.tokens) == ("left", "right", range(64, 128))
    np.testing.assert_allclose(left.geometry.seen_rect()[0::2], (0, 151))
    np.testing.assert_allclose(right.geometry.seen_rect()[0::2], (150, 301))


def test_the_page_names_all_that_a_family_answers() -> None:
    from llava_doors.family import Family

    text = (ROOT / "docs" / "own-family.md").read_text(encoding="utf-8")
    names = [name for name in vars(Family) if not name.startswith("_") and name != "text_config"]
    assert len(names) > 15
    missing = [name for name in names if f"`{name}`" not in text and f"`{name}(" not in text]
    assert missing == []
