"""Every YAML of model_store/ is one that can be served once its weights are there, and stands in the documentation."""

from __future__ import annotations

import json
from pathlib import Path

import estimate
import pytest
import torch

from llava_doors.door import FAMILIES
from llava_server.ask.options import parse_options
from llava_server.ask.plan import make_plan
from llava_server.load.locate import locate
from llava_server.load.weights import weight_bytes

STORE = Path(__file__).resolve().parents[2] / "model_store"
PAGE = (STORE.parent / "docs" / "families.md").read_text("utf-8")
NAMES = sorted(path.stem for path in STORE.glob("*.yaml"))
HUB = [name for name in NAMES if not (STORE / name).is_dir()]
"""Those whose weights do not come with the project."""
HEADS = {"llava-1.5-7b": ((14, 24), (14, 13)), "llava-1.5-13b": ((15, 39), (16, 30), (7, 2))}
"""The localization heads of Kang et al."""


def row_of(name: str) -> str:
    """A YAML's line on the page."""
    [row] = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |")]
    return row


@pytest.mark.parametrize("name", NAMES)
def test_a_yaml_can_be_planned_without_weights(name: str) -> None:
    request = estimate.planned(STORE, name, {}, [(640, 480)])
    assert request.settings.name == name
    assert request.layout.tokens + request.settings.limits.max_new_tokens < request.facts.context
    assert dict(request.settings.head_sets).get("localization", ()) == HEADS.get(name, ())
    for head_set in request.settings.head_sets:
        make_plan(parse_options({"heads": head_set, "max_new_tokens": 1}), request.facts, request.settings)


@pytest.mark.parametrize("name", HUB)
def test_the_page_of_families_has_a_row_for_it(name: str) -> None:
    located = locate(STORE / f"{name}.yaml")
    row = row_of(name)
    assert f"`{located.settings.source}`" in row
    kind = json.loads((STORE / "configs" / name / "config.json").read_text())["model_type"]
    assert f"`{kind}`" in row
    assert (located.settings.revision != "") == ("pinned" in row)


def test_the_page_names_every_family_of_the_house() -> None:
    assert [name for name in FAMILIES.known() if f"`{name}`" not in PAGE] == []


@pytest.mark.long
@pytest.mark.parametrize("name", HUB)
def test_a_kept_configuration_has_the_weights_that_the_page_says(name: str) -> None:
    _, family, _ = estimate.model_of(STORE, name)
    stated = float(row_of(name).split(" | ")[3]) * 1e9  # tied ones once
    assert weight_bytes(family, torch.float16) / 2 == pytest.approx(stated, rel=2e-3)
