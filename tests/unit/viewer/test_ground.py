"""A picture that cannot be read costs no export and no page: one rule for all of them, and it is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llava_viewer.cli import main
from llava_viewer.export import (
    Look,
    contact_sheet,
    export_overlays,
    figure,
    show,
    write_animation,
    write_png,
    write_svg,
)
from llava_viewer.pages.assemble import build_report
from llava_viewer.pages.compare import Pick, render_compare
from llava_viewer.pages.index import write_index
from llava_wire import encode
from llava_wire.record import Record
from support.synthetic import make_record

DAMAGED = b"\x89PNG\r\n\x1a\n and no more"


@pytest.fixture(scope="module")
def plain() -> Record:
    """A record without a picture."""
    return replace(make_record(words=("A", " cross"), reductions=("layers_heads",)), picture=None)


def overlays(record: Record, folder: Path) -> None:
    export_overlays(record, folder)


def figures(record: Record, folder: Path) -> None:
    shown = show(record, look=Look(dpi=40))
    write_png(figure(shown, shown.items[0]), folder / "figure.png", 40)
    write_svg(figure(shown, shown.items[0]), folder / "figure.svg")


def sheet(record: Record, folder: Path) -> None:
    write_svg(contact_sheet(show(record)), folder / "sheet.svg")


def animation(record: Record, folder: Path) -> None:
    write_animation(show(record, look=Look(width_mm=40, dpi=40)), folder / "answer.gif")


@pytest.mark.parametrize("export", [overlays, figures, sheet, animation])
def test_every_export_draws_on_a_plain_ground_and_warns(export, plain: Record, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("plain", "damaged")]
    for folder in folders:
        folder.mkdir()
    export(plain, folders[0])
    with pytest.warns(UserWarning, match="so the maps lie on a plain ground: image: got an unreadable image"):
        export(plain.with_picture("picture.png", DAMAGED), folders[1])
    names = sorted(path.name for path in folders[0].iterdir())
    assert names
    for name in names:
        assert (folders[1] / name).read_bytes() == (folders[0] / name).read_bytes(), name


def test_every_page_says_so(plain: Record, tmp_path: Path) -> None:
    damaged = plain.with_picture("picture.png", DAMAGED)
    assert any("The image cannot be shown: image: got an unreadable" in note for note in build_report(damaged).notes)
    page = render_compare([Pick(damaged, "a"), Pick(damaged, "b")])
    assert "The image cannot be shown: image: got an unreadable" in page
    (tmp_path / "run.npz").write_bytes(encode(damaged))
    with pytest.warns(UserWarning, match="plain ground"):
        write_index(tmp_path)


def test_the_command_line_says_it_once(plain: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "run.npz"
    record.write_bytes(encode(plain.with_picture("picture.png", DAMAGED)))
    assert main(["export", str(record), "-o", str(tmp_path / "out"), "--as", "svg,sheet-svg"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(said) == 1
    assert "the maps lie on a plain ground: image: got an unreadable image" in said[0]
    other = tmp_path / "other.png"
    other.write_bytes(DAMAGED)
    assert main(["export", str(record), "-o", str(tmp_path / "out"), "--image", str(other)]) == 1
    assert "error: image: got an unreadable image" in capsys.readouterr().err
