"""Workers that live at the same time in one store: what one leaves behind, and the table that several write."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llava_viewer.cli import main
from llava_viewer.cli.dataset import tables
from llava_viewer.data.items import Item
from llava_viewer.runs.claims import Claims
from llava_viewer.runs.work import CLAIMS, Worker
from llava_viewer.store import Store
from llava_viewer.store.about import begun
from support.runs import Made, about_of, data_of, items_in, worked

ROOT = Path(__file__).resolve().parents[3]
_HOLDS = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from llava_viewer.runs.claims import Claims
claims = Claims(Path({folder!r})).__enter__()
print([claims.take(chunk) for chunk in (0, 2)], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Questions about 23 images, five chunks of them."""
    return data_of(tmp_path / "data", 23)


def test_what_a_worker_left_that_died_meanwhile_is_done_by_one_that_lives(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    items = items_in(data)
    about = begun(out, about_of(data, items))
    code = _HOLDS.format(paths=[str(ROOT / "handler"), str(ROOT / "viewer")], folder=str(out / CLAIMS))
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "[True, True]\n"

    def dies_at_the_last(item: Item) -> None:
        if item.n == 22:
            other.kill()
            other.wait()

    made = Made(data.parent, before=dies_at_the_last)
    with Claims(out / CLAIMS) as claims:
        Worker(out, about, items, made, claims).run()
        assert claims.others == {}
    assert sorted(made.asked) == sorted(item.id for item in items), "each once"
    with Store(out) as store:
        assert list(store) == [item.id for item in items]
    assert not list((out / CLAIMS).iterdir())


def test_nobody_is_said_to_make_a_part_that_is_there(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    items = items_in(data)
    about = begun(out, about_of(data, items))
    with Claims(out / CLAIMS) as first, Claims(out / CLAIMS) as second:
        assert all(first.take(chunk) for chunk in (1, 3))

        def finishes_one(item: Item) -> None:
            if item.n == 22:
                worked(tmp_path / "calm", data, Made(data.parent))
                (tmp_path / "calm" / "parts" / "000001.tar").rename(out / "parts" / "000001.tar")
                first.release(1)

        Worker(out, about, items, Made(data.parent, before=finishes_one), second).run()
        assert [*second.others] == [3]


def test_the_table_of_a_finished_run_is_whole_whoever_wrote_last(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "out"
    worked(out, data, Made(data.parent))
    last = (out / "parts" / "000004.tar").rename(tmp_path / "last.tar")
    write = tables.write_table

    def another_finishes(*arguments: object) -> Path:
        path = write(*arguments)  # type: ignore[arg-type]
        if last.exists():
            last.rename(out / "parts" / "000004.tar")
        return path

    monkeypatch.setattr(tables, "write_table", another_finishes)
    stream = io.StringIO()
    tables.keep_table(out, stream)
    assert parquet.read_table(out / "table.parquet").num_rows == 23
    assert "items        23 of 23" in stream.getvalue()


def test_a_store_of_somebody_else_tells_what_came_out(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    worked(out, data, Made(data.parent))

    def read_only(folder: Path, rows: object, parts: object) -> Path:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder / "table.parquet"))

    monkeypatch.setattr(tables, "write_table", read_only)
    assert main(["table", str(out)]) == 0
    told = capsys.readouterr()
    assert "items        23 of 23" in told.out
    assert "no table.parquet was written: " in told.err

    def full(folder: Path, rows: object, parts: object) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "table.parquet"))

    monkeypatch.setattr(tables, "write_table", full)
    assert main(["table", str(out)]) == 1


def test_a_claim_of_the_same_number_is_not_that_of_a_worker_taken_for_dead(tmp_path: Path) -> None:
    with Claims(tmp_path) as slow, Claims(tmp_path) as quick, Claims(tmp_path) as third:
        assert slow.take(0)
        [path] = tmp_path.glob("*.claim")
        path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "boot_id": "another"}), encoding="utf-8")
        assert quick.take(0)
        quick.release(0)
        assert third.take(0)
        assert not slow.holds(0)
        slow.release(0)
        assert third.holds(0)
    assert not list(tmp_path.iterdir())
