"""The capture benchmarks run on tiny models, and what they compare computes the same attention."""

from __future__ import annotations

import contextlib
import io
import json
import types

import pytest
import torch

from bench import capture, memory, operations
from bench.parts.footprint import footprint
from bench.parts.results import read
from bench.parts.text_model import PromptCache, text_model
from bench.parts.timing import Series
from bench.parts.ways import Answer, ways
from llava_server.attend.capture import register

PROMPT, SHAPE = 160, "64x4x2"


@pytest.fixture(scope="module")
def model():
    register()
    return text_model(SHAPE, torch.float32, torch.device("cpu"))


@torch.no_grad()
def run(model, key: str, filled: PromptCache, steps: int) -> Answer:
    answer = Answer(model, ways(2, 4)[key], PROMPT, filled.start())
    answer.attach()
    for place in range(PROMPT - 1, PROMPT + steps):
        answer.forward(torch.tensor([[7]]), torch.tensor([[place]]))
        if place >= PROMPT:
            answer.stepped(place)
    answer.detach()
    answer.finish()
    return answer


def test_every_way_sees_the_same_attention(model):
    filled = PromptCache(model, PROMPT - 1)
    eager = run(model, "eager", filled, 3)
    image = slice(5, 5 + PROMPT - 40)
    expected = torch.stack([torch.stack([layer[0, :, -1, image] for layer in step]) for step in eager.kept])
    ours = run(model, "unreduced", filled, 3).kept[0].values.reshape(4, 2, 4, -1)
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)
    reduced = run(model, "reduced", filled, 3).kept[0].values
    torch.testing.assert_close(reduced[:, 0], expected.mean((1, 2)), atol=1e-6, rtol=0)
    hooks = torch.stack(run(model, "hooks", filled, 3).kept).reshape(4, 2, -1)
    torch.testing.assert_close(hooks, expected.mean(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("phase", ["decode", "prefill", "attention"])
def test_timing_writes_pairs_and_adds_to_them(phase, tmp_path):
    words = [phase, "--shape", SHAPE, "--prompt", str(PROMPT), "--pairs", "5", "--out", str(tmp_path / "a.json")]
    threads = torch.get_num_threads()
    assert capture.main(words) == 0
    first = read(tmp_path / "a.json")
    assert capture.main([*words, "--ways", "default", "--add"]) == 0
    assert capture.main([*words, "--prompt", "161", "--add"]) == 2
    torch.set_num_threads(threads)
    second = read(tmp_path / "a.json")
    assert {way: len(pairs["way"]) for way, pairs in first.raw.items()}.keys() == second.raw.keys()
    assert len(second.raw["default"]["way"]) == len(second.raw["default"]["base"]) == 10
    assert len(second.raw["idle"]["way"]) == 5
    assert ("question" in second.raw) == (phase != "decode")
    assert all(value > 0 for pairs in second.raw.values() for value in pairs["way"])
    assert bool(second.raw["default"]["afterwards"]) == (phase == "decode")


def test_figures_have_a_target_where_one_is_set_and_an_interval_where_there_are_enough_pairs():
    steps = Series(base=[1.0] * 8, way=[1.01] * 8, afterwards=[0.64])
    [plain, row] = capture.figures("decode", {"default": steps}, {"default": "d", "plain": "p"}, 616)
    assert (plain.name, plain.unit, plain.value) == ("p", "ms", 1000)
    assert (row.value, row.at_most, row.met) == (pytest.approx(1.02), 1.02, True)
    two = {"unreduced": Series([1.0] * 4, [1.02] * 4), "eager": Series([1.0] * 2, [1.5] * 2)}
    titles = dict.fromkeys(("plain", "unreduced", "eager"), "")
    _, ours, eager = capture.figures("prefill", two, titles, 2920)
    assert (ours.at_most, ours.met) == (1.03, True)
    assert (eager.at_least, eager.met, eager.low, eager.high) == (3.5, False, None, None)
    assert "too few for an interval" in eager.note
    _, ours, eager = capture.figures("prefill", two, titles, 616)
    assert ours.met is eager.met is None


def test_footprints_count_what_is_kept(model):
    every, steps = ways(2, 4), 6
    with torch.inference_mode():
        eager, reduced = (footprint(model, every[key], PROMPT, steps) for key in ("eager", "reduced"))
        plain = footprint(model, every["plain"], PROMPT, steps)
    rows = PROMPT * PROMPT + sum(range(PROMPT + 1, PROMPT + steps + 1))
    assert eager.retained == 2 * 4 * rows * 4
    assert reduced.retained == (steps + 1) * (PROMPT - 40 + 4) * 4
    assert (plain.held, plain.retained) == (0, 0)
    # Queries of the last prompt row and of one block of 64 steps per layer, and the place of that row.
    assert reduced.held == 2 * 64 * (64 + 1) * 4 + 8
    assert plain.peak >= 0


@pytest.mark.parametrize("own", [False, pytest.param(True, marks=pytest.mark.long)])
def test_memory_is_measured_in_processes_of_their_own(tmp_path, monkeypatch, own):
    if not own:
        monkeypatch.setattr(memory, "subprocess", types.SimpleNamespace(run=in_this_process, PIPE=None))
    words = ["--shape", SHAPE, "--prompt", str(PROMPT), "--steps", "4", "--ways", "plain", "reduced"]
    assert memory.main([*words, "--out", str(tmp_path / "m.json")]) == 0
    result = read(tmp_path / "m.json")
    assert result.raw["reduced"]["retained"] < result.raw["eager"]["retained"] / 50
    assert result.raw["plain"]["retained"] == 0


def in_this_process(words: list[str], **_: object) -> types.SimpleNamespace:
    """What a process of its own would print, without its start."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = memory.main(words[3:])
    return types.SimpleNamespace(returncode=code, stdout=printed.getvalue())


def test_capture_adds_one_operation_to_each_layer_of_a_step(tmp_path):
    assert operations.main(["--out", str(tmp_path / "o.json")]) == 0
    figures = {row["name"]: row["value"] for row in json.loads((tmp_path / "o.json").read_text())["figures"]}
    added = {name: value for name, value in figures.items() if name.startswith("capture") and "added" in name}
    assert added.pop("capture registered, idle: added to a decode step") == 0
    assert len(added) == 3
    assert set(added.values()) == {1}
