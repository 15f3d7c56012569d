"""One real TorchServe with the real archive of the small model, on free ports, for the whole session."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from build_mar import build

from servekit.paths import run_folder
from servekit.tls import Tls
from support.asking import MODEL, Asker, running_server
from support.pictures import scene_bytes
from support.starting import NAME, SERVE


@pytest.fixture(scope="session")
def built_archive() -> Path:
    """The archive, built when something changed."""
    return build(MODEL)[0]


@pytest.fixture(scope="session")
def asker(built_archive: Path) -> Iterator[Asker]:
    """The running server."""
    with running_server("test") as one:
        yield one


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Whatever a test of `serve.py` did, its server is gone afterwards."""
    yield
    subprocess.run([*SERVE, "--stop", "--name", NAME], check=False, capture_output=True, timeout=120)
    shutil.rmtree(run_folder(NAME), ignore_errors=True)


@pytest.fixture(scope="session")
def picture() -> bytes:
    """A landscape picture as a PNG file."""
    return scene_bytes(256, 192, seed=5)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """A self-signed certificate for this machine, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl: apt-get install openssl")
    folder = tmp_path_factory.mktemp("tls")
    tls = Tls(folder / "certificate.pem", folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(tls.private_key), "-out", str(tls.certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return tls
