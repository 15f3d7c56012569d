"""Dataset runs: nothing lost, nothing twice; whoever is killed, whatever else starts at the same time."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from llava_viewer.cli import main
from llava_viewer.cli.dataset.running import rule_of
from llava_viewer.data.items import Item
from llava_viewer.data.kind import DataError
from llava_viewer.runs.serving import Flight
from llava_viewer.runs.told import Progress
from llava_viewer.store import Store, StoreError
from llava_viewer.store.part import PartWriter
from llava_wire.errors import RequestError
from support.runs import Made, data_of, items_in, worked

Captured = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[3]
_WORKER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from support.runs import Made, worked
data = Path(sys.argv[2])
print("begins", flush=True)
worked(Path(sys.argv[1]), data, Made(data.parent, 0.02))
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Questions about 23 images, one of which is missing."""
    return data_of(tmp_path / "data", 23, missing=(7,))


def contents(out: Path) -> list[tuple[str, object]]:
    """What a store holds: each row as it is, without its place, and its record."""
    with Store(out) as store:
        rows = list(store.rows())
        assert [row["n"] for row in rows] == list(range(len(rows))), "every item once, in order"
        return [(json.dumps({**row, "offset": None}), None if row["error"] else store.read(row["id"])) for row in rows]


def killed(out: Path, data: Path, seconds: float) -> None:
    """Starts a worker and kills it with -9 so long after it began."""
    program = _WORKER.format(tests=str(ROOT / "tests"))
    worker = subprocess.Popen([sys.executable, "-c", program, str(out), str(data)], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"begins\n"
    time.sleep(seconds)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker.stdout.close()


def test_killed_at_random_and_started_again_is_the_undisturbed_run(tmp_path: Path, data: Path) -> None:
    worked(tmp_path / "calm", data, Made(data.parent))
    rng = random.Random(5)
    out = tmp_path / "out"
    for _ in range(2):
        killed(out, data, rng.uniform(0.02, 0.4))
    done = worked(out, data, Made(data.parent))
    assert done % 5 == 0 or done == 23
    assert contents(out) == contents(tmp_path / "calm")
    assert not list((out / "claims").iterdir())
    assert all(path.suffix == ".tar" and not path.name.startswith(".") for path in (out / "parts").iterdir())


def test_workers_share_the_work(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    together = threading.Barrier(3)

    def wait_for_the_others(item: Item) -> None:
        if not together.broken and item.id == first.setdefault(threading.get_ident(), item.id):
            together.wait(60)

    first: dict[int, str] = {}
    several = [Made(data.parent, before=wait_for_the_others) for _ in range(3)]
    threads = [threading.Thread(target=worked, args=(out, data, made)) for made in several]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asked = [id for made in several for id in made.asked]
    assert sorted(asked) == sorted(item.id for item in items_in(data)), "each once"
    assert all(made.asked for made in several)
    worked(tmp_path / "calm", data, Made(data.parent))
    assert contents(out) == contents(tmp_path / "calm")


def test_a_server_that_goes_away_costs_a_part_and_no_more(tmp_path: Path, data: Path) -> None:
    away = RequestError("unavailable", "server", "got no connection, expected one")
    out = tmp_path / "out"
    with pytest.raises(RequestError, match="got no connection"):
        worked(out, data, Made(data.parent, before=lambda item: away if item.n == 12 else None))
    made = Made(data.parent)
    assert worked(out, data, made) == 10
    assert len(made.asked) == 13


def test_a_full_disk_stops_and_what_is_finished_stays(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    add = PartWriter.add

    def full(self: PartWriter, row: dict[str, object], record: bytes | None) -> None:
        if row["n"] == 16:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "parts")
        add(self, row, record)

    with monkeypatch.context() as patched:
        patched.setattr(PartWriter, "add", full)
        with pytest.raises(OSError, match="No space left"):
            worked(out, data, Made(data.parent))
    assert len(list((out / "parts").iterdir())) == 3
    assert worked(out, data, Made(data.parent)) == 15


def test_a_bad_item_is_a_row(tmp_path: Path, data: Path) -> None:
    refused = RequestError("too_large", "image", "got 99 px, expected 9; make it smaller")
    replies: dict[int, bytes | Exception] = {2: refused, 4: b"no record"}
    worked(tmp_path / "out", data, Made(data.parent, before=lambda item: replies.get(item.n)))
    with Store(tmp_path / "out") as store:
        errors = {row["n"]: row["error"] for row in store.rows() if row["error"]}
    assert errors[2] == {"code": "too_large", "field": "image", "message": "got 99 px, expected 9; make it smaller"}
    assert {n: error["code"] for n, error in errors.items()} == {2: "too_large", 4: "record", 7: "file"}


def test_options_that_are_wrong_stop_the_run_at_once(tmp_path: Path, data: Path) -> None:
    wrong = RequestError("invalid", "options.layers", "got 99, expected 0 to 3")
    made = Made(data.parent, before=lambda item: wrong)
    with pytest.raises(RequestError, match=r"options\.layers"):
        worked(tmp_path / "out", data, made)
    assert len(made.asked) == 1


def test_items_that_all_fail_stop_the_run(tmp_path: Path) -> None:
    data = data_of(tmp_path / "data", 120)
    made = Made(data.parent, before=lambda item: RequestError("internal", "", "got a bug, expected none"))
    with pytest.raises(RequestError, match="got a bug"):
        worked(tmp_path / "out", data, made)
    assert len(made.asked) == 50


def test_other_data_options_or_models_are_refused(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    worked(out, data, Made(data.parent))
    with pytest.raises(StoreError, match=r"chunk: got 7, expected 5, with which the run in .* was begun"):
        worked(out, data, Made(data.parent), chunk=7)
    lines = data.read_text("utf-8").replace("What is in 3?", "What is it?")
    data.write_text(lines, encoding="utf-8")
    with pytest.raises(StoreError, match=r"DATA \(.* digest\): got"):
        worked(out, data, Made(data.parent))


def test_other_images_under_the_same_names_are_refused(tmp_path: Path, data: Path) -> None:
    out, images = tmp_path / "out", data.parent / "images"
    assert worked(out, data, Made(data.parent)) == 0
    first, second = images / "5.png", images / "6.png"
    before = first.read_bytes()
    first.write_bytes(second.read_bytes())
    with pytest.raises(
        StoreError, match=r"answers about another file 'images/5\.png' than .* has now, expected the same"
    ):
        worked(out, data, Made(data.parent))
    first.unlink()
    assert worked(out, data, Made(data.parent)) == len(items_in(data)), "an image that is gone does not matter any more"
    first.write_bytes(before)
    assert worked(out, data, Made(data.parent)) == len(items_in(data))


def test_another_model_in_the_middle_is_refused(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    worked(out, data, Made(data.parent))
    (out / "parts" / "000001.tar").unlink()
    model = json.loads((out / "model.json").read_text("utf-8"))
    (out / "model.json").write_text(json.dumps({**model, "revision": "another"}), encoding="utf-8")
    with pytest.raises(StoreError, match=r"model\.revision: got '0+', expected 'another'"):
        worked(out, data, Made(data.parent))


def test_a_folder_with_other_files_is_refused(tmp_path: Path, data: Path) -> None:
    with pytest.raises(StoreError, match="which holds other files"):
        worked(data.parent, data, Made(data.parent))


def test_in_flight_grows_while_it_brings_more() -> None:
    now = [0.0]
    flight = Flight(clock=lambda: now[0])
    for n in range(4000):
        at_once = 8 if 30 < n < 100 else 16  # a server that answers 16 at a time, but for a slow moment
        now[0] += 1 / min(flight.limit, at_once)
        flight.answered()
    assert flight.kept == 16
    assert Flight(3).limit == 3


def test_the_command_tells_what_it_understood_and_refuses_beforehand(
    tmp_path: Path, data: Path, capsys: Captured
) -> None:
    out = ["-o", str(tmp_path / "out"), "--url", "http://127.0.0.1:9"]
    assert main(["run", str(data), *out, "--limit", "3"]) == 1
    said = capsys.readouterr().err
    assert "3 items of jsonl: image = 'image', prompt = 'prompt', id = 'id', expected = 'answer'" in said
    assert "got no connection to http://127.0.0.1:9" in said
    assert "the same command goes on" in said
    assert main(["run", str(data), *out, "--images", str(tmp_path)]) == 1
    assert f"expected a file in {tmp_path}; name the folder" in capsys.readouterr().err
    assert main(["run", str(data), *out, "--column", "expected=", "--rule", "exact"]) == 2
    assert "--rule: got no expected answer" in capsys.readouterr().err
    assert main(["run", str(data), *out, "--prompt", "Where is it?"]) == 2
    assert "--prompt: got it for data whose every item has a prompt of its own" in capsys.readouterr().err
    assert main(["run", str(data), *out, "--prompt", "Where is it?", "--column", "prompt=", "--limit", "1"]) == 1
    said = capsys.readouterr().err
    assert "1 item of jsonl: image = 'image', id" in said
    assert main(["run", str(data), *out, "--engine", "x"]) == 2
    assert "--url: got it beside --engine" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "expected", "rule"),
    [(None, True, "exact"), ("contains", True, "contains"), ("none", True, ""), (None, False, ""), ("none", False, "")],
)
def test_answers_are_judged_where_one_is_expected(given: str | None, expected: bool, rule: str) -> None:
    items = [Item(0, "a", "a.png", "?", "yes" if expected else "", {}, ()), Item(1, "b", "a.png", "?", "", {}, ())]
    assert rule_of(given, items) == rule


def test_the_rate_counts_from_when_it_asks(tmp_path: Path) -> None:
    now, said = [0.0], list[str]()
    progress = Progress(100, 0, said.append, lambda: now[0])
    now[0] = 60.0  # a model is loaded
    progress.begin()
    now[0] = 65.0
    progress.row({"error": None})
    assert said == ["1 of 100 (1.0%)"], "the first of a batch tells no rate"
    for _ in range(9):  # the others come at the same time
        progress.row({"error": None})
    assert progress.rate == 2
    assert progress.line() == "10 of 100 (10.0%), 2 a second, 45 s left"
    progress.begin()
    assert progress.rate == 2
    last = Progress(2, 1, said.append, lambda: now[0])
    now[0] += 4
    last.row({"error": None})
    assert last.line() == "2 of 2 (100.0%), 0.25 a second, 0 s left"


def test_items_need_ids_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text('{"id": 1, "image": "a.png", "prompt": "?a"}\n{"id": 1, "image": "b.png", "prompt": "?a"}\n')
    with pytest.raises(DataError, match=r"items.jsonl line 2, id: got '1', which items.jsonl line 1 has"):
        items_in(path)


def test_item_is_what_a_row_repeats() -> None:
    item = Item(3, "a", "a.png", "?", "yes", {"cat": [[0.0, 0.0, 1.0, 2.0]]}, ("night",))
    assert item.facts() == {
        "n": 3, "id": "a", "image": "a.png", "prompt": "?", "expected": "yes", "boxes": {"cat": [[0.0, 0.0, 1.0, 2.0]]},
        "tags": ["night"],
    }  # fmt: skip
