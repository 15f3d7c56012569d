"""llava-viewer from the outside: what goes to stdout, to stderr, into files, and the exit code."""

from __future__ import annotations

import errno
import json
import os
import re
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from llava_viewer.cli import main
from llava_wire import Record, RequestError, decode, encode
from support.replies import GrpcServer, HttpServer, Reply
from support.synthetic import make_picture, make_record

RECORD = make_record(words=("A", " red"), reductions=("layers_heads",), pairs=[(0, 1)], with_picture=False)
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """The picture of `RECORD`, as a file."""
    path = tmp_path / "x.png"
    make_picture(256, 192).save(path)
    return path


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    """`RECORD` as a file."""
    path = tmp_path / "run.npz"
    path.write_bytes(encode(RECORD))
    return path


def where(server: HttpServer | GrpcServer) -> list[str]:
    """The arguments that name this server."""
    return ["--url" if isinstance(server, HttpServer) else "--grpc", server.address]


def run(capsys: Captured, *arguments: object) -> tuple[int, str, str]:
    """Runs the command; gives exit code, stdout and stderr."""
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def test_predict(server: HttpServer | GrpcServer, picture: Path, tmp_path: Path, capsys: Captured) -> None:
    server.reply = Reply(encode(RECORD))
    run_file, report = tmp_path / "out" / "run.npz", tmp_path / "out" / "run.html"
    given = ["--layers", "0-1", "--heads", "0.1,1.2", "--max-new-tokens", "8", "--temperature", "0.5", "--seed", "3"]
    code, out, err = run(
        capsys,
        "predict",
        picture,
        "what?",
        *where(server),
        "--token",
        "key",
        *given,
        "-o",
        run_file,
        "--report",
        report,
    )
    assert (code, out) == (0, "A red\n")
    assert err.startswith(f"asking llava-shapes at {server.address}\nwrote {run_file} (")
    (seen,) = server.seen
    assert seen.headers["authorization"] == "Bearer key"
    assert seen.options == {
        "layers": [0, 1],
        "heads": [[0, 1], [1, 2]],
        "max_new_tokens": 8,
        "temperature": 0.5,
        "seed": 3,
        "format": "npz",
    }
    record = decode(run_file.read_bytes())
    assert record.answer == "A red"
    assert record.picture is not None
    assert report.read_text("utf-8").startswith("<!")
    assert sorted(path.name for path in run_file.parent.iterdir()) == ["run.html", "run.npz"]


def test_predict_with_views_and_without_picture(
    http_server: HttpServer, picture: Path, tmp_path: Path, capsys: Captured
) -> None:
    http_server.reply = Reply(encode(RECORD))
    run_file = tmp_path / "run.npz"
    views = ["--view", "name=a,heads=0.1", "--view", '{"name": "b"}']
    code, _, _ = run(capsys, "predict", picture, "what?", *where(http_server), *views, "--no-image", "-o", run_file)
    assert code == 0
    assert http_server.seen[0].options["views"] == [{"name": "a", "heads": [[0, 1]]}, {"name": "b"}]
    assert decode(run_file.read_bytes()).picture is None


def test_a_replay_asks_the_model_that_the_record_names(
    server: HttpServer | GrpcServer, run_file: Path, tmp_path: Path, capsys: Captured
) -> None:
    server.reply = Reply(encode(RECORD))
    for chosen in ([], ["--model", "other"]):
        assert run(capsys, "replay", run_file, *where(server), *chosen, "-o", tmp_path / "again.npz")[0] == 0
    assert [seen.model for seen in server.seen] == [RECORD.facts.model.name, "other"]


def test_predict_json(http_server: HttpServer, picture: Path, tmp_path: Path, capsys: Captured) -> None:
    http_server.reply = Reply('{"answer": "rot, größer"}'.encode())
    ask = ["predict", picture, "what?", *where(http_server), "--format", "json"]
    assert run(capsys, *ask)[:2] == (0, '{"answer": "rot, größer"}\n')
    code, out, _ = run(capsys, *ask, "-o", tmp_path / "run.json")
    assert (code, out) == (0, "rot, größer\n")
    assert (tmp_path / "run.json").read_bytes() == http_server.reply.body
    code, out, err = run(capsys, *ask, "--report", tmp_path / "run.html")
    assert (code, out) == (2, "")
    assert "leave one of them out" in err


def test_failures_are_one_line_and_1(
    server: HttpServer | GrpcServer, picture: Path, tmp_path: Path, capsys: Captured
) -> None:
    refusal = RequestError("invalid", "options.layers[0]", "got 9, expected 0 to 3;\n\x1b[31m take a smaller one")
    server.reply = Reply(json.dumps(refusal.to_body()).encode(), status=422)
    code, out, err = run(capsys, "predict", picture, "what?", *where(server))
    assert (code, out) == (1, "")
    assert err.splitlines()[1:] == ["error: options.layers[0]: got 9, expected 0 to 3;\\n\\x1b[31m take a smaller one"]
    code, _, err = run(capsys, "predict", tmp_path / "none.png", "what?", *where(server))
    assert (code, err) == (1, f"error: {tmp_path / 'none.png'}: No such file or directory\n")
    code, _, err = run(capsys, "predict", picture, "what?", *where(server), "--key-file", tmp_path / "none.json")
    assert code == 1
    assert err.splitlines()[-1].startswith("error: key_file: got ")


