"""Ids as people have them, named on a command line; parts that were damaged, copied or removed by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from llava_viewer.cli import main
from llava_viewer.store import Store, StoreError
from llava_viewer.store.named import page_of, read_named
from support.runs import Made, data_of, worked

LONG = "日本語" * 60
IDS = ("https://example.org/a//b.jpg", "x/./y/", "100 % of #1", LONG, "A", "a")


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of these ids, named as the command line names it."""
    data = data_of(tmp_path / "data", len(IDS))
    lines = [json.loads(line) for line in data.read_text("utf-8").splitlines()]
    data.write_text("".join(json.dumps(line | {"id": id}) + "\n" for line, id in zip(lines, IDS, strict=True)), "utf-8")
    worked(tmp_path / "out", data, Made(data.parent), chunk=4)
    monkeypatch.chdir(tmp_path)
    return Path("out")


def test_every_id_names_its_own_record(named: Path) -> None:
    for n, id in enumerate(IDS):
        assert read_named(Path(f"{named}::{id}"))[0].facts.prompt.text == f"What is in {n}?", id
    with pytest.raises(StoreError, match="x/y/z: got an unknown id"):
        read_named(Path(f"{named}::x/y/z"))


@pytest.mark.parametrize("command", ["inspect {}", "find {} --box 1,1,20,20", "render {}", "export {} -o ex --as csv"])
def test_an_id_may_be_longer_than_names_of_files(named: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.replace("{}", f"{named}::{LONG}").split()) == 0, capsys.readouterr().err


def test_a_page_has_a_name_that_file_systems_take(named: Path) -> None:
    name = page_of(Path(f"{named}::{LONG}")).name
    assert name == LONG[:80] + ".html"
    Path(name).write_bytes(b"")
    assert page_of(Path(f"{named}::A")) != page_of(Path(f"{named}::a"))


def test_a_part_under_the_name_of_another_is_refused(named: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in ("000007.tar", "000000.tar"):
        shutil.copy(named / "parts" / "000001.tar", named / "parts" / place)
        (named / "table.parquet").unlink(missing_ok=True)
        for command in ("table", "index", "evaluate"):
            assert main([command, str(named)]) == 1
            said = capsys.readouterr().err
            assert f"{place}: got the items of part 1, expected a whole part; remove it" in said
        (named / "parts" / place).unlink()


def test_what_is_said_of_a_damaged_part_mends_it(named: Path, tmp_path: Path) -> None:
    data, part = tmp_path / "data" / "items.jsonl", named / "parts" / "000000.tar"
    part.write_bytes(part.read_bytes()[:900])
    with pytest.raises(StoreError, match="remove it, and the command of the run makes it anew"):
        worked(named, data, Made(data.parent), chunk=4)
    part.unlink()
    assert worked(named, data, Made(data.parent), chunk=4) == 2
    with Store(named) as store:
        assert list(store) == list(IDS)


def test_a_damaged_description_of_a_run_is_no_later_version(named: Path) -> None:
    (named / "run.json").write_bytes((named / "run.json").read_bytes()[:100])
    with pytest.raises(StoreError, match=r"run\.json: got a damaged file"):
        Store(named)
