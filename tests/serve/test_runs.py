"""The command `run` against a real server: killed with -9 and started again, it is the undisturbed run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from llava_viewer.cli import main
from llava_viewer.store import Store
from llava_wire.container import decode
from servekit.state import current_token
from support.asking import Asker
from support.pictures import scene_bytes

pytestmark = pytest.mark.serve
Captured = pytest.CaptureFixture[str]
COUNT, CHUNK = 18, 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of scenes in three shapes, one of which is no image."""
    folder = tmp_path_factory.mktemp("scenes")
    for n in range(COUNT):
        width, height = [(256, 192), (192, 240), (192, 192)][n % 3]
        (folder / f"{n:02}.png").write_bytes(scene_bytes(width, height, seed=n) if n != 7 else b"no image")
    return folder


def command(data: Path, out: Path, *where: str) -> list[str]:
    """What is asked."""
    return ["run", str(data), "--prompt", "Describe the image.", "-o", str(out), "--chunk", str(CHUNK), *where]


def test_killed_and_started_again_is_the_undisturbed_run(
    asker: Asker, data: Path, tmp_path: Path, capsys: Captured
) -> None:
    key = ["--token", current_token(asker.state)]
    over_http, over_grpc = ["--url", asker.state.http, *key], ["--grpc", asker.state.grpc, *key]
    out, calm = tmp_path / "out", tmp_path / "calm"
    worker = subprocess.Popen([sys.executable, "-m", "llava_viewer.cli", *command(data, out, *over_http)])
    while not list(out.glob("parts/*.tar")):
        assert worker.poll() is None
        time.sleep(0.005)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    there = len(list(out.glob("parts/*.tar")))
    assert main(command(data, out, *over_http)) == 0
    said = capsys.readouterr()
    assert there * CHUNK == COUNT or f"{there * CHUNK} of {COUNT} are there already" in said.err
    assert f"items                     {COUNT} of {COUNT}" in said.out
    assert "error: unsupported_media  1   07.png" in said.out
    assert main(command(data, calm, *over_grpc)) == 0
    assert main(command(data, calm, *over_grpc)) == 0, "nothing is left to do"
    with Store(out) as found, Store(calm) as expected:
        assert list(found) == list(expected) == [f"{n:02}.png" for n in range(COUNT)]
        for id in found:
            if id != "07.png":
                one, other = decode(found.read(id)), decode(expected.read(id))
                assert [token.id for token in one.tokens] == [token.id for token in other.tokens]
                assert np.allclose([t.logprob for t in one.tokens], [t.logprob for t in other.tokens], atol=1e-4)
                for name, view in one.views.items():
                    assert np.abs(view.stored.astype(int) - other.views[name].stored.astype(int)).max() <= 1


def test_a_dry_run_tells_what_all_would_take(asker: Asker, data: Path, tmp_path: Path, capsys: Captured) -> None:
    where = ["--url", asker.state.http, "--token", current_token(asker.state)]
    assert main([*command(data, tmp_path / "out", *where), "--limit", "4", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "asked     4 of 4 items" in said
    assert not (tmp_path / "out").exists()


def test_wrong_options_and_another_server_are_refused(
    asker: Asker, data: Path, tmp_path: Path, capsys: Captured
) -> None:
    where = ["--url", asker.state.http, "--token", current_token(asker.state)]
    out = tmp_path / "out"
    assert main([*command(data, out, *where), "--layers", "99"]) == 1
    assert "options.layers" in capsys.readouterr().err
    assert not list(out.glob("parts/*.tar"))
    assert main(command(data, out, *where)) == 1
    assert "options: got {}" in capsys.readouterr().err
    assert json.loads((out / "run.json").read_text("utf-8"))["options"] == {"layers": [99]}
