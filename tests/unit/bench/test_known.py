"""Maps of known scenes: what is asked, how it is judged, and what the tables say of numbers known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bench.known import truth
from bench.known.asked import MODEL, numbered
from bench.known.figures import BELOW, GOALS, above, figures, interval
from bench.known.page import BEGIN, END, PAGE, order, replaced, tables
from bench.known.views import RANDOM_HEAD, UNIFORM, Served, judged, named, scenes_of
from bench.parts.results import PUBLISHED, Result, read
from llava_doors.door import METHODS
from llava_server.ask.options import parse_options
from llava_server.ask.plan import make_plan
from servekit.paths import SetupError

SCENES = 40
WORDS = {"colour": 3, "shape": 3, "what colour": 1, "where": 2, "yes": 1, "again": 4, "neighbour": 10}
"""Of each scene."""


def per_scene(share: float, words: int) -> list[float]:
    """Sums of scenes whose words all have the same score."""
    return [share * words] * SCENES


def view(**shares: float) -> dict[str, list[float]]:
    """A view that points at these shares of its words, 1 where nothing is said; a fifth of them when misread."""
    given = {"energy": 0.7, "iou": 0.5, "box": 0.6, "neighbour": 0.2, "turned": 0.2, **shares}
    return {
        key: per_scene(given.get(key, 1.0), WORDS.get(key, 10)) for key in (*WORDS, "energy", "iou", "box", "turned")
    }


def raw(**views: dict[str, list[float]]) -> dict[str, object]:
    """A measurement."""
    words = {key: [count] * SCENES for key, count in WORDS.items()}
    low = dict.fromkeys(("colour", "shape", "what colour", "where", "yes", "again"), 0.1)
    return {"words": words, **views, RANDOM_HEAD: view(**low), UNIFORM: view(**low)}


SINKS = {"answers": [8] * SCENES, "alarms": {"the mean of all heads": [0] * SCENES, "next-object": [1, *[0] * 39]}}
SETTINGS = {"scenes": SCENES, "seed": 1, "questions": 320, "right": 319, "precision": "uint8", "passes": 9}


def test_columns_are_means_over_words() -> None:
    known = raw(contributions=view(where=0.5, energy=0.6))
    answers = interval(known, "contributions", "answers")
    assert answers is not None
    assert answers.value == pytest.approx((1 + 1 + 1) / 4), "one of two places, the colour and the yes"
    assert interval(known, "contributions", "energy").value == pytest.approx(0.6)  # type: ignore[union-attr]
    assert interval(known, "contributions", "what shape") is None, "no such words"
    assert interval(known, "contributions", "all").value == pytest.approx(0.9)  # type: ignore[union-attr]
    assert above(known, "contributions", RANDOM_HEAD).value == pytest.approx(0.8)
    assert above(known, "contributions", "turned").value == pytest.approx(0.7)


def test_targets_and_controls_are_met_or_missed() -> None:
    known = raw(contributions=view(), value_norm=view(colour=0.5), contrast=view(neighbour=0.95))
    rows = {row.name: row for row in figures(known, SINKS)}
    assert {name.split(":")[0] for name in rows} >= set(GOALS)
    missed = {name for name, row in rows.items() if row.met is False}
    assert missed == {
        "value_norm: colour words point",
        "contrast: more than its own map of a word beside, which is not about the object",
    }
    assert all(row.at_least == BELOW for name, row in rows.items() if "more than" in name)
    assert rows["sink_free, next-object: false alarms"].value == pytest.approx(1 / 320)


def test_tables_show_the_best_first_and_fewer_scenes_where_there_were_fewer() -> None:
    few = {key: sums[:9] for key, sums in view(colour=0.9).items()}
    known = raw(contrast=view(colour=0.2), contributions=view(), mine=few)
    assert order(known) == ["contributions", "mine", "contrast", RANDOM_HEAD, UNIFORM]
    result = Result("", "", {}, SETTINGS, figures({**known, "value_norm": view()}, SINKS), {**known, "sinks": SINKS})
    text = tables(result)
    assert "120 colour and 120 shape words of descriptions, 160 answer words" in text
    assert "| `mine` (9 scenes) | .900 (.900-.900) | 1.000 (1.000-1.000) |" in text
    assert "**missed**: contrast: colour words point, .200 (.200-.200)" in text
    assert "1 in the view `next-object` (0.3 %, 0.0 to 0.9)" in text
    page = replaced(f"before\n{BEGIN}\nold\n{END}\nafter", result)
    assert page == f"before\n{BEGIN}\n{text}\n{END}\nafter"


def test_the_page_shows_the_published_results() -> None:
    result = read(PUBLISHED / truth.FILE)
    assert result is not None
    document = PAGE.read_text("utf-8")
    assert document == replaced(document, result)
    judged_ones = set(order({name: found for name, found in result.raw.items() if name != "sinks"}))
    assert set(judged()) <= judged_ones, "make truth measures every method"


def test_every_method_and_variant_is_asked_for() -> None:
    asked = judged()
    assert {view["method"] for view in asked.values()} == {*METHODS.known()} - {"text_attention"}
    assert asked["relative, form ratio"]["parameters"] == {"form": "ratio"}
    served = Served.of(MODEL)
    plan = make_plan(parse_options({"views": named(asked)}), served.facts, served.settings)
    assert [view.name for view in plan.views] == list(asked)


def test_methods_of_many_passes_are_judged_on_as_many_scenes_as_a_budget_allows() -> None:
    served = Served.of(MODEL)
    assert served.passes(judged()["value_norm"]) == 0
    passes = served.passes({"method": "integrated_gradients", "parameters": {"steps": 10}})
    assert passes == 10 * (1 + 2 * 8) + 2, "by the method's own word, for the rows of eight words"
    assert scenes_of(0, 240, 1) == 240
    assert scenes_of(passes, 240, 100 * passes) == 20, "five answers a scene"
    assert (scenes_of(passes, 240, 10**9), scenes_of(passes, 240, 1)) == (240, 2)


def test_earlier_results_are_kept_where_only_missing_views_are_measured() -> None:
    raw = {"words": {"colour": [1, 2, 2]}, "attention": {"colour": [1, 1, 1]}, "sinks": SINKS}
    earlier = Result("", "", {}, {}, [], raw)
    new = {"raw": {"words": {"colour": [1, 2, 0]}, "rise": {"colour": [1, 2]}}, "sinks": {}, "right": 2}
    assert truth.joined(new, earlier) == {
        "raw": {"words": raw["words"], "attention": raw["attention"], "rise": {"colour": [1, 2]}},
        "sinks": SINKS,
    }
    with pytest.raises(SetupError, match="other colour words"):
        truth.joined({"raw": {"words": {"colour": [1, 1, 0]}, "rise": {"colour": [1, 2]}}}, earlier)


def test_scenes_are_numbered_in_the_order_of_their_questions() -> None:
    items = numbered(3)
    assert [number for number, _ in items] == sorted(number for number, _ in items)
    assert {number for number, _ in items} == {0, 1, 2}
    assert all(np.shares_memory(a.scene.labels, b.scene.labels) == (i == j) for i, a in items for j, b in items)
