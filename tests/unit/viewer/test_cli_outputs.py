"""Outputs of the command: never an input or another output, nothing of another kind, whole or not at all."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from llava_viewer import export, files
from llava_viewer.cli import main
from llava_viewer.export import show
from llava_viewer.files import kind_of, written
from llava_viewer.pages.compare import Pick, render_compare
from llava_viewer.pages.index import write_index
from llava_viewer.pages.report import render_report
from llava_wire import decode, encode
from support.replies import HttpServer, Reply
from support.synthetic import make_picture, make_record

RECORD = make_record(words=("A", " red"), reductions=("layers_heads",))
DATA = encode(RECORD)
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a picture, two records and files of several kinds."""
    monkeypatch.chdir(tmp_path)
    make_picture(256, 192).save("x.png")
    for name in ("run.npz", "other.npz"):
        Path(name).write_bytes(DATA)
    Path("notes.html").write_text("<!DOCTYPE html><title>mine</title>", encoding="utf-8")
    Path("page.html").write_text(render_report(RECORD), encoding="utf-8")
    Path("notes.txt").write_text("bread, milk", encoding="utf-8")
    return tmp_path


def refused(capsys: Captured, folder: Path, *arguments: object) -> str:
    """Runs a command that must be refused; gives its message. No file is changed, made or removed."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    return err.splitlines()[-1]


@pytest.mark.parametrize(
    "outputs",
    [
        ["-o", "x.png"],
        ["-o", "./sub/../x.png"],
        ["--report", "x.png"],
        ["-o", "soft"],
        ["-o", "hard"],
        ["-o", "y.npz", "--report", "y.npz"],
        ["-o", "new/y.html", "--report", "new/../new/y.html"],
        ["-o", "Y.npz", "--report", "y.npz"],
        ["-o", "dangling", "--report", "aim.npz"],
        ["-o", "sub"],
        ["-o", "notes.txt/y.npz"],
        ["-o", "notes.txt"],
        ["-o", "page.html"],
        ["--report", "run.npz"],
        ["--report", "notes.html"],
        ["-o", "x2.png"],
        ["-o", "cut.npz"],
    ],
    ids=" ".join,
)
def test_a_prediction_is_refused_before_the_request(
    http_server: HttpServer, here: Path, capsys: Captured, outputs: list[str]
) -> None:
    http_server.reply = Reply(DATA)
    (here / "sub").mkdir()
    make_picture(20, 20).save("x2.png")
    os.symlink("x.png", "soft")
    os.link("x.png", "hard")
    os.symlink("aim.npz", "dangling")
    Path("cut.npz").write_bytes(DATA[:5000])
    ask = ["predict", "x.png", "what?", "--url", http_server.address]
    message = refused(capsys, here, *ask, *outputs)
    assert message.startswith(f"error: --{'report' if '--report' in outputs else 'output'}: got ")
    assert ", expected " in message
    assert http_server.seen == [], "nothing was asked for"


@pytest.mark.parametrize(
    "command",
    [
        ["replay", "run.npz", "-o", "run.npz"],
        ["replay", "run.npz", "--image", "x.png", "--report", "x.png"],
        ["predict", "x.png", "what?", "--format", "json", "-o", "x.png"],
        ["predict", "x.png", "what?", "--key-file", "key.json", "--format", "json", "-o", "key.json"],
    ],
    ids=" ".join,
)
def test_every_request_spares_its_inputs(
    http_server: HttpServer, here: Path, capsys: Captured, command: list[str]
) -> None:
    Path("key.json").write_text('{"inference": {"key": "k"}, "answer": 1}', encoding="utf-8")
    message = refused(capsys, here, *command, "--url", http_server.address, "--force")
    assert "which this command reads, expected any other file; name another" in message
    assert http_server.seen == []


@pytest.mark.parametrize(
    "command",
    [
        ["render", "run.npz", "-o", "run.npz"],
        ["render", "run.npz", "--image", "x.png", "-o", "x.png"],
        ["render", "odd.html"],
        ["compare", "run.npz", "other.npz", "-o", "other.npz"],
        ["compare", "run.npz::view=layers_heads", "other.npz", "-o", "run.npz"],
        ["export", "numbers.npz", "-o", ".", "--as", "svg,npz"],
        ["export", "run.npz", "--image", "sheet.png", "-o", ".", "--as", "csv,sheet"],
        ["export", "run.npz", "--image", "step_0.png", "-o", "."],
    ],
    ids=" ".join,
)
def test_every_file_made_from_records_spares_its_inputs(here: Path, capsys: Captured, command: list[str]) -> None:
    for name in ("odd.html", "numbers.npz"):
        Path(name).write_bytes(DATA)
    for name in ("sheet.png", "step_0.png"):
        make_picture(256, 192).save(name)
    message = refused(capsys, here, *command, "--force")
    assert "which this command reads, expected any other file; name another" in message


@pytest.mark.parametrize(
    ("command", "name", "held"),
    [
        (["render", "run.npz", "-o", "notes.html"], "notes.html", "an HTML page of another program"),
        (["render", "run.npz", "-o", "other.npz"], "other.npz", "a record"),
        (["compare", "run.npz", "other.npz"], "compare.html", "an HTML page of another program"),
        (["index", "."], "index.html", "an HTML page of another program"),
        (["index", "."], "index.cache.json", "JSON"),
        (["export", "run.npz", "-o", ".", "--as", "npz"], "numbers.npz", "a record"),
        (["export", "run.npz", "-o", ".", "--as", "csv"], "numbers.csv", "a PNG image"),
        (["export", "run.npz", "-o", ".", "--as", "gif", "--dpi", "72"], "answer.gif", "text"),
        (["export", "run.npz", "-o", "."], "log.txt", "a record"),
        (["export", "run.npz", "-o", "."], "log.txt", "text"),
        (["export", "run.npz", "-o", "."], "step_0.png", "a PNG image"),
        (["export", "run.npz", "-o", ".", "--as", "csv"], "numbers.csv", "text"),
        (["export", "run.npz", "-o", ".", "--as", "apng", "--dpi", "72"], "answer.png", "a PNG image"),
        (["export", "run.npz", "-o", ".", "--as", "gif", "--dpi", "72"], "answer.gif", "a GIF image"),
        (["export", "run.npz", "-o", ".", "--as", "sheet-svg"], "sheet.svg", "an SVG image"),
        (["render", "run.npz", "-o", "out.html"], "out.html", "a comparison"),
        (["render", "run.npz", "-o", "out.html"], "out.html", "an index of runs"),
        (["compare", "run.npz", "other.npz"], "compare.html", "a report"),
        (["index", "."], "index.html", "a report"),
    ],
)
def test_a_file_of_another_kind_needs_force(
    here: Path, capsys: Captured, command: list[str], name: str, held: str
) -> None:
    foreign = {
        "an HTML page of another program": Path("notes.html").read_bytes(), "a record": DATA, "text": b"bread",
        "a PNG image": Path("x.png").read_bytes(), "JSON": b'{"mine": 1}',
        "a GIF image": _picture("GIF"), "an SVG image": b"<svg/>", "a report": Path("page.html").read_bytes(),
        "a comparison": render_compare([Pick(RECORD, "a"), Pick(RECORD, "b")]).encode(),
        "an index of runs": _index_page(here),
    }  # fmt: skip
    Path(name).write_bytes(foreign[held])
    assert f"which holds {held}, expected a new file or " in refused(capsys, here, *command)
    assert main([*command, "--force"]) == 0
    assert Path(name).read_bytes() != foreign[held]


def _index_page(folder: Path) -> bytes:
    other = folder / "runs"
    other.mkdir()
    (other / "run.npz").write_bytes(DATA)
    return write_index(other).read_bytes()


def test_what_the_command_wrote_it_replaces_without_force(
    here: Path, capsys: Captured, http_server: HttpServer
) -> None:
    http_server.reply = Reply(DATA)
    every = "toolkit,png,svg,pdf,sheet,sheet-svg,sheet-pdf,gif,apng,csv,npz"
    commands = [
        ["predict", "x.png", "what?", "--url", http_server.address, "-o", "new.npz", "--report", "new.html"],
        ["render", "run.npz"],
        ["compare", "run.npz", "other.npz"],
        ["index", "."],
        ["export", "run.npz", "-o", "made", "--as", every, "--dpi", "72"],
    ]
    said = []
    for command in commands + commands:
        assert main(command) == 0, capsys.readouterr().err
        said.append(capsys.readouterr().err)
    assert not list(here.rglob("*.partial"))
    # What was there is told.
    assert not any(", over " in err for err in said[:5])
    assert [err.count(", over ") for err in said[5:]] == [2, 1, 1, 0, 11], "an index is written anew each time"
    assert "), over a report\n" in said[6]
    assert ", over a comparison\n" in said[7]
    assert ": csv, over an exported table\n" in said[9]


def test_links_devices_and_modes_are_kept(here: Path, http_server: HttpServer) -> None:
    http_server.reply = Reply(DATA)
    ask = ["predict", "x.png", "what?", "--url", http_server.address]
    Path("real.npz").write_bytes(b"")
    Path("real.npz").chmod(0o640)
    os.symlink("real.npz", "link.npz")
    assert main([*ask, "-o", "link.npz", "--report", "/dev/null"]) == 0
    assert Path("link.npz").is_symlink()
    assert decode(Path("real.npz").read_bytes()).answer == RECORD.answer
    assert Path("real.npz").stat().st_mode & 0o777 == 0o640
    assert Path("/dev/null").is_char_device()


def test_a_write_that_fails_leaves_what_was_there(here: Path) -> None:
    def fill() -> None:
        with written(here / "run.npz") as partial:
            partial.write_bytes(b"half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fill()
    assert (here / "run.npz").read_bytes() == DATA
    assert not list(here.glob(".*.partial"))
    longest = here / ("n" * 251 + ".npz")
    with written(longest) as partial:
        partial.write_bytes(b"whole")
    assert longest.read_bytes() == b"whole"


def _picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    PillowImage.new("RGB", (4, 4)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", files.EMPTY),
        (DATA, files.RECORD),
        (DATA[:900], "a damaged zip archive"),
        (_picture("PNG"), "a PNG image"),
        (_picture("GIF"), "a GIF image"),
        (_picture("JPEG"), "a JPEG image"),
        (_picture("TIFF"), "a TIFF image"),
        (b"\xef\xbb\xbf\n<!DOCTYPE HTML>", "an HTML page of another program"),
        (b'<?xml version="1.0"?>\n<svg/>', "an SVG image"),
        (b"<?xml version='1.0'?><a/>", "an XML document"),
        (b'{"answer": "a"}', "JSON"),
        (b'{"answer": "a", "record": {"format": "llava-gaze-record"}}', files.REPLY),
        ("é".encode() * 5000, "text"),
        (b"\x00\xff\xfe\x01", "other data"),
    ],
)
def test_the_content_tells_the_kind(tmp_path: Path, data: bytes, kind: str) -> None:
    path = tmp_path / "misleading.jpg"
    path.write_bytes(data)
    assert kind_of(path) == kind


def test_what_is_written_is_known_again(tmp_path: Path) -> None:
    shown = show(RECORD, look=export.Look(width_mm=60, dpi=72))
    drawing = export.figure(shown, shown.item())
    made: dict[str, Callable[[Path], object]] = {
        files.PNG: lambda path: export.write_png(drawing, path, 72),
        files.SVG: lambda path: export.write_svg(drawing, path),
        files.CSV: lambda path: export.write_csv(shown, path),
        files.LOG: lambda path: export.write_text_log(RECORD, path),
        files.NUMBERS: lambda path: export.write_npz(shown, path),
        files.GIF: lambda path: export.write_animation(shown, path),
        files.REPORT: lambda path: path.write_text(render_report(RECORD), encoding="utf-8"),
    }
    for kind, write in made.items():
        path = tmp_path / f"file{'.gif' if kind == files.GIF else ''}"
        write(path)
        assert kind_of(path) == kind
    (tmp_path / "run.npz").write_bytes(DATA)
    assert kind_of(write_index(tmp_path)) == files.INDEX
    assert kind_of(tmp_path / "index.cache.json") == files.CACHE


def test_a_page_on_the_standard_output_ends_with_the_page(here: Path) -> None:
    command = [sys.executable, "-m", "llava_viewer.cli", "render", "run.npz", "-o", "/dev/stdout"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout.rstrip().endswith(b"</html>")
    assert b"wrote /dev/stdout" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["render", "bad.npz"],
        ["inspect", "bad.npz"],
        ["compare", "bad.npz", "bad.npz"],
        ["export", "bad.npz", "-o", "x"],
    ],
    ids=" ".join,
)
def test_an_unreadable_picture_in_a_record_is_said(here: Path, capsys: Captured, command: list[str]) -> None:
    Path("bad.npz").write_bytes(encode(replace(RECORD, picture=("picture.png", b"\x89PNG\r\n\x1a\n"))))
    assert main(command) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(said) == command.count("bad.npz")
    assert said[0].startswith("warning: the record's image cannot be shown")
    assert "image: got an unreadable image" in said[0]
