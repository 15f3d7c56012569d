"""Records and folders of strangers against the command: one line, no traceback, nothing outside its output."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from llava_viewer import export
from llava_viewer.cli import main
from llava_viewer.files import written
from llava_viewer.look import wording
from llava_viewer.look.heatmap import enlarged
from llava_viewer.look.photo import ground
from llava_viewer.look.picture import PictureError, open_picture
from llava_viewer.pages.report import ReportTooLargeError, render_report
from llava_wire import decode, encode
from llava_wire.schema import Annotations
from llava_wire.system.replacing import replacing
from stress.fuzzing.records import Maker
from support.synthetic import make_record, with_geometry

SOUND = Path(__file__).parents[2] / "data" / "records" / "v1" / "sqrt-u8-four-reductions.npz"
STEERING = "a\u202eb\x7f\x9b31m\u2028\U000e0041c\U0001f469\u200d\U0001f52c\u00ad"
Captured = pytest.CaptureFixture[str]


def run(capsys: Captured, *arguments: object) -> tuple[int, str, str]:
    """Runs the command; gives exit code, stdout and stderr."""
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def crafted(count: int) -> Iterator[tuple[str, bytes]]:
    maker = Maker(2, SOUND.read_bytes(), heavy=False)
    for number in range(count):
        made = maker.file(number)
        yield made.name, made.data


def test_crafted_records_end_in_one_line_whatever_the_command(tmp_path: Path, capsys: Captured) -> None:
    shown = 0
    for name, data in crafted(52):
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        commands = [["inspect", path, "--json"]]
        try:
            decode(data)
        except ValueError:
            pass
        else:
            commands += [["inspect", path], ["export", path, "-o", tmp_path / "out", "--as", "csv,npz", "--force"]]
            shown += 1
        if shown == 3:
            commands.append(["render", path, "-o", tmp_path / "out" / "run.html"])
        for command in commands:
            code, out, err = run(capsys, *command)
            assert code in (0, 1), err
            assert code == 0 or err.splitlines()[-1].startswith("error: ")
            assert "LLAVA_GAZE_TRACEBACK" not in err
            assert not set("\x1b\x9b\u202e\u2028\x00") & set(out + err)
    assert shown > 5
    assert {path.name for path in tmp_path.iterdir()} <= {"in", "out"}


def test_an_index_goes_on_and_names_what_it_left_out(tmp_path: Path, capsys: Captured) -> None:
    names = [name for name, data in crafted(18) if (tmp_path / name).write_bytes(data)]
    (tmp_path / "good.npz").write_bytes(SOUND.read_bytes())
    code, _, err = run(capsys, "index", tmp_path)
    page = (tmp_path / "index.html").read_text("utf-8")
    assert code == 0
    assert 'data-name="good"' in page
    left_out = [name for name in names if f'data-name="{name.removesuffix(".npz")}"' not in page]
    assert len(left_out) > 8
    for name in left_out:
        assert f"warning: {name} was skipped: " in err
        assert f"<b>{name}</b> was skipped: " in page


@pytest.mark.parametrize(
    "error", [MemoryError(), RecursionError("deep"), KeyError("x"), ZeroDivisionError(), AssertionError()]
)
def test_errors_that_nobody_has_thought_of_are_one_line(
    error: Exception, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("llava_viewer.cli.commands.read_named", fails)
    code, out, err = run(capsys, "inspect", SOUND)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("error: memory: got none left" if isinstance(error, MemoryError) else "error: ")
    monkeypatch.setenv("LLAVA_GAZE_TRACEBACK", "1")
    with pytest.raises(type(error)):
        main(["inspect", str(SOUND)])


def test_json_for_programs_escapes_what_a_terminal_would_act_on(tmp_path: Path, capsys: Captured) -> None:
    record = make_record(reductions=("layers_heads",), prompt=STEERING)
    record = replace(record, facts=replace(record.facts, answer=STEERING))
    (tmp_path / "run.npz").write_bytes(encode(record))
    code, out, _ = run(capsys, "inspect", tmp_path / "run.npz", "--json")
    assert code == 0
    assert "\\u202eb\\u007f\\u009b31m\\u2028\\udb40\\udc41c" in out
    assert all(char.isprintable() or char == "\n" for char in out)
    assert json.loads(out)["question"] == json.loads(out)["answer"] == STEERING
    code, out, _ = run(capsys, "inspect", tmp_path / "run.npz")
    assert not set("\u202e\x7f\x9b\u2028\u00ad") & set(out)


def test_a_sparse_file_is_refused_before_it_is_read(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "run.npz"
    with path.open("wb") as stream:
        stream.truncate(8 << 30)
    for command in (["inspect", path], ["render", path], ["export", path, "-o", tmp_path / "out"]):
        code, _, err = run(capsys, *command)
        assert code == 1
        assert f"got {8 << 30} bytes, expected" in err


@pytest.mark.parametrize("name", ["index.html", "index.cache.json"])
@pytest.mark.parametrize("there", [True, False])
def test_a_planted_link_is_never_written_through(tmp_path: Path, capsys: Captured, name: str, there: bool) -> None:
    folder, target = tmp_path / "runs", tmp_path / "mine"
    folder.mkdir()
    (folder / "good.npz").write_bytes(SOUND.read_bytes())
    if there:
        target.write_text("", encoding="utf-8")
    (folder / name).symlink_to(target)
    code, _, err = run(capsys, "index", folder)
    assert (code, target.exists()) == (2, there)
    assert f"a link to {target}" in err
    assert run(capsys, "index", folder, "--force")[0] == 0
    assert not (folder / name).is_symlink()
    assert target.exists() == there
    assert not there or target.read_text("utf-8") == ""


def test_a_planted_link_in_the_folder_of_an_export_is_refused(tmp_path: Path, capsys: Captured) -> None:
    target = tmp_path / "mine"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "numbers.csv").symlink_to(target)
    code, _, err = run(capsys, "export", SOUND, "-o", tmp_path / "out", "--as", "csv")
    assert code == 2
    assert "a link to" in err
    assert not target.exists()
    shown = export.show(decode(SOUND.read_bytes()))
    export.write_csv(shown, tmp_path / "out" / "numbers.csv")
    assert not target.exists()


def test_a_temporary_file_is_new_and_its_name_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine"
    mine.write_text("kept", encoding="utf-8")
    names = []
    for _ in range(2):
        with written(tmp_path / "run.html") as partial:
            names.append(partial.name)
            assert partial.is_file()
    assert names[0] != names[1]
    monkeypatch.setattr("secrets.token_hex", lambda _: "known")
    (tmp_path / ".known.partial").symlink_to(mine)
    with pytest.raises(FileExistsError), replacing(tmp_path / "run.html"):
        raise AssertionError("written through a link")
    assert mine.read_text("utf-8") == "kept"


@pytest.mark.parametrize(("wide", "high"), [(1, 40_000_000), (40_000_000, 1), (11_000, 11_000)])
def test_a_picture_that_is_only_said_to_be_large_costs_nothing(wide: int, high: int) -> None:
    record = make_record(reductions=("layers_heads",), with_picture=False)
    record = with_geometry(record, replace(record.geometry, width_px=wide, height_px=high))
    assert max(ground(record).size) <= 1600
    assert max(ground(record, 320).size) <= 320


def test_a_record_carries_png_or_jpeg_alone(tmp_path: Path) -> None:
    PillowImage.new("RGB", (8, 8)).save(tmp_path / "x.gif")
    data = (tmp_path / "x.gif").read_bytes()
    assert open_picture(data).size == (8, 8)
    with pytest.raises(PictureError, match="expected PNG or JPEG there"):
        open_picture(data, carried=True)


def test_cells_far_outside_of_a_canvas_are_not_drawn() -> None:
    cells = np.arange(4, dtype=np.uint8).reshape(2, 2, 1).repeat(4, 2)
    part, corner = enlarged(cells, (-(10**9), -(10**9), 10**9, 10**9), (30, 20))
    assert (part.size, corner) == ((30, 20), (0, 0))
    assert np.asarray(part)[0, 0, 0] == 3, "the middle of the cells is the canvas' corner"


def test_many_maps_are_asked_for(tmp_path: Path, capsys: Captured) -> None:
    record = make_record(words=("a",) * 70, grid=2, layers=1, heads=1, reductions=("layers_heads",), with_picture=False)
    (tmp_path / "run.npz").write_bytes(encode(record))
    for kind in ("png", "svg", "gif", "apng"):
        code, _, err = run(capsys, "export", tmp_path / "run.npz", "-o", tmp_path / "out", "--as", kind)
        assert code == 1
        assert "expected 64; name fewer --tokens, or add --many" in err
    assert run(capsys, "export", tmp_path / "run.npz", "-o", tmp_path / "out", "--as", "csv,npz")[0] == 0


def test_a_report_that_cannot_fit_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llava_viewer.pages.report.build_report", lambda *_, **__: pytest.fail("made"))
    monkeypatch.setattr("llava_viewer.pages.report.MAX_VALUES", 100)
    with pytest.raises(ReportTooLargeError, match="expected 100 in 500000;"):
        render_report(make_record(reductions=("layers_heads",)))


def test_inspect_takes_annotations_without_a_verdict(tmp_path, capsys):
    record = make_record()
    said = Annotations(tags=("x",))
    path = tmp_path / "r.npz"
    path.write_bytes(encode(replace(record, facts=replace(record.facts, annotations=said))))
    assert main(["inspect", str(path)]) == 0
    assert "annotated not judged; tags x" in capsys.readouterr().out


def test_a_check_that_cannot_be_is_no_fact():
    for needing, of in ((99, 3), (-5, 14), (True, 3)):
        assert (
            wording.needing_image({"image": {"result": "measured", "needing": needing, "of": of, "nats": 1.0}}) is None
        )
    assert wording.needing_image({"image": {"result": "measured", "needing": 3, "of": 3, "nats": 1.0}}) == (3, 3)
