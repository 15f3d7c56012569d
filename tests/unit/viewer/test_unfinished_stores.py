"""What every command says of a store without records, of one whose run goes on, and of one of errors alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from llava_viewer.cli import main
from llava_viewer.store.about import begun
from support.runs import Made, about_of, data_of, items_in, worked

WHOLE = ("index {}", "evaluate {}", "heads {}")
ONE = (
    "check {}::q0 -o new.npz",
    "find {}::q0 --box 1,1,20,20",
    "inspect {}::q0",
    "render {}::q0 -o page.html",
    "export {}::q0 -o figures/ --as csv",
    "compare {}::q0 {}::q1 -o page.html",
    "replay {}::q0 -o new.npz",
)
FOLDER = (
    "find {} --box 1,1,20,20",
    "inspect {}",
    "render {} -o page.html",
    "export {} -o figures/ --as csv",
    "check {} -o new.npz",
)


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an empty store, one whose second part of three is not there yet, and one of errors."""
    monkeypatch.chdir(tmp_path)
    data = data_of(tmp_path / "data", 12)
    begun(tmp_path / "empty", about_of(data, items_in(data)))
    worked(tmp_path / "begun", data, Made(data.parent))
    (tmp_path / "begun" / "parts" / "000001.tar").unlink()
    none = data_of(tmp_path / "none", 4, missing=range(4))
    worked(tmp_path / "errors", none, Made(none.parent))
    return tmp_path


def refused(command: str, store: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command that must fail says, and that it left nothing."""
    before = sorted(path for path in Path.cwd().rglob("*") if path.is_file())
    capsys.readouterr()
    assert main(command.replace("{}", store).split()) != 0, command
    assert sorted(path for path in Path.cwd().rglob("*") if path.is_file()) == before, command
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "Traceback" not in said
    return said.removeprefix("error: ")


def test_an_empty_store_says_so(stores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    far = "0 of 12 items are finished, and the command of the run goes on with the others"
    for command in WHOLE:
        assert refused(command, "empty", capsys) == f"empty: got no finished item, expected one with a record; {far}"
    for command in ONE:
        said = f"q0: got an unknown id, expected one of the 0 in empty; {far}"
        assert refused(command, "empty", capsys) == said
    assert main(["table", "empty"]) == 0
    assert "items     0 of 12" in capsys.readouterr().out


def test_a_store_of_errors_says_which(stores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = "(image: got No such file or directory, expected a file that can be read)"
    for command in WHOLE[1:]:
        assert refused(command, "errors", capsys) == (
            f"errors: got 4 items that all have an error, such as q0 {error}, expected one with a record; mend the "
            "data, and name another -o"
        )
    for command in ONE:
        assert refused(command, "errors", capsys) == (
            f"q0: got no record but an error {error}, expected an answered item; name another one"
        )
    # The index lists them.
    assert main(["index", "errors"]) == 0
    assert "warning: q0 was skipped: image: got No such file" in capsys.readouterr().err
    assert "q3" in (stores / "errors" / "index.html").read_text("utf-8")


def test_a_run_that_goes_on_can_be_looked_at(stores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    far = "7 of 12 items are finished, and the command of the run goes on with the others"
    assert main(["index", "begun"]) == 0
    assert f"note: {far}" in capsys.readouterr().err
    assert main(["evaluate", "begun"]) == 0
    assert "7 of 12" in capsys.readouterr().out
    assert main(["find", "begun::q0", "--box", "1,1,20,20"]) == 0
    assert refused("inspect {}::q7", "begun", capsys) == (
        f"q7: got an unknown id, expected one of the 7 in begun; did you mean 'q4'?; {far}"
    )


def test_a_store_is_no_record(stores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in FOLDER:
        assert refused(command, "begun", capsys) == (
            "begun: got the folder of a run, expected a record; name one of its items: begun::ID"
        )
