"""Stores: records kept unchanged in parts, found by id, shown by every command, and told in one table."""

from __future__ import annotations

import csv
import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llava_viewer.cli import main
from llava_viewer.heads.questions import read_questions
from llava_viewer.pages.stored import worst_first, write_stored_index
from llava_viewer.store import Store, StoreError
from llava_viewer.store import store as store_module
from llava_viewer.store.named import read_named
from llava_viewer.store.part import PartWriter, Row, read_header, read_rows
from llava_viewer.store.table import COLUMNS, TABLE, write_table
from llava_wire.container import decode
from support.runs import Made, data_of, items_in, record_of, worked

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 items in parts of 5, of which one has no image file."""
    folder = tmp_path_factory.mktemp("store")
    data = data_of(folder / "data", 12, missing=(3,))
    assert worked(folder / "out", data, Made(data.parent)) == 0
    return folder / "out"


def test_records_are_kept_as_they_came(store: Path) -> None:
    data = store.parent / "data"
    with Store(store) as opened:
        assert list(opened) == [f"q{n}" for n in range(12)]
        for item in items_in(data / "items.jsonl"):
            if item.id != "q3":
                assert opened.read(item.id) == record_of(item)
        with pytest.raises(StoreError, match=r"q3: got no record but an error \(image: got No such file"):
            opened.read("q3")
        with pytest.raises(StoreError, match=r"q33: got an unknown id, expected one of the 12.*did you mean 'q3'"):
            opened.read("q33")


def test_a_record_comes_with_its_image_and_what_the_data_says(store: Path) -> None:
    with Store(store) as opened:
        record = opened.record("q1")
    assert record.facts.annotations is not None
    assert (record.facts.annotations.expected, record.facts.annotations.right) == ("a red circle", True)
    assert [name for name, _ in record.pictures] == ["picture.png"]


def test_another_image_under_the_name_is_not_shown(tmp_path: Path) -> None:
    data = data_of(tmp_path / "data", 2)
    worked(tmp_path / "out", data, Made(data.parent))
    (data.parent / "images" / "0.png").write_bytes((data.parent / "images" / "1.png").read_bytes())
    with Store(tmp_path / "out") as opened:
        assert not opened.record("q0").pictures
        assert opened.record("q1").pictures


def test_any_tar_reader_opens_a_part(store: Path) -> None:
    with tarfile.open(store / "parts" / "000000.tar") as tar:
        names = sorted(tar.getnames())
        assert names == [*(f"{n:09}.npz" for n in (0, 1, 2, 4)), "__end__", "__rows__"]
        member = tar.extractfile("000000002.npz")
        assert member is not None
        record = decode(member.read())
    assert record.facts.prompt.text == "What is in 2?"


def test_the_table_finds_what_the_rows_find(store: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    with Store(store) as opened:
        from_rows = {id: opened._place(id) for id in opened}
        write_table(store, opened.rows(), opened.parts)
    table = parquet.read_table(store / TABLE)
    assert tuple(table.column_names) == COLUMNS
    [row] = [row for row in table.to_pylist() if row["id"] == "q2"]
    assert row["right"] is True
    assert row["logprobs"] == pytest.approx([-0.1] * 4)
    assert row["image_share"] == pytest.approx(0.4, abs=1e-4)
    assert [row["error_code"] for row in table.to_pylist() if row["error_code"]] == ["file"]
    with Store(store) as opened:
        assert {id: opened._place(id) for id in opened} == from_rows


def test_an_old_table_is_not_believed(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    data = data_of(tmp_path / "data", 4)
    out = tmp_path / "out"
    worked(out, data, Made(data.parent))
    with Store(out) as opened:
        write_table(out, opened.rows(), opened.parts)
    (out / "parts" / "000000.tar").unlink()
    assert len(Store(out)) == 0
    worked(out, data, Made(data.parent))
    with Store(out) as opened:
        assert [len(opened.read(id)) > 0 for id in opened] == [True] * 4


@pytest.mark.parametrize("cut", [1, 600, 2000])
def test_a_damaged_part_is_told(tmp_path: Path, cut: int) -> None:
    writer = PartWriter(tmp_path / "0.tar", tmp_path / "partial", 0)
    writer.add({"n": 0, "id": "a"}, b"x" * 700)
    assert writer.finish({"digest": "d"})[0]["size"] == 700
    assert read_header(tmp_path / "0.tar")["digest"] == "d"
    whole = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(whole[:-cut])
    with pytest.raises(StoreError, match=r"0\.tar: got .* bytes that do not end as a part does"):
        list(read_rows(tmp_path / "0.tar"))


def test_a_record_that_moved_is_no_other_record(tmp_path: Path) -> None:
    data = data_of(tmp_path / "data", 3)
    worked(tmp_path / "out", data, Made(data.parent))
    with Store(tmp_path / "out") as opened:
        opened._found()
        place = opened._place("q1")
        assert opened._places is not None
        opened._places["q0"] = place._replace(n=0)
        with pytest.raises(StoreError, match=r"got '000000001\.npz'.*expected 000000000\.npz"):
            opened.read("q0")


def test_commands_take_a_record_of_a_store(
    store: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", f"{store}::q1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["file"], found["answer"], found["annotations"]["right"]) == ("q1", "a red circle", True)
    assert main(["render", f"{store}::q1"]) == 0
    assert "What is in 1?" in Path("q1.html").read_text("utf-8")
    assert main(["compare", f"{store}::q1", f"{store}::q1::view=layers_heads", "-o", "both.html"]) == 0
    assert "q1" in Path("both.html").read_text("utf-8")
    Path("again").symlink_to(store)
    assert main(["compare", f"{store}::q1", "again::q1", "-o", "both.html", "--force"]) == 0
    assert all(name in Path("both.html").read_text("utf-8") for name in ("again::q1", f"{store.name}::q1"))
    assert main(["export", f"{store}::q1", "-o", "figures", "--as", "csv"]) == 0
    capsys.readouterr()
    assert main(["find", f"{store}::q1", "--box", "3,3,20,20"]) == 0
    assert "circle" in capsys.readouterr().out
    assert main(["inspect", f"{store}::nobody"]) == 1
    assert "nobody: got an unknown id" in capsys.readouterr().err


def test_table_tells_what_came_out_and_prints_csv(store: Path, capsys: Captured) -> None:
    assert main(["table", str(store)]) == 0
    said = capsys.readouterr().out
    assert "items        12 of 12" in said
    assert "right        11 of 11 (100 %)" in said
    assert "error: file  1   q3: got No such file" in said
    assert main(["table", str(store), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["id"] for row in rows] == [f"q{n}" for n in range(12)]
    assert np.allclose(json.loads(rows[1]["logprobs"]), -0.1)


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path, capsys: Captured) -> None:
    assert main(["table", str(tmp_path)]) == 1
    assert "got no run.json (No such file or directory), expected the folder of a run" in capsys.readouterr().err


def handed(path: Path) -> Any:
    """The value that a block hands over."""
    found = re.fullmatch(r'gaze\("(\w+)",(.*)\);\n', path.read_text("ascii"))
    assert found is not None
    assert found[1] == path.stem
    return json.loads(found[2])


def test_an_index_lists_a_store_and_what_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    data = data_of(tmp_path / "data", 30, missing=(3,))
    out = tmp_path / "out"
    worked(out, data, Made(data.parent), chunk=8)
    (out / "index").mkdir()
    (out / "index" / "b77.js").write_text("of an earlier, larger one", "utf-8")
    (out / "index" / "notes.js").write_text("mine", "utf-8")
    assert main(["index", str(out)]) == 0
    assert "q3 was skipped: image: got No such file" in capsys.readouterr().err
    page = (out / "index.html").read_text("utf-8")
    assert "29 of 30\u00a0items" in page
    assert "<b>q3</b> was skipped: image: got No such file or directory" in page
    assert page.count('class="right"') == 29
    there = sorted(path.name for path in (out / "index").iterdir())
    assert there == ["b0.js", "b1.js", "columns.js", "notes.js", "t0.js"]
    first, second = handed(out / "index" / "b0.js"), handed(out / "index" / "b1.js")
    assert [card["id"] for card in (*first, *second)] == [f"q{number}" for number in range(30) if number != 3]
    assert first[0]["thumb"].startswith("data:image/webp;base64,")
    assert (first[0]["prompt"], first[0]["verdict"]) == ("What is in 0?", "right")
    columns = handed(out / "index" / "columns.js")
    assert columns["n"] == [number for number in range(30) if number != 3]
    assert columns["share"] == [pytest.approx(40, abs=0.1)] * 29, "in percent, as cards tell it"
    assert handed(out / "index" / "t0.js")[1] == "q1 what is in 1? a red circle"
    monkeypatch.chdir(out)
    assert main(["inspect", ".::q1"]) == 0, "as the page names it"


def test_the_worst_come_first() -> None:
    told = [("right", -0.1), ("wrong", -0.5), ("", -2.0), ("wrong", -0.01), ("right", -3.0)]
    columns = [{"n": n, "verdict": verdict, "logprob": logprob} for n, (verdict, logprob) in enumerate(told)]
    assert sorted(range(5), key=lambda n: worst_first(columns[n])) == [3, 1, 4, 2, 0]


def test_a_damaged_record_is_listed(tmp_path: Path) -> None:
    data = data_of(tmp_path / "data", 3)
    out = tmp_path / "out"
    worked(out, data, Made(data.parent))
    part = out / "parts" / "000000.tar"
    content = part.read_bytes()
    at = content.index(b"PK\x03\x04")
    part.write_bytes(content[:at] + bytes(64) + content[at + 64 :])
    with pytest.warns(UserWarning, match="q2 was skipped: cannot be shown"):
        page = write_stored_index(out).read_text("utf-8")
    assert "2 of 3\u00a0items" in page
    assert "<b>q2</b> was skipped" in page


def test_heads_are_found_in_a_store(tmp_path: Path) -> None:
    data = data_of(tmp_path / "data", 4, missing=(3,))
    rows = [json.loads(line) for line in data.read_text("utf-8").splitlines()]
    lines = [json.dumps({**row, "boxes": {"red circle": [5, 5, 20, 20]}}) for row in rows]
    data.write_text("\n".join(lines), encoding="utf-8")
    worked(tmp_path / "out", data, Made(data.parent))
    questions, _ = read_questions([tmp_path / "out"])
    assert [one.where for one in questions] == ["out::q0", "out::q1", "out::q2"]
    assert questions[1].boxes == {"red circle": ((5.0, 5.0, 20.0, 20.0),)}
    assert questions[1].prompt == "What is in 1?"


def test_many_records_of_a_store_cost_its_rows_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_of(tmp_path / "data", 20)
    worked(tmp_path / "out", data, Made(data.parent))
    read: list[str] = []

    def counted(path: Path) -> Iterator[Row]:
        read.append(path.name)
        yield from read_rows(path)

    monkeypatch.setattr(store_module, "read_rows", counted)
    questions, _ = read_questions([tmp_path / "out"])
    assert len(questions) == 20
    # To ask about, to find, and to read in order: once each.
    assert max(Counter(read).values()) <= 4
    part = tmp_path / "out" / "parts" / "000003.tar"
    part.rename(tmp_path / "000003.tar")
    with pytest.raises(StoreError, match="q17: got an unknown id, expected one of the 15"):
        read_named(tmp_path / "out::q17")
    (tmp_path / "000003.tar").rename(part)
    assert read_named(tmp_path / "out::q17")[0].facts.prompt.text == "What is in 17?"
