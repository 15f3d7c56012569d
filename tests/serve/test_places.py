"""Where a server can be started from: any path, and what is said where nothing can be written; nothing stays behind."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from llava_viewer.client import Client
from servekit.paths import ROOT
from servekit.state import ServerState
from support.asking import MODEL

pytestmark = pytest.mark.serve
ODD = "jürgen ガゼ=a#b,c%d$x!'q\"[z]\\w"
NOBODY = 65534


@pytest.fixture
def checkout(built_archive: Path) -> Iterator[Callable[[str], Path]]:
    """Copies of what a server needs, in a folder that everybody may enter."""
    folder = Path(tempfile.mkdtemp(prefix="lgaze-places-"))
    folder.chmod(0o755)

    def make(name: str) -> Path:
        copied = folder / name
        for part in ("scripts", "handler", "viewer", "conf", f"model_store/{MODEL}"):
            shutil.copytree(ROOT / part, copied / part, ignore=shutil.ignore_patterns("__pycache__"))
        for part in ("config.properties", f"model_store/{MODEL}.yaml"):
            shutil.copy(ROOT / part, copied / part)
        return copied

    yield make
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(folder)


def _serve(place: Path, *arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(place / "scripts" / "serve.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=place, **more)  # type: ignore[call-overload, no-any-return]


def _nothing_left(place: Path, temporary: Path) -> bool:
    """Neither processes (one in the background needs a moment to see that it was stopped) nor files of a server."""
    end = time.monotonic() + 20
    while _processes(place) and time.monotonic() < end:
        time.sleep(0.2)
    states = [path for name in ("server.json", "*.partial", "key_file.json") for path in place.glob(f".run/*/{name}")]
    return not _processes(place) and not states and not list(temporary.glob("lgaze-*"))


def _processes(place: Path) -> list[str]:
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if str(place) in line]


def test_a_checkout_home_and_temporary_folder_may_have_any_name(
    checkout: Callable[[str], Path], built_archive: Path, picture: bytes
) -> None:
    place = checkout(ODD)
    shutil.copy(built_archive, place / "model_store")
    env = {**os.environ, "LC_ALL": "C", "HOME": str(place / "hö me"), "TMPDIR": str(place / "t é")}
    (place / "t é").mkdir()
    try:
        started = _serve(place, MODEL, "--background", "--ports", "auto", "--name", "odd", env=env)
        assert started.returncode == 0, started.stderr
        with Client.local(str(place / ".run" / "odd")) as client:
            assert client.predict(picture, "How many?").answer
        assert ODD in (place / ".run/odd/logs/ts_log.log").read_text("utf-8")
    finally:
        stopped = _serve(place, "--stop", "--name", "odd", env=env)
    assert "stopped" in stopped.stderr
    assert _nothing_left(place, place / "t é")


@pytest.mark.long
def test_an_archive_is_built_at_any_place(checkout: Callable[[str], Path]) -> None:
    place = checkout(ODD)
    command = [sys.executable, str(place / "scripts" / "build_mar.py"), MODEL]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd="/")
    assert (answer.returncode, answer.stdout) == (0, f"model_store/{MODEL}.mar\n"), answer.stderr
    assert [path.name for path in (place / "model_store").glob("*.mar")] == [f"{MODEL}.mar"]


def _no_larger_files(most_bytes: int) -> Callable[[], None]:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    return limit


@pytest.mark.parametrize(
    ("most_bytes", "expected"),
    [
        (100, ".run/default: got 'File too large', expected a place that can be read and written"),
        (65_536, "archive: got one that TorchServe cannot unpack (java.io.IOException: File too large)"),
    ],
)
def test_a_disk_without_room_is_said_in_one_line(
    checkout: Callable[[str], Path], built_archive: Path, most_bytes: int, expected: str
) -> None:
    """By a quota: the largest size of any file."""
    place = checkout("full")
    shutil.copy(built_archive, place / "model_store")
    temporary = place / "tmp"
    temporary.mkdir()
    answer = _serve(
        place, MODEL, "--no-build", "--ports", "auto", preexec_fn=_no_larger_files(most_bytes),
        env={**os.environ, "TMPDIR": str(temporary)},
    )  # fmt: skip
    assert answer.returncode == 1
    assert expected in answer.stderr.strip().splitlines()[-1]
    assert "Traceback" not in answer.stderr
    assert _nothing_left(place, temporary)
    assert (place / ".run" / "default").exists() == (most_bytes == 65_536)  # for its logs


def _without_rights(place: Path) -> list[str]:
    """What runs a program as somebody who may read the checkout and nothing else."""
    if os.geteuid() != 0:
        for path in (place, place / "model_store"):
            path.chmod(0o555)
        return []
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    again = "import psutil, subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
    program = [*command, sys.executable, "-c", again]
    if shutil.which("setpriv") is None or subprocess.run(program, capture_output=True, check=False).returncode != 0:
        pytest.skip("root, and nobody else can run this Python: run the tests as another user")
    return command


def test_a_checkout_that_cannot_be_written_is_said_in_one_line(
    checkout: Callable[[str], Path], built_archive: Path
) -> None:
    place = checkout("read-only")
    temporary = place / "tmp"
    temporary.mkdir()
    temporary.chmod(0o777)
    who = _without_rights(place)
    command = [*who, sys.executable, str(place / "scripts" / "serve.py"), MODEL, "--ports", "auto"]
    env = {**os.environ, "TMPDIR": str(temporary), "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}

    def refused() -> str:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
        assert answer.returncode == 1
        assert "Traceback" not in answer.stderr
        assert _nothing_left(place, temporary)
        return answer.stderr

    partial = r"model_store/llava-shapes\.partial-\d+\.mar"
    assert re.search(f"{partial}: got 'Permission denied', expected a place", refused())
    (place / "model_store").chmod(0o755)
    shutil.copy(built_archive, place / "model_store")
    assert "error: .run: got 'Permission denied', expected a place" in refused()
    place.chmod(0o755)
    (place / ".run").mkdir()
    (place / ".run").chmod(0o555)
    assert "error: .run/default.lock: got 'Permission denied', expected a place" in refused()


def test_the_state_of_a_server_that_could_not_be_written_leaves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servekit.paths.run_root", lambda: tmp_path)
    (tmp_path / "x").mkdir()
    url = "http://127.0.0.1:1"
    state = ServerState("x", "ready", ("m",), url, url, url, "127.0.0.1:2", "", "", "", 0, 0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        state.write()
    assert list((tmp_path / "x").iterdir()) == []
