"""Results files, targets and the table made of them."""

from __future__ import annotations

import getpass
import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.parts.intervals import Interval
from bench.parts.results import FOLDER, Figure, Result, machine, read, write
from bench.parts.table import number, render
from bench.table import main

MACHINE = {"cpu": "Some CPU", "capability": "AVX2", "cores": 4, "threads": 1, "torch": "2.0"}


@pytest.fixture
def result() -> Result:
    """Two figures with targets, one met and one missed, and one without."""
    figures = [
        Figure.of("decode | step", Interval(1.004, 0.998, 1.012), "x plain", at_most=1.02, note="200 pairs"),
        Figure.of("prefill", Interval(3.6, 3.4, 3.8), "x faster", at_least=3.5),
        Figure("size", 123456.0, "bytes"),
    ]
    return Result("One step", "How it was done.", MACHINE, {"pairs": 2}, figures, {"plain": [0.123456789, 0.2]})


@pytest.mark.parametrize(
    ("figure", "met"),
    [
        (Figure("a", 1.0, "x", 0.9, 1.03, at_most=1.02), False),
        (Figure("a", 1.03, "x", 1.0, 1.02, at_most=1.02), True),
        (Figure("a", 0.5, "x", at_most=0.5), True),
        (Figure("a", 4.0, "x", 3.4, 5.0, at_least=3.5), False),
        (Figure("a", 3.6, "x", 3.5, 5.0, at_least=3.5), True),
        (Figure("a", 3.6, "x", 3.5, 5.0), None),
    ],
)
def test_the_far_end_of_the_interval_decides(figure, met):
    assert figure.met is met


def test_a_file_comes_back_as_it_was_written(tmp_path, result):
    write(tmp_path / "one.json", result)
    back = read(tmp_path / "one.json")
    assert back.figures == result.figures
    assert back.machine == MACHINE
    assert back.raw == {"plain": [0.123457, 0.2]}
    assert json.loads((tmp_path / "one.json").read_text(encoding="utf-8"))["figures"][2] == {
        "name": "size",
        "value": 123456.0,
        "unit": "bytes",
    }


def test_the_table_says_what_was_met_and_what_was_missed(tmp_path, result):
    write(tmp_path / "one.json", result)
    (tmp_path / "other.json").write_text('{"median": 3}', encoding="utf-8")
    text = render(tmp_path)
    assert "## One step\n\nHow it was done.\n\nSome CPU (AVX2), 4 cores, 1 thread, torch 2.0. [one.json]" in text
    assert "| decode \\| step | 1.004 x plain | 0.998 to 1.012 | ≤ 1.020 | met; 200 pairs |" in text
    assert "| prefill | 3.600 x faster | 3.400 to 3.800 | ≥ 3.500 | **missed** |" in text
    assert "| size | 123,456 bytes |  |  |  |" in text
    assert "[other.json](other.json)" in text
    summary = text.partition("## Targets")[2].partition("## One step")[0]
    assert "1 of 2 met." in summary
    assert summary.index("| One step: prefill | 3.600") < summary.index("| One step: decode")
    assert "size" not in summary


def test_the_table_says_that_nothing_ran_on_a_gpu_until_something_did(tmp_path, result):
    write(tmp_path / "one.json", result)
    assert "Not measured yet" in render(tmp_path)
    write(tmp_path / "gpu.json", replace(result, machine={**MACHINE, "gpu": "Some GPU", "cuda": "13.0"}))
    text = render(tmp_path)
    assert "Not measured yet" not in text
    assert "Some GPU, CUDA 13.0, Some CPU (AVX2)" in text


def test_the_script_writes_the_table_and_checks_it(tmp_path, result):
    write(tmp_path / "one.json", result)
    assert main(["--folder", str(tmp_path), "--check"]) == 1
    assert main(["--folder", str(tmp_path)]) == 0
    assert main(["--folder", str(tmp_path), "--check"]) == 0


def test_the_table_in_the_docs_is_the_one_of_the_files():
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == render(FOLDER)


def test_numbers_have_the_digits_that_a_reader_can_use():
    shown = [number(value) for value in (0.0, 0.00123456, 0.5, 1.00449, 12.345, 123.4, 1234.5, 64, 2e6)]
    assert shown == ["0", "0.0012", "0.500", "1.004", "12.3", "123", "1,234", "64", "2,000,000"]


def test_a_machine_is_described_by_its_hardware_and_versions_alone():
    facts = machine()
    assert facts["torch"] == torch.__version__
    assert facts["threads"] == torch.get_num_threads()
    assert not {socket.gethostname(), getpass.getuser()} & {str(value) for value in facts.values()}
    text = json.dumps(facts)
    assert str(Path.home()) not in text
    assert str(Path.cwd()) not in text
