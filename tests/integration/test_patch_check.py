"""The check of patches: numbers of transformers alone, every way to an answer, what is refused, and a third check."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from integration.test_several_images import OPTIONS, TALL, WIDE
from integration.test_some_patches import answered, forced
from llava_doors.check import Check, Finding
from llava_doors.door import CHECKS, Declaration
from llava_doors.method import Needs
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_server.look import some_patches
from llava_wire import Record, RequestError, decode, encode
from llava_wire.choose import choose_patches, ordinary_tokens
from llava_wire.findings.patches import MAX_WORDS, PatchCheck, brightest, usual_top
from support.installed import installed
from support.own_check import DECLARATION as HALVES

DOCUMENT = Path(__file__).parents[2] / "docs" / "checks.md"
OWN_CHECK = Path(__file__).parents[1] / "support" / "own_check.py"
TWO = {"layers": "all", "heads": "all"}
VIEWS = [{"name": "apart", **TWO, "reduction": "none"}, {"name": "whole", "reduction": "all"}, {"name": "one", **TWO}]


def found(record: Record) -> PatchCheck:
    check = PatchCheck.of_checks(record.facts.checks, len(record.tokens), sum(grid.patches for grid in record.grids))
    assert check is not None, record.facts.checks
    return check


def numbers(check: PatchCheck) -> np.ndarray:
    return np.array(
        [[w.alone, w.hidden, w.random_alone, w.random_alone_low, w.random_alone_high,
          w.random_hidden, w.random_hidden_low, w.random_hidden_high] for w in check.words]
    )  # fmt: skip


def test_every_number_is_that_of_transformers(engine, eager, first_scene):
    record = decode(encode(answered(engine, first_scene, check=["patches"])))
    check = found(record)
    assert (check.view, check.top, check.sets, check.of) == ("mean", 4, 16, len(ordinary_tokens(record.tokens)))
    assert [word.token for word in check.words] == ordinary_tokens(record.tokens)

    def probabilities(patches) -> np.ndarray:
        """[alone or hidden, token]"""
        keep = np.zeros(64, bool)
        keep[list(patches)] = True
        return np.exp([forced(eager, engine.loaded.processor, record, first_scene, one) for one in (keep, ~keep)])

    random = [probabilities(np.random.default_rng([0, number]).permutation(64)[:4]) for number in range(16)]
    for word in check.words:
        assert word.patches == brightest(record.map(word.token).ravel(), 4)
        alone, hidden = probabilities(word.patches)[:, word.token]
        beside = np.stack(random)[:, :, word.token]  # [set, alone or hidden]
        spread = [f(beside[:, way]) for way in (0, 1) for f in (np.mean, np.min, np.max)]
        np.testing.assert_allclose(numbers(replace(check, words=(word,)))[0], [alone, hidden, *spread], atol=1e-4)
    yellow = next(word for word in check.words if record.tokens[word.token].text == " yellow")
    assert (yellow.patches, yellow.alone > 0.99, yellow.random_alone < 0.5) == ((25, 26, 33, 34), True, True)


def test_every_way_to_an_answer_gives_the_same(engine, static_engine, first_scene, pictures):
    alone = answered(engine, first_scene, check=["patches"])
    ways = [
        *engine.run([GenerateRequest.build(one, "Describe the image.", {"check": ["patches"]})
                     for one in (first_scene, *pictures)])[:1],
        answered(static_engine, first_scene, check=["patches"]),
        *engine.run([GenerateRequest.replay(alone, {"check": ["patches"]}, first_scene)]),
        [*engine.stream(GenerateRequest.build(first_scene, "Describe the image.", {"check": ["patches"]}))][-1],
    ]  # fmt: skip
    for record in ways:
        assert isinstance(record, Record)
        assert [w.patches for w in found(record).words] == [w.patches for w in found(alone).words]
        np.testing.assert_allclose(numbers(found(record)), numbers(found(alone)), atol=1e-4)
    several = answered(engine, first_scene, check=["patches"], num_beams=2, num_return_sequences=2)
    assert all(found(one).words for one in (several, *several.alternatives))


def test_which_words_whose_maps_and_how_many_patches(engine, first_scene):
    views = [*VIEWS, {"name": "gave", "method": "contributions"}]
    named = {"name": "patches", "steps": [6, 5], "view": "gave", "top": 64, "sets": 2, "seed": 9}
    check = found(record := answered(engine, first_scene, views=views, check=[named]))
    assert (check.view, check.top, check.sets, check.seed, check.of) == ("gave", 64, 2, 9, 2)
    for word in check.words:
        values = record.map(word.token, view="gave").ravel()
        assert word.patches == tuple(np.flatnonzero(values > 0)) != ()
        assert len(word.patches) < 64
    first = found(answered(engine, first_scene, views=views, check=["patches"]))
    assert first.view == "one"
    mean = found(record := answered(engine, first_scene, views=views, check=[{"name": "patches", "view": "apart"}]))
    maps = choose_patches(record.views["apart"])
    assert [word.patches for word in mean.words] == [brightest(maps[word.token], 4) for word in mean.words]
    own = {"name": "patches", "patches": {5: [34, 25, 33, 26], 6: [0], 60: [3]}}
    check = found(answered(engine, first_scene, views=VIEWS[:2], check=[own]))
    assert (check.view, check.top, check.of) == ("", 0, 3)  # step 60 was asked for, and the answer ended before it
    assert [(word.token, word.patches) for word in check.words] == [(5, (25, 26, 33, 34)), (6, (0,))]
    assert check.words[0].alone > 0.9 > check.words[1].alone


def test_brightest_patches_are_positive_and_of_equal_ones_the_first():
    assert brightest(np.array([0.0, 2.0, -3.0, 2.0, 1.0, 2.0]), 2) == (1, 3)
    assert brightest(np.array([0.0, 2.0, -3.0]), 3) == (1,)
    assert brightest(np.zeros(4), 2) == ()
    assert [usual_top(patches) for patches in (1, 16, 64, 576)] == [1, 1, 4, 36]


@pytest.mark.parametrize(
    ("parameters", "options", "field", "says"),
    [
        ({"view": "x"}, {}, "view", r"\['mean', 'next-object', 'named-object'\]"),
        ({"view": "whole"}, {"views": VIEWS}, "view", r"\['apart', 'one'\]"),
        ({}, {"views": VIEWS[:2]}, "view", "reduction layers_heads"),
        ({}, {"rows": "prompt"}, "view", "rows"),
        ({"top": 65}, {}, "top", "up to 64"),
        ({"steps": [3]}, {"steps": [4, 5]}, "steps", "got 3"),
        ({"steps": list(range(MAX_WORDS + 1))}, {}, "steps", "101 words"),
        ({"patches": {"5": [64]}}, {}, "patches.5", "0 to 63"),
        ({"patches": {"5": [6]}, "top": 3}, {}, "top", "beside patches"),
        ({"patches": {str(n): [6] for n in range(101)}}, {}, "patches", "101 words"),
    ],
)
def test_what_cannot_be_tested_is_refused_before_it_runs(engine, first_scene, parameters, options, field, says):
    request = GenerateRequest.build(
        first_scene, "Describe the image.", {**options, "check": ["image", {"name": "patches", **parameters}]}
    )
    with pytest.raises(RequestError, match=says) as refused:
        engine.estimate(request)
    assert (refused.value.code, refused.value.field) == ("invalid", f"options.check[1].{field}")


def test_words_without_a_map_and_late_ones_are_not_tested(engine, first_scene, monkeypatch):
    short = answered(engine, first_scene, "What colour is the triangle?", check=[{"name": "patches", "view": "less"}],
                     views=[{"name": "less", **TWO, "method": "contrast"}], max_new_tokens=2)  # fmt: skip
    assert short.facts.checks["patches"] == {"result": "not tested", "reason": "no word has a map with a value above 0"}
    seen = []

    def late(self, keep):
        seen.append(len(keep))
        return some_patches.log_probs(replace(self, asked=replace(self.asked, deadline_s=-math.inf)), keep)

    monkeypatch.setattr("llava_server.look.seen.Seen.log_probs", late)
    record = answered(engine, first_scene, check=["image", "patches"])
    reason = "the request's time passed before it was tested"
    assert record.facts.checks["patches"] == {"result": "not tested", "reason": reason}
    assert record.facts.checks["image"]["result"] == "measured"  # one pass is worth having
    assert (len(seen), record.answer) == (2, "From left to right: yellow triangle, blue circle.")


def test_words_after_the_answers_end_are_counted_and_named(engine, first_scene):
    check = found(answered(engine, first_scene, check=[{"name": "patches", "steps": [5, 60]}]))
    assert (check.of, [word.token for word in check.words]) == (2, [5])
    record = answered(engine, first_scene, check=[{"name": "patches", "steps": [61, 60]}])
    reason = f"the answer ended at step {len(record.tokens) - 1}, before the words asked for (60, 61)"
    assert record.facts.checks["patches"] == {"result": "not tested", "reason": reason}


def test_its_passes_are_counted_and_bounded(engine, first_scene):
    limits = replace(engine.settings.limits, max_passes=100)
    few = Engine(engine.loaded, replace(engine.settings, limits=limits))
    asked = [{"name": "patches", "steps": [5]}, {"name": "patches", "steps": [5], "sets": 60}]
    fits, refused = few.run([GenerateRequest.build(first_scene, "Describe the image.", {"check": [c]}) for c in asked])
    assert isinstance(fits, Record)
    assert isinstance(refused, RequestError)
    assert (refused.code, refused.field) == ("does_not_fit", "options.check")
    own = {"name": "patches", "sets": 20, "patches": {"5": [1, 2], "6": [3, 4], "7": [3]}}
    estimate = few.estimate(GenerateRequest.build(first_scene, "Describe the image.", {"check": [own]}))
    assert estimate.passes == {"check patches": 2 * (3 + 2 * 20)}


def test_it_is_counted_beforehand(engine, first_scene):
    asked = {
        name: engine.estimate(GenerateRequest.build(first_scene, "Describe the image.", {"check": check}))
        for name, check in {"none": [], "image": ["image"], "patches": ["patches"]}.items()
    }
    assert asked["none"].device_bytes <= asked["image"].device_bytes < asked["patches"].device_bytes
    assert (asked["image"].passes, asked["patches"].passes) == ({}, {"check patches": 2 * (64 + 4 * 16)})
    assert asked["image"].response_bytes < asked["patches"].response_bytes
    limits = replace(engine.settings.limits, batch_bytes=asked["image"].device_bytes)
    small = Engine(engine.loaded, replace(engine.settings, limits=limits))
    with_it, without = small.run(
        [GenerateRequest.build(first_scene, "Describe the image.", {"check": [name]}) for name in ("patches", "image")]
    )
    assert isinstance(without, Record)
    assert isinstance(with_it, RequestError)
    assert (with_it.code, "leave out check 'patches'" in with_it.message) == ("does_not_fit", True)


def test_several_grids_are_one_row_of_patches(toy):
    record = answered(toy, [WIDE, TALL], "What?", **{**OPTIONS, "rows": "answer", "reduction": "layers_heads"},
                      check=["patches"])  # fmt: skip
    check, patches = found(record), sum(grid.patches for grid in record.grids)
    assert {len(word.patches) for word in check.words} == {usual_top(patches)}
    [view] = record.views.values()
    for word in check.words:
        assert word.patches == brightest(view.patches_float()[word.token], usual_top(patches))


class Odd(Check):
    """Does what a test says."""

    declared, made = Needs(rows="none", passes=1), Finding()

    def needs(self, asked, facts, reach):
        return Odd.declared

    def test(self, seen, answer, asked):
        if isinstance(Odd.made, Exception):
            raise Odd.made
        return Odd.made


ODD = Declaration("odd", "Does what a test says.", "integration.test_patch_check:Odd")


def test_a_third_check_is_one_file(engine, first_scene, tmp_path, monkeypatch):
    code = OWN_CHECK.read_text("utf-8")
    assert f"```python\n{code}```" in DOCUMENT.read_text("utf-8")
    (tmp_path / "own_check.py").write_text(code, "utf-8")
    with installed(tmp_path, CHECKS, "own_check:DECLARATION"):
        record = decode(encode(answered(engine, first_scene, check=["halves", "image"])))
    halves = record.facts.checks[HALVES.name]
    left = np.arange(64) % 8 < 4
    scorer = engine.scorer(record, 5, first_scene)
    np.testing.assert_allclose(
        [halves["left"][5], halves["right"][5]], np.exp(scorer.log_probs(np.stack([left, ~left]))), atol=1e-5
    )
    assert halves["result"] == record.facts.checks["image"]["result"] == "measured"
    with pytest.raises(RequestError, match="expected one of"):
        answered(engine, first_scene, check=["halves"])


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (ValueError("no such thing"), "ValueError .no such thing. from check 'odd'"),
        (Finding({"many": [0] * 2001}), "got more values, expected 2000"),
        (Finding(tokens={"height": [1.0]}), "expected .'without_image'."),
        (Finding(tokens={"without_image": [-1.0]}), "one for each token"),
        (Needs(rows="asked"), "passes, and gradients of them"),
    ],
)
def test_a_strangers_check_that_fails_is_named(engine, first_scene, tmp_path, made, says):
    Odd.declared, Odd.made = (made, Finding()) if isinstance(made, Needs) else (Needs(rows="none", passes=1), made)
    with installed(tmp_path, CHECKS, "integration.test_patch_check:ODD"):
        [refused] = engine.run([GenerateRequest.build(first_scene, "Describe the image.", {"check": ["odd"]})])
    assert isinstance(refused, RequestError)
    assert refused.code == "internal"
    with pytest.raises(RequestError, match=says):
        raise refused