def test_several_images_go_in_their_order(
    server: HttpServer | GrpcServer, picture: Path, tmp_path: Path, capsys: Captured
) -> None:
    second, third = tmp_path / "b.png", tmp_path / "c.png"
    second.write_bytes(b"second")
    third.write_bytes(b"third")
    server.reply = Reply(encode(RECORD))
    files = [picture, second, "what?", "--image", third]
    assert run(capsys, "predict", *files, *where(server), "--no-image")[0] == 0
    sent = [server.seen[0].fields.get(name) for name in ("image", "image_2", "image_3", "prompt")]
    assert sent == [picture.read_bytes(), b"second", b"third", b"what?"]
    code, _, err = run(capsys, "predict", picture, second, *where(server))
    said = f"error: PROMPT: got the file {second}, expected a question behind the images; write it last"
    assert (code, err.splitlines()[-1]) == (2, said)
    assert len(server.seen) == 1
    assert run(capsys, "predict", picture, "what? " * 1000, *where(server))[0] == 0


def test_nothing_listens(picture: Path, capsys: Captured) -> None:
    code, _, err = run(capsys, "predict", picture, "what?", "--grpc", "127.0.0.1:1")
    assert code == 1
    assert err.splitlines()[-1].startswith("error: server: got no connection to 127.0.0.1:1 (ipv4:127.0.0.1:1: ")
    assert "make serve" in err


def test_an_answer_cannot_steer_the_terminal(http_server: HttpServer, picture: Path, capsys: Captured) -> None:
    hostile = replace(RECORD, facts=replace(RECORD.facts, answer="a\x1b]0;x\x07\x9b1m\n\tb\r\u202eé🦊"))
    http_server.reply = Reply(encode(hostile))
    _, out, _ = run(capsys, "predict", picture, "what?", *where(http_server))
    assert out == "a\\x1b]0;x\\x07\\x9b1m\n\tb\\r\\u202eé🦊\n"


