"""Methods as the document and the command show them: the document's code is the tests', and listing needs no torch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from llava_doors.door import METHODS
from llava_doors.method import Method, Needs, RowMethod
from llava_server.ask.methods import load_method
from support.looking import OWN_METHOD, install

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "own-method.md").read_text("utf-8")
MAIN = """
import sys
for name in ("torch", "transformers", "llava_server"):
    sys.modules[name] = None
from llava_viewer.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the document's method as its package would install it."""
    return install(tmp_path_factory.mktemp("site"), {"pull": "own_method:DECLARATION"}, OWN_METHOD)


def listed(site: Path, *arguments: str) -> str:
    """What the command prints where torch cannot be imported and the document's method is installed."""
    path = os.pathsep.join(map(str, (ROOT / "handler", ROOT / "viewer", site)))
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        check=False, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_documents_method_is_the_one_that_is_tested_and_is_as_short_as_it_says() -> None:
    code = OWN_METHOD.read_text("utf-8")
    assert f"```python\n{code}```" in DOCUMENT
    lines = [line for line in code.splitlines() if line.strip() and not line.lstrip().startswith('"""')]
    assert len(lines) <= 40


def test_the_document_names_every_offer_and_every_need() -> None:
    offers = {"rows", "every_row", "keys", "values", "output_weight", "hidden", "replay", "embeddings", "forward",
              "other", "once", "whole_answer", "spend", "log_probs"}  # fmt: skip
    table = DOCUMENT.partition("## What a run offers")[2]
    assert offers <= set(re.findall(r"`(\w+)\(", table))
    assert all(f"`{name}`" in DOCUMENT for name in Needs.__dataclass_fields__)


def test_methods_are_listed_without_torch(site: Path) -> None:
    said = listed(site, "methods")
    assert "attention: Where each row read from" in said
    assert "  maps: pull, in logit; signed; adds up over patches" in said
    assert "  power (number, default 1.0): Of the lengths." in said
    found = {one["name"]: one for one in json.loads(listed(site, "methods", "--json"))}
    assert found["pull"]["parameters"] == [
        {
            "name": "power",
            "kind": "number",
            "default": 1.0,
            "summary": "Of the lengths.",
            "choices": [],
            "above": None,
            "up_to": None,
        }
    ]
    assert found["attention"]["quantity"]["unit"] == "share"


def test_the_documents_page_of_methods_has_each_of_this_house_with_its_summary() -> None:
    page = (ROOT / "docs" / "methods.md").read_text("utf-8")
    own = {name: one for name, one in METHODS.known().items() if one.implementation.startswith("llava_doors.")}
    assert re.findall(r"^## `(\w+)`\n(.+)$", page, re.MULTILINE) == [(name, one.summary) for name, one in own.items()]
    for name, one in own.items():
        part = page.split(f"## `{name}`\n")[1].split("\n## ")[0]
        assert all(f"**{word}**" in part for word in ("Formula", "Source", "Cost", "Read it as", "Not as")), name
        assert all(f"`{parameter.name}`" in part for parameter in one.parameters), name
        assert f"| `{name}` | {one.quantity.name} |" in page
    for said in (page, *(one.summary for one in own.values())):
        assert not re.search(r"\b(why|explains?|because the model)\b", said, re.IGNORECASE), "nothing was intervened on"


def test_families_are_listed_too(site: Path) -> None:
    assert isinstance(json.loads(listed(site, "families", "--json")), list)
    assert listed(site, "families").strip()


def test_attention_is_a_method_like_any_other() -> None:
    attention = load_method("attention")
    assert isinstance(attention, RowMethod)
    assert isinstance(attention, Method)
