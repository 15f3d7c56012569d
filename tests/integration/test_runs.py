"""Dataset runs with the engine in a process beside: killed and started again, every record has the same bytes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tarfile
import threading
import time
from io import BytesIO
from os import fdopen, pipe
from pathlib import Path

import pytest

from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_server.piped import answer
from llava_viewer.cli import main
from llava_viewer.store import Store
from llava_wire.container import decode
from llava_wire.record import Record
from llava_wire.system.frames import read_frame, write_frame
from llava_wire.writing import encode
from support.pictures import scene_bytes

STORE = Path(__file__).resolve().parents[2] / "model_store"


def data_of(folder: Path, count: int) -> Path:
    """Questions about scenes, the short ones last."""
    lines = []
    for n in range(count):
        (folder / f"{n}.png").write_bytes(scene_bytes(192, 192, seed=n))
        prompt = "Describe the image." if n % 2 else "How many shapes are in the image?"
        lines.append({"id": f"q{n}", "image": f"{n}.png", "prompt": prompt})
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def without_run(data: bytes) -> bytes:
    """A record's bytes without what no two runs share."""
    return encode(decode(data).without_run())


def test_images_inside_files_are_asked_about_as_files_are(
    tmp_path: Path, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    tar, out = tmp_path / "data" / "0.tar", tmp_path / "out"
    tar.parent.mkdir()
    with tarfile.open(tar, "w") as shard:
        for n in range(6):
            for name, content in (("png", scene_bytes(192, 192, seed=n)), ("txt", b"Describe the image.")):
                info = tarfile.TarInfo(f"{n:03}.{name}")
                info.size = len(content)
                shard.addfile(info, BytesIO(content))
    assert main([*asked(tar, out), "--column", "prompt=txt"]) == 0
    assert "6 items of WebDataset: image = 'image', prompt = 'txt', id = '__key__'" in capsys.readouterr().err
    requests = [GenerateRequest.build(scene_bytes(192, 192, seed=n), "Describe the image.", {}) for n in range(6)]
    answers = [one.answer for one in engine.run(requests) if isinstance(one, Record)]
    with Store(out) as store:
        assert [row["answer"] for row in store.rows()] == answers
        records = [store.record(f"{n:03}") for n in range(6)]
        assert [len(record.pictures) for record in records] == [1] * 6
    page = tmp_path / "page.html"
    assert main(["render", f"{out}::004", "-o", str(page)]) == 0
    assert "data:image/" in page.read_text("utf-8")
    tar.unlink()
    with Store(out) as store:
        assert store.record("004").pictures == ()
    saved = Path(__file__).parents[1] / "data" / "hugging_face" / "saved"
    capsys.readouterr()
    assert main([*asked(saved, tmp_path / "other"), "--dry-run"]) == 0
    told = capsys.readouterr()
    assert "asked     7 of 7 items, each twice" in told.out
    assert "warning" not in told.err


def test_the_engine_over_a_pipe_answers_as_itself(engine: Engine) -> None:
    image = scene_bytes(192, 192, seed=1)
    (to_read, to_write), (from_read, from_write) = pipe(), pipe()
    source, asking = fdopen(to_read, "rb"), fdopen(to_write, "wb")
    said, sink = fdopen(from_read, "rb"), fdopen(from_write, "wb")
    write_frame(asking, {"n": 5, "prompt": "Describe the image.", "options": {}}, [image])
    write_frame(asking, {"n": 6, "prompt": "Describe the image.", "options": {"layers": [99]}}, [image])
    write_frame(asking, {"n": 7, "prompt": " ", "options": {}}, [image])
    asking.close()
    worker = threading.Thread(target=answer, args=(engine, source, sink))
    worker.start()
    frames = {}
    while len(frames) < 3 and (frame := read_frame(said)) is not None:
        if "n" in frame[0]:
            frames[frame[0]["n"]] = frame
    worker.join()
    for stream in (source, said, sink):
        stream.close()
    [alone] = engine.run([GenerateRequest.build(image, "Describe the image.", {})])
    assert isinstance(alone, Record)
    assert without_run(frames[5][1][0]) == encode(alone.without_run())
    assert frames[6][0]["error"]["error"]["field"] == "options.layers[0]"
    assert frames[7][0]["error"]["error"]["field"] == "prompt"


def test_a_models_name_is_known_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_of(tmp_path, 1)
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(data), "-o", "out", "--engine", "llava-shapes", "--device", "cpu"]) == 0


def asked(data: Path, out: Path) -> list[str]:
    """The command."""
    model = str(STORE / "llava-shapes")
    return ["run", str(data), "-o", str(out), "--engine", model, "--device", "cpu", "--chunk", "4"]


@pytest.mark.long
def test_killed_and_started_again_gives_the_same_bytes(tmp_path: Path) -> None:
    data = data_of(tmp_path, 24)
    out, calm = tmp_path / "out", tmp_path / "calm"
    assert main(asked(data, calm)) == 0
    for parts in (1, 3):
        worker = subprocess.Popen([sys.executable, "-m", "llava_viewer.cli", *asked(data, out)])
        while len(list(out.glob("parts/*.tar"))) < parts:
            assert worker.poll() is None
            time.sleep(0.005)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    assert main(asked(data, out)) == 0
    with Store(out) as found, Store(calm) as expected:
        assert list(found) == [f"q{n}" for n in range(24)]
        assert [without_run(found.read(id)) for id in found] == [without_run(expected.read(id)) for id in expected]


def test_a_model_that_is_not_there_is_named_with_where_names_are_looked_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_of(tmp_path, 1)
    for folder in (tmp_path, STORE.parent):
        monkeypatch.chdir(folder)
        assert main(["run", str(data), "-o", str(tmp_path / "out"), "--engine", "llava-thing"]) == 1
        said = capsys.readouterr().err
        expected = "expected a checkpoint folder, a model's YAML, or a name of"
        assert f"error: engine: got 'llava-thing', {expected} {STORE} (" in said
        assert "llava-shapes, llava-things, " in said
