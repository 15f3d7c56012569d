"""The examples that `--help` gives run: on a record as it comes without options, and on its replay by layers."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from llava_viewer.cli import main
from llava_viewer.cli.parser import build_parser
from llava_viewer.data.items import Item
from llava_wire import Record, encode
from support.runs import Made, data_of, worked
from support.synthetic import make_record

WORDS = ("A", " red", " circle", ",", " next", ".")
MADE = make_record(reductions=("layers_heads",), layers=4, heads=4, words=WORDS)
MEAN = MADE.view()
DEFAULT = replace(MADE, views={"mean": replace(MEAN, facts=replace(MEAN.facts, name="mean"))})
LAYERS = make_record(reductions=("heads",), layers=4, heads=4, words=WORDS[:2])
FILES: dict[str, Record] = {
    **dict.fromkeys(("run.npz", "red.npz", "blue.npz", "base.npz", "tuned.npz", "runs/one.npz"), DEFAULT),
    "layers.npz": LAYERS,
    **{f"seed-{number}.npz": make_record(words=WORDS[:number]) for number in (1, 2, 3)},
    "cells.npz": make_record(reductions=("none",), layers=4, heads=4, words=WORDS[:2]),
}


def examples() -> list[str]:
    """Every call of the command in a help text, without what is said about it behind blanks or piped behind a bar."""
    parser = build_parser()
    [commands] = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    texts = [parser.epilog or "", *(command.epilog or "" for command in commands.values())]
    lines = [line.strip() for line in re.sub(r"\\\n\s*", "", "\n".join(texts)).splitlines()]
    return sorted({re.split(r" {2,}| \| ", line)[0] for line in lines if line.startswith("llava-viewer ")})


def test_every_command_has_an_example() -> None:
    commands = {
        "predict",
        "replay",
        "check",
        "annotate",
        "render",
        "index",
        "inspect",
        "export",
        "compare",
        "find",
        "methods",
        "checks",
        "families",
        "metrics",
        "criteria",
        "heads",
        "run",
        "table",
        "evaluate",
        "slurm",
        "kubernetes",
    }
    assert {example.split()[1] for example in examples()} == commands
    assert len(examples()) >= 15


def _always(data: bytes, item: Item) -> bytes:
    return data


@pytest.mark.parametrize("example", examples())
def test_the_example_runs(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, record in FILES.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(encode(record))
    arguments = shlex.split(example)[1:]
    if (
        arguments[0]
        in (
            "predict",
            "replay",
            "heads",
            "check",
            "run",
            "slurm",
            "kubernetes",
        )
        or "--engine" in arguments
    ):  # these need a model: the documents' own run against a server
        build_parser().parse_args(arguments)
        return
    if arguments[0] in ("table", "evaluate"):
        data = data_of(tmp_path / "data", 2)
        for name, view in (("out", "mean"), ("other", "selection")):
            record = replace(MADE, views={view: replace(MEAN, facts=replace(MEAN.facts, name=view))})
            worked(tmp_path / name, data, Made(data.parent, before=partial(_always, encode(record))))
        (tmp_path / "boxes.json").write_text('{"q0": {"red circle": [0, 0, 32, 24]}}', encoding="utf-8")
    assert main(arguments) == 0
