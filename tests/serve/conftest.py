"""One real TorchServe with the real archive of the small model, on free ports, for the whole session."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from build_mar import build
from servekit.paths import run_folder
from servekit.server import start_server

from support.asking import MODEL, Asker
from support.pictures import scene_bytes


@pytest.fixture(scope="session")
def built_archive() -> Path:
    """The archive, built when something changed."""
    return build(MODEL)[0]


@pytest.fixture(scope="session")
def asker(built_archive: Path) -> Iterator[Asker]:
    """The running server."""
    with start_server([MODEL], name=f"test-{os.getpid()}", ports="auto", timeout_s=300) as server:
        one = Asker(server.state)
        yield one
        one.close()
    shutil.rmtree(run_folder(server.state.name), ignore_errors=True)


@pytest.fixture(scope="session")
def picture() -> bytes:
    """A landscape picture as a PNG file."""
    return scene_bytes(256, 192, seed=5)