def test_a_failed_write_costs_neither_answer_nor_old_file(
    http_server: HttpServer, picture: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    http_server.reply = Reply(encode(RECORD))

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    code, out, err = run(capsys, "predict", picture, "what?", *where(http_server), "-o", tmp_path / "run.npz")
    assert (code, out) == (1, "A red\n")
    assert err.splitlines()[-1] == f"error: {tmp_path / 'run.npz'}: No space left on device"
    assert sorted(tmp_path.iterdir()) == [picture]


def test_a_picture_that_cannot_be_kept_is_a_warning(http_server: HttpServer, tmp_path: Path, capsys: Captured) -> None:
    http_server.reply = Reply(encode(RECORD))
    odd = tmp_path / "x.bin"
    odd.write_bytes(b"only the server can read this")
    code, out, err = run(capsys, "predict", odd, "what?", *where(http_server), "-o", tmp_path / "run.npz")
    assert (code, out) == (0, "A red\n")
    assert "\nwarning: the record carries no image: image: got b'only the'" in err
    assert decode((tmp_path / "run.npz").read_bytes()).picture is None


def test_inspect(run_file: Path, capsys: Captured) -> None:
    code, out, err = run(capsys, "inspect", run_file)
    assert (code, err) == (0, "")
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert lines["answer"].endswith("A red")
    assert "8 rows x 8 columns of 12 px" in lines["grid"]
    assert lines["seen"].endswith("x 32..224, y 0..192 px of the image")
    assert lines["pixels"].endswith("not in the record")
    assert lines["layers_heads"].split()[1:4] == ["query", "3x8x8", "sqrt-u8"]
    assert lines["pairs"].split()[1:3] == ["query,layer_head", "3x1x8x8"]
    assert lines["1"].split()[:5] == ["1", "101", "0.905", "-", "0.400"]
    assert lines["2"].split()[-1] == "</s>"


def test_inspect_json(run_file: Path, capsys: Captured) -> None:
    code, out, _ = run(capsys, "inspect", run_file, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["bytes"] == run_file.stat().st_size
    assert found["tokens"][1]["text"] == " red"
    assert found["tokens"][1]["image_share"] == pytest.approx(0.4)
    assert found["views"][1]["pairs"] == [[0, 1]]
    assert found["grids"][0]["seen_px"] == [32, 0, 224, 192]


def test_inspect_without_query_axis(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "all.npz"
    path.write_bytes(encode(make_record(words=("A",), reductions=("all",))))
    assert run(capsys, "inspect", path)[0] == 0
    assert run(capsys, "inspect", path, "--json")[0] == 0


@pytest.mark.parametrize("command", ["inspect", "render"])
def test_what_is_not_a_record(command: str, picture: Path, capsys: Captured) -> None:
    code, out, err = run(capsys, command, picture)
    assert (code, out) == (1, "")
    assert re.match(r"error: record: got \d+ bytes that start with b.*, expected a zip", err)
    assert len(err.splitlines()) == 1


def test_render(run_file: Path, picture: Path, tmp_path: Path, capsys: Captured) -> None:
    code, out, err = run(capsys, "render", run_file, "--image", picture)
    assert (code, out) == (0, f"{tmp_path / 'run.html'}\n")
    assert "warning" not in err
    assert "data:image/" in (tmp_path / "run.html").read_text("utf-8")


def test_render_says_when_the_picture_is_another(run_file: Path, tmp_path: Path, capsys: Captured) -> None:
    other = tmp_path / "other.png"
    make_picture(256, 192, seed=5).save(other)
    code, out, err = run(capsys, "render", run_file, "-o", tmp_path / "o.html", "--image", other)
    assert (code, out) == (0, f"{tmp_path / 'o.html'}\n")
    assert err.startswith("warning: image: got pixels with sha256 ")
    assert "this is another image" in (tmp_path / "o.html").read_text("utf-8")


def test_a_record_with_a_foreign_picture_says_so(tmp_path: Path, capsys: Captured) -> None:
    record: Record = make_record(words=("A",))
    own = make_record(words=("A",), seed=7).picture
    assert own is not None
    path = tmp_path / "run.npz"
    path.write_bytes(encode(record.with_picture(*own)))
    assert run(capsys, "render", path)[2].startswith("warning: image: got pixels")


def test_index_and_export(run_file: Path, picture: Path, tmp_path: Path, capsys: Captured) -> None:
    code, out, _ = run(capsys, "index", tmp_path)
    assert code == 0
    assert Path(out.strip()).is_file()
    out_dir = tmp_path / "overlays"
    code, out, _ = run(
        capsys, "export", run_file, "-o", out_dir, "--view", "pairs", "--palette", "viridis", "--image", picture
    )
    assert code == 0
    paths = [Path(line) for line in out.splitlines()]
    assert all(path.is_file() for path in paths)
    assert sum(path.suffix == ".png" for path in paths) >= 2
    assert run(capsys, "export", run_file, "-o", out_dir, "--tokens", "all")[0] == 0
    code, _, err = run(capsys, "export", run_file, "-o", out_dir, "--tokens", "0")
    assert code == 2
    assert err.startswith("error: --tokens: got it for toolkit, which draws every map")
    code, _, err = run(capsys, "export", run_file, "-o", out_dir, "--view", "mean")
    assert (code, err) == (1, "error: view: got 'mean', expected ['layers_heads', 'pairs']; name one of them\n")


def test_the_version_is_the_installed_package_s(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"llava-viewer {version('llava-gaze')}\n"


def test_index_of_no_folder(tmp_path: Path, capsys: Captured) -> None:
    code, _, err = run(capsys, "index", tmp_path / "none")
    assert code == 1
    assert err == f"error: {tmp_path / 'none'}: No such file or directory\n"
    (tmp_path / "file").touch()
    assert run(capsys, "index", tmp_path / "file")[2] == f"error: {tmp_path / 'file'}: Not a directory\n"


def test_a_key_may_begin_with_a_dash(server: HttpServer | GrpcServer, picture: Path, capsys: Captured) -> None:
    server.reply = Reply(encode(RECORD))
    code, out, _ = run(capsys, "predict", picture, "what?", *where(server), "--token", "-Jx_9")
    assert (code, out.strip()) == (0, RECORD.answer)
    assert server.seen[0].headers["authorization"] == "Bearer -Jx_9"


def test_inspect_and_render_tell_of_the_other_answers(tmp_path: Path, capsys: Captured) -> None:
    other = make_record(words=("Two", " cats"), with_picture=False).without_run()
    path = tmp_path / "run.npz"
    path.write_bytes(encode(replace(RECORD, alternatives=(other,))))
    _, out, _ = run(capsys, "inspect", path)
    assert f"answer 1  {other.answer}" in out
    _, out, _ = run(capsys, "inspect", path, "--json")
    assert json.loads(out)["alternatives"] == [other.answer]
    run(capsys, "render", path)
    page = (tmp_path / "run.html").read_text("utf-8")
    assert 'aria-label="Answer 2 of 2' in page
    assert f"{other.answer}</bdi>" in page
    run(capsys, "render", path, "--sequence", "1")
    alone = (tmp_path / "run.html").read_text("utf-8")
    assert "answer 2 of 2 to one request" in alone
    assert RECORD.answer not in alone
