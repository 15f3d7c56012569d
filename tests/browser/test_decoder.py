"""The decoder of tests/data/decoder.js in a browser: every kept record, to the same numbers as in Python."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from llava_wire import decode
from support.decoding import DECODER, KEPT, check_decoded


@pytest.fixture(scope="module")
def page(chromium: Any) -> Any:
    """An empty page with the decoder in it."""
    opened = chromium.new_page()
    opened.add_script_tag(content=DECODER)
    return opened


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_browser_reads_the_same_numbers(page: Any, path: Path) -> None:
    data = path.read_bytes()
    found = page.evaluate("(text) => readBase64(text)", base64.b64encode(data).decode("ascii"))
    check_decoded(found, decode(data))
