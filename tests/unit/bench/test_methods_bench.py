"""What methods and the check add: every method but those of many passes, and parts of the decoding time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench import methods
from bench.parts.results import read
from llava_doors.door import METHODS

MANY_PASSES = {"integrated_gradients", "occlusion", "rise"}


@pytest.mark.parametrize("shape", [[], ["--shape", "64x4x2"]], ids=["llava-shapes", "random weights"])
def test_every_brief_method_and_the_check_are_measured(tmp_path: Path, shape: list[str]) -> None:
    threads = torch.get_num_threads()
    try:
        out = ["--rounds", "2", "--new-tokens", "4", "--out", str(tmp_path / "m.json")]
        assert methods.main([*out, *shape]) == 0
    finally:
        torch.set_num_threads(threads)
    result = read(tmp_path / "m.json")
    assert result is not None
    measured = {row.name.removesuffix(": added to the answer") for row in result.figures[1:]}
    assert measured == {methods.CHECK, *METHODS.known()} - {methods.PLAIN, *MANY_PASSES}
    assert {row.name: row.at_most for row in result.figures if row.at_most} == {
        "check without the image: added to the answer": 1.0, "contributions: added to the answer": 0.5,
    }  # fmt: skip


def test_what_is_added_is_taken_round_by_round() -> None:
    spent = {"attention": [1.0, 2.0, 3.0], "contributions": [1.5, 2.5, 3.5], "decoding": [0.5, 0.5, 0.5]}
    decoding, added = methods.figures(spent)
    assert (decoding.value, decoding.unit) == (500, "ms")
    assert (added.value, added.low, added.high, added.at_most) == (1, 1, 1, 0.5)
    assert added.met is False
