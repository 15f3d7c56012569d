"""The client, installed as a stranger installs it: into an empty environment, without torch, and in working order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llava_wire import decode, encode
from support.replies import GrpcServer, HttpServer, Reply
from support.synthetic import make_picture, make_record

ROOT = Path(__file__).parents[2]
NO_INDEX = ("No matching distribution", "ConnectionError", "NewConnectionError", "Could not fetch URL", "ReadTimeout")
SERVER_ONLY = ("torch", "transformers", "ts", "accelerate", "yaml")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment's bin folder, with `llava-gaze[http,grpc]` from this checkout and nothing else."""
    folder = tmp_path_factory.mktemp("client")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    install = ["--quiet", "--disable-pip-version-check", "--no-input", f"{ROOT}[http,grpc]"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", *install],
        check=False,
        capture_output=True,
        text=True,
        timeout=500,
    )
    if done.returncode != 0 and any(words in done.stderr for words in NO_INDEX):
        pytest.skip("no package index within reach, and pip's cache does not hold everything")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "bin"


def run(environment: Path, *arguments: object, cwd: Path) -> str:
    """A command of the environment, away from this checkout's folders; gives its stdout."""
    names = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LLAVA_GAZE"))}
    program, *rest = map(str, arguments)
    done = subprocess.run(
        [str(environment / program), *rest],
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=names,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_servers_packages_are_absent(environment: Path, tmp_path: Path) -> None:
    code = f"import importlib.util as u, json; print(json.dumps([n for n in {SERVER_ONLY!r} if u.find_spec(n)]))"
    assert json.loads(run(environment, "python", "-c", code, cwd=tmp_path)) == []


def test_predict_inspect_render_index_and_export(environment: Path, tmp_path: Path) -> None:
    make_picture(256, 192).save(tmp_path / "x.png")
    reply = Reply(encode(make_record(words=("A", " red"), reductions=("layers_heads",), with_picture=False)))
    with HttpServer() as http, GrpcServer() as grpc:
        http.reply = grpc.reply = reply
        for server, flag, name in ((http, "--url", "http"), (grpc, "--grpc", "grpc")):
            out = ["-o", f"{name}.npz", "--report", f"{name}.html"]
            said = run(
                environment, "llava-viewer", "predict", "x.png", "what?", flag, server.address, *out, cwd=tmp_path
            )
            assert said == "A red\n"
            assert decode((tmp_path / f"{name}.npz").read_bytes()).picture is not None
    assert (tmp_path / "http.npz").read_bytes() == (tmp_path / "grpc.npz").read_bytes()
    assert (tmp_path / "http.html").read_bytes() == (tmp_path / "grpc.html").read_bytes()
    assert "A red" in run(environment, "llava-viewer", "inspect", "http.npz", cwd=tmp_path)
    assert run(environment, "llava-viewer", "render", "http.npz", "-o", "again.html", cwd=tmp_path) == "again.html\n"
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "http.html").read_bytes()
    assert run(environment, "llava-viewer", "index", ".", cwd=tmp_path).strip().endswith("index.html")
    overlays = run(environment, "llava-viewer", "export", "http.npz", "-o", "overlays", cwd=tmp_path).split()
    assert sum(path.endswith(".png") for path in overlays) >= 2
