"""A decoder in JavaScript, written from docs/wire-format.md alone, reads every kept record to the same numbers."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from llava_wire import decode
from support.decoding import DECODER, KEPT, check_decoded

RUN = """
const { readFileSync } = require("node:fs");
readBase64(readFileSync(0, "utf-8")).then((found) => process.stdout.write(JSON.stringify(found)));
"""


@pytest.fixture(scope="module")
def node() -> str:
    """The program of Node.js; a browser runs the same decoder in tests/browser/test_decoder.py."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    return found


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_node_reads_the_same_numbers(node: str, path: Path) -> None:
    data = path.read_bytes()
    done = subprocess.run(
        [node, "-e", DECODER + RUN], input=base64.b64encode(data), capture_output=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    check_decoded(json.loads(done.stdout), decode(data))
