"""The documents' examples as a reader gives them, against a real server: they run, and answer what the documents show.

Flow: README.md, docs/*.md -> blocks and commands -> a folder with the demo's pictures, a key file and `make`, `jq` and
`llava-viewer` by name -> bash or Python -> what came out against what is shown.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from build_mar import build

from llava_viewer import Client
from llava_wire import encode
from servekit.paths import MODEL_STORE
from servekit.state import current_token
from support.asking import Asker, running_server
from support.examples import DOCUMENTS, Example, examples_of, shown, shown_python
from things import demo_tasks

pytestmark = pytest.mark.serve

_STARTS = ("demo-out", "run.npz", "layers.npz", 'Store("stored")')
_ELSEWHERE = ("https://", "grpcurl", "--headless", "error:", "--ray")
"""Examples that need another server, a cluster, another program or a browser, or that show a message."""
_VIEWER = """#!{python}
import sys
from llava_viewer.cli import main
arguments = sys.argv[1:]
if arguments[0] in ("predict", "replay", "heads", "check", "run") and not {{"--url", "--grpc"}} & set(arguments):
    arguments += ["--url", {http!r}]
sys.exit(main(arguments))
"""
_JQ = """#!{python}
import json, sys
value = json.load(sys.stdin)
for key in sys.argv[-1].strip(".").split("."):
    value = value[key]
print(value)
"""


@pytest.fixture(scope="module")
def asker() -> Iterator[Asker]:
    """A server of the demo's model."""
    build(demo_tasks.MODEL)
    with running_server("documents", model=demo_tasks.MODEL) as served:
        yield served


@pytest.fixture(scope="module")
def folder(asker: Asker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's folder after `make demo` and `make serve`."""
    root = tmp_path_factory.mktemp("reader")
    (root / "demo-out").mkdir()
    with Client.http(asker.state.http, model=demo_tasks.MODEL, token=Path(asker.state.key_file)) as client:
        for task in demo_tasks.tasks():
            (root / "demo-out" / f"{task.name}{task.suffix}").write_bytes(task.picture)
            if task.scene:
                record = client.predict(task.picture, task.question.text)
                (root / "demo-out" / f"{task.name}.npz").write_bytes(encode(record))
    (root / "demo-out" / "questions.jsonl").write_text(demo_tasks.questions_file(), encoding="utf-8")
    (root / "model_store").symlink_to(MODEL_STORE)
    (root / ".run" / "default").mkdir(parents=True)
    (root / ".run" / "default" / "key_file.json").symlink_to(asker.state.key_file)
    programs = {
        "bin/make": f"#!/bin/sh\necho '{current_token(asker.state)}'\n",
        "bin/jq": _JQ.format(python=sys.executable),
        "bin/llava-viewer": _VIEWER.format(python=sys.executable, http=asker.state.http),
    }
    programs[".venv/bin/llava-viewer"] = programs["bin/llava-viewer"]
    for name, text in programs.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
    return root


def chosen(path: Path) -> list[Example]:
    """The examples for this server: they name a picture or a record, or go on in Python; and need nothing else."""
    found: list[Example] = []
    for example in examples_of(path.read_text("utf-8")):
        begins = any(start in example.text for start in _STARTS)
        goes_on = example.kind == "python" and any(one.kind == "python" for one in found)
        if (begins or goes_on) and not any(mark in example.text for mark in _ELSEWHERE):
            found.append(example)
    return found


# The reading examples of the wire format run on kept records: tests/unit/wire/test_docs.py.
CHOSEN = {path.name: found for path in DOCUMENTS if (found := chosen(path)) and path.name != "wire-format.md"}


@pytest.mark.parametrize("name", CHOSEN)
def test_examples_give_what_is_shown(
    name: str, folder: Path, asker: Asker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LLAVA_GAZE_TOKEN", current_token(asker.state))
    monkeypatch.setenv("LLAVA_GAZE_SERVER", asker.state.name)
    monkeypatch.delenv("LLAVA_GAZE_MODEL")
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    scope: dict[str, object] = {}
    for example in CHOSEN[name]:
        text = example.text.replace("127.0.0.1:8080", urlsplit(asker.state.http).netloc)
        text = text.replace("127.0.0.1:7070", asker.state.grpc)
        if example.kind == "python":
            _run_python(text.replace('key = "..."', f"key = {current_token(asker.state)!r}"), name, scope, capsys)
        else:
            _run_shell(text)


def _run_shell(text: str) -> None:
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, f"{text}\n{ran.stdout}\n{ran.stderr}"
    for line in shown(text):
        assert line in ran.stdout.splitlines(), text


def _run_python(text: str, name: str, scope: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    exec(compile(text, name, "exec"), scope)
    printed = capsys.readouterr().out
    for expression, value in shown_python(text):
        if expression.startswith("print("):
            assert value in printed.splitlines(), expression
        else:
            assert eval(expression, scope) == value, expression


def test_enough_is_shown_and_run() -> None:
    assert {"README.md", "http-api.md", "grpc.md", "operations.md", "python.md"} <= set(CHOSEN)
    every = [example for found in CHOSEN.values() for example in found]
    assert len(every) >= 15
    assert sum(len(shown(example.text)) for example in every if example.kind == "shell") >= 3
    assert sum(len(shown_python(example.text)) for example in every if example.kind == "python") >= 10
