"""A comparison in a real browser: chosen words, shared scale, locked patch, difference; with and without JavaScript."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llava_viewer.look.wording import percent
from llava_viewer.pages.compare import Pick, render_compare
from llava_wire.record import Record
from support.golden import HOSTILE, hostile_record
from support.pixels import decoded
from support.synthetic import make_record

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
Show = Callable[..., Any]
BOTH = pytest.mark.parametrize("js", [True, False], ids=["js", "no-js"])


@pytest.fixture(scope="module")
def runs() -> list[Record]:
    made = [make_record(words=("A", " red", " circle"), prompt="What is there?", reductions=("layers_heads",))]
    made.append(
        make_record(words=("Two", " shapes"), prompt="How many?", reductions=("layers_heads",), image_share=0.2)
    )
    return made


@pytest.fixture(scope="module")
def page_file(runs: list[Record], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compare") / "compare.html"
    html = render_compare([Pick(run, f"{number}.npz") for number, run in enumerate(runs)])
    path.write_text(html, encoding="utf-8")
    return path


def shown_maps(page: Any) -> list[np.ndarray]:
    uris = page.locator(".heat image:visible").evaluate_all("all => all.map(image => image.getAttribute('href'))")
    return [decoded(uri) for uri in uris]


def choose(page: Any, key: str) -> None:
    page.click(f"label[for={key}]")


@BOTH
def test_each_run_shows_its_chosen_word(show: Show, page_file: Path, runs: list[Record], js: bool) -> None:
    page = show(page_file, js=js)
    choose(page, "a-t2")
    choose(page, "b-t1")
    first, second = shown_maps(page)
    assert np.array_equal(first, runs[0].views["layers_heads"].on_grid()[2])
    assert np.array_equal(second, runs[1].views["layers_heads"].on_grid()[1])
    assert page.locator(".fact:visible").count() == 2
    assert page.locator(".ramp .k i:visible").count() == 2
    choose(page, "b-all")
    assert np.array_equal(shown_maps(page)[0], first)
    assert "20\u00a0% of the attention" in page.locator(".fact:visible").nth(1).inner_text()


@BOTH
def test_one_scale_for_all_runs_tells_one_maximum(show: Show, page_file: Path, js: bool) -> None:
    page = show(page_file, js=js)
    for key in ("a-t1", "b-t0"):
        choose(page, key)
    most = page.locator(".run .ramp .k b:visible").all_inner_texts()
    assert most[0] == most[1]
    choose(page, "s-token")
    own = page.locator(".run .ramp .k b:visible").all_inner_texts()
    assert own[0] != own[1]
    assert page.locator(".ramp .c:visible").count() == 2, "the legend's colours stay in both scales"
    choose(page, "s-shared")
    assert page.locator(".ramp .c:visible").count() == 2


def test_the_difference_follows_the_words(show: Show, page_file: Path, runs: list[Record]) -> None:
    page = show(page_file)
    choose(page, "a-t1")
    choose(page, "b-t1")
    expect(page.locator("#of")).to_have_text("of A “red”, B “shapes”")
    image = page.locator("#diff-b .delta image")
    most = float(image.get_attribute("data-max"))
    gap = runs[0].maps_float()[1] - runs[1].maps_float()[1]
    pixels = decoded(image.get_attribute("href"))[..., 0].astype(float)
    assert most == pytest.approx(float(np.abs(gap).max()), rel=2e-3)
    assert np.abs((pixels - 128) / 127 * most - gap).max() < most / 127


def test_without_javascript_the_difference_is_that_of_the_whole_answers(
    show: Show, page_file: Path, runs: list[Record]
) -> None:
    page = show(page_file, js=False)
    assert page.inner_text("#of") == "of the whole answers"
    pixels = decoded(page.locator("#diff-b .delta image").get_attribute("href")).astype(float)
    gap = runs[0].maps_float()[:-1].mean(0) - runs[1].maps_float()[:-1].mean(0)
    assert np.unravel_index(pixels.argmin(), pixels.shape) == np.unravel_index(gap.argmin(), gap.shape)


def test_all_pictures_show_the_same_patch(show: Show, page_file: Path, runs: list[Record]) -> None:
    page = show(page_file)
    for key in ("a-t1", "b-t1"):
        choose(page, key)
    page.focus("#stage-b")
    page.keyboard.press("ArrowUp")
    places = page.locator(".cursor").evaluate_all(
        "all => all.map(one => [one.getAttribute('x'), one.classList.length])"
    )
    assert len({x for x, _ in places}) == 1
    assert page.locator(".cursor:visible").count() == 3
    first, second = (run.maps_float()[1, 3, 4] for run in runs)
    text = f"Row 3, column 4: A {percent(first)}, B {percent(second)}, A − B {'+' if first > second else '−'}"
    expect(page.locator("#readout")).to_contain_text(text)
    page.focus("#stage-a")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#readout")).to_contain_text("column 3")


def test_nearly_all_is_not_told_as_one_percent(show: Show, tmp_path: Path) -> None:
    records = [make_record(words=("A",), reductions=("layers_heads",)) for _ in range(2)]
    for record, value in zip(records, (0.997, 0.9962), strict=True):
        view = record.views["layers_heads"]
        view.stored[:] = 0
        view.on_grid()[:, 3, 4] = 255
        view.scales[:] = value / 255**2
    path = tmp_path / "nearly.html"
    path.write_text(render_compare([Pick(record, "a.npz") for record in records]), encoding="utf-8")
    page = show(path)
    page.focus("#stage-a")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#readout")).to_contain_text("A 99.70\u00a0%, B 99.62\u00a0%, A − B +0.080\u00a0points")
    assert page.locator(".run .ramp .k b:visible").all_inner_texts() == ["99.70\u00a0%"] * 2


def test_words_move_together_when_asked(show: Show, page_file: Path) -> None:
    page = show(page_file, "#a=2&b=0&m=map&s=token&p=viridis")
    for key in ("a-t2", "b-t0", "m-map", "s-token", "p-viridis"):
        assert page.is_checked(f"#{key}")
    page.check("#together")
    choose(page, "a-t1")
    assert page.is_checked("#b-t1")
    page.wait_for_url(lambda url: url.endswith("#a=1&b=1&m=map&s=token&p=viridis"))
    page.keyboard.press("ArrowRight")
    assert page.is_checked("#a-t2")
    assert page.is_checked("#b-t2"), "the end token of the second run"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(
    show: Show, page_file: Path, inspect_access: Callable[[Any], list[str]], theme: str, tmp_path: Path
) -> None:
    record = hostile_record()
    hostile = tmp_path / "hostile.html"
    picks = [Pick(record, HOSTILE, HOSTILE), Pick(record, HOSTILE, "all"), Pick(record, HOSTILE)]
    hostile.write_text(render_compare(picks), encoding="utf-8")
    for path in (page_file, hostile):
        assert not inspect_access(show(path, color_scheme=theme))


@BOTH
def test_nothing_overflows_a_phone(show: Show, page_file: Path, js: bool) -> None:
    page = show(page_file, js=js, viewport={"width": 360, "height": 740})
    if js:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    boxes = [page.locator(f"#stage-{letter}").bounding_box() for letter in "ab"]
    assert boxes[1]["x"] > boxes[0]["x"] + boxes[0]["width"], "beside each other"


@pytest.mark.parametrize(("width", "height", "count"), [(1280, 720, 2), (1280, 720, 4), (390, 844, 2), (390, 844, 4)])
@BOTH
def test_all_images_are_in_sight_on_opening(
    show: Show, tmp_path: Path, js: bool, width: int, height: int, count: int
) -> None:
    words = ["A", *(f" word{number}" for number in range(130))]
    run = make_record(words=words, width_px=300, height_px=200, reductions=("layers_heads",))
    path = tmp_path / "compare.html"
    path.write_text(render_compare([Pick(run, f"{n}.npz") for n in range(count)]), encoding="utf-8")
    page = show(path, js=js, viewport={"width": width, "height": height})
    bottoms = [box["y"] + box["height"] for box in map(box_of, page.locator("#runs .stage").all())]
    seen = bottoms if width > height else bottoms[:2]
    assert len(bottoms) == count
    assert max(seen) <= height, bottoms


def box_of(stage: Any) -> dict[str, float]:
    return dict(stage.bounding_box())
