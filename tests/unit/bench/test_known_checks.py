"""What checks tell: parts, areas and the page from numbers known by hand, and the published results."""

from __future__ import annotations

import numpy as np
import pytest

from bench.known.asked import numbered
from bench.known.checks import FILES, MAPS, SCENES, SEED, asked_of, of_model, result_of
from bench.known.checks_page import PAGE, marks, replaced, text
from bench.known.figures import missed
from bench.known.page import cell
from bench.known.separation import area, figures, kept, maps, needing, views_of, wrong_of
from bench.known.sets import MISSED, RIGHT, WRONG
from bench.parts.intervals import Interval
from bench.parts.results import PUBLISHED, read

KINDS = [RIGHT, RIGHT, MISSED]


def words(alone: list[float], hidden: list[float], kinds: list[str]) -> dict[str, list]:
    """Three words of each of four scenes."""
    scenes = [scene for scene in range(4) for _ in range(3)]
    return {"scene": scenes, "map": kinds * 4, "alone": alone * 4, "hidden": hidden * 4}


RAW = {
    "tokens": {"scene": [0, 0, 1, 1, 2, 2], "said": [5.0, 0.1, 4.0, 0.0, 0.2, 0.1], "really": [3, 0, 2, 0.9, 1.5, 0]},
    "the true box": words([1.0, 0.9, 0.8], [0.2, 0.9, 0.9], [""] * 3),
    "random": words([0.9, 0.1, 0.1], [1.0, 1.0, 1.0], [""] * 3),
    "mine": words([1.0, 0.7, 0.4], [0.1, 0.2, 0.9], KINDS),
    "mine, wrong maps": words([0.8, 0.1, 0.2], [0.9, 0.9, 0.15], [*WRONG]),
}
RAN = {"cpu": "a core", "capability": "AVX2", "cores": 2, "threads": 1, "torch": "2"}
SETTINGS = {"model": "llava-things", "patches": 196, "top": 12, "scenes": 4, "seed": 1, "maps": ["mine"]}


def test_parts_and_areas_are_counted_by_hand():
    assert views_of(RAW) == ["mine"]
    assert kept(RAW, "random", "alone").value == pytest.approx(1 / 3)
    assert kept(RAW, "the true box", "hidden").value == pytest.approx(2 / 3)
    said, really, _ = needing(RAW)
    assert really.tolist() == [True, False, True, False, True, False]
    assert area(said, really, np.array(RAW["tokens"]["scene"])).value == 1.0
    assert area(*maps(RAW, ["mine"])).value == pytest.approx(5 / 6), "0.7 lies below the 0.8 of another object's map"
    assert area(*maps(RAW, ["mine"], ["transposed"])).value == 1.0
    hidden = maps(RAW, ["mine"], way="hidden")
    assert area(*hidden).value == pytest.approx(5 / 6), "hidden, 0.2 lies above the 0.15 of the transposed map"
    assert set(hidden[1]) == {True, False}
    assert len(hidden[1]) == 4 * 5, "missed maps are neither right nor wrong ones"


def test_targets_are_met_or_missed():
    rows = {figure.name: figure for figure in figures(RAW)}
    assert {name: figure.met for name, figure in rows.items() if figure.met is not None} == {
        "tokens that need the image; n = 3 and 3": True,
        "words kept by patches of the true box alone; n = 12": True,
        "words kept by random patches alone; n = 12": True,
        "right maps from wrong ones, by p with their patches alone; n = 8 and 12": True,
    }
    worse = RAW | {"random": RAW["the true box"], wrong_of("mine"): RAW["mine"] | {"map": [*WRONG] * 4}}
    assert {figure.name.split(";")[0] for figure in figures(worse) if missed(figure)} == {
        "words kept by random patches alone",
        "right maps from wrong ones, by p with their patches alone",
    }


def test_the_page_has_every_kind_of_patches():
    result = result_of(RAW, SETTINGS, RAN)
    written = text(result)
    assert "6 tokens, 3 of which need the image" in written
    assert "| random places | 12 | .333 (.333-.333) | 1.000 (1.000-1.000) |" in written
    assert "| right maps of `mine` from wrong ones | `patches`: p with them alone | 8 and 12 | .833" in written
    assert "| 12 patches of |" in written
    begin, end = marks("llava-things")
    assert replaced(f"a\n{begin}\nold\n{end}\nb", result) == f"a\n{begin}\n{written}\n{end}\nb"


@pytest.mark.parametrize("model", FILES)
def test_questions_are_a_description_and_one_other_of_each_scene(model):
    items = asked_of(12, model)
    assert [scene for scene, _ in items] == [scene for scene in range(12) for _ in range(2)]
    assert {item.question.kind for _, item in items[::2]} == {"describe"}
    assert len({item.question.kind for _, item in items[1::2]}) > 3
    every = {(scene, item.question.text) for scene, item in numbered(12, SEED, model)}
    assert {(scene, item.question.text) for scene, item in items} < every


@pytest.mark.parametrize(("model", "patches", "top"), [("llava-shapes", 64, 4), ("llava-things", 196, 12)])
def test_the_page_shows_the_published_results(model, patches, top):
    result = read(PUBLISHED / FILES[model])
    assert result is not None
    assert result.settings["maps"] == [*MAPS]
    assert result.settings["scenes"] >= (SCENES if model == "llava-shapes" else 16)
    assert of_model(model) == {"model": model, "patches": patches, "top": top}
    assert of_model(model).items() <= result.settings.items()
    if model == "llava-shapes":  # whose targets these are
        assert [figure.name for figure in result.figures if missed(figure)] == []
    document = PAGE.read_text("utf-8")
    assert document == replaced(document, result)
    for figure in result.figures:
        assert figure.low is not None
        assert figure.high is not None
        assert cell(Interval(figure.value, figure.low, figure.high)) in document, figure.name
