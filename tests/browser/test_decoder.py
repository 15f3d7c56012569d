"""The decoder of tests/data/decoder.js in a browser: every kept record, to the same numbers as in Python."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from llava_wire import decode
from support.decoding import DECODER, KEPT, check_decoded


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_browser_reads_the_same_numbers(chromium: Any, path: Path) -> None:
    data = path.read_bytes()
    page = chromium.new_page()
    try:
        page.add_script_tag(content=DECODER)
        found = page.evaluate("(text) => readBase64(text)", base64.b64encode(data).decode("ascii"))
    finally:
        page.close()
    check_decoded(found, decode(data))
