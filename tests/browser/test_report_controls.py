"""The controls of docs/report-controls.md in a real browser: keys, address, board, comparison, files."""

from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser.test_report_page import choose, settle, shown_maps
from PIL import Image as PillowImage

from llava_viewer.look import frames
from llava_viewer.pages.report import render_report
from llava_wire.record import Record
from llava_wire.schema import Query
from support.golden import hostile_record
from support.synthetic import make_record

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
Show = Callable[..., Any]
ROUNDING = 3e-7
"""Two roundings to float32."""


@pytest.fixture(scope="module")
def record() -> Record:
    """Views with every kind of axis, and one row of the question."""
    made = make_record(pairs=((0, 1), (1, 2)))
    queries = (*made.queries[:-1], Query("prompt", 1, 1, 0))
    return replace(made, facts=replace(made.facts, queries=queries))


@pytest.fixture(scope="module", params=[480, 0], ids=["elements", "atlas"])
def report(record: Record, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "run.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "MAX_STATIC_FRAMES", request.param)
        path.write_text(render_report(record), encoding="utf-8")
    return path


def index_of(record: Record, view: str) -> int:
    return list(record.views).index(view)


def test_the_address_names_layer_and_head(show: Show, report: Path, record: Record) -> None:
    stored = record.views["none"].on_grid()
    page = show(report, "#t=5&v=none&l=1&h=2&m=map")
    (shown,) = shown_maps(page)
    assert np.array_equal(shown, stored[5, 1, 2])
    page = show(report, "#t=q1&v=pairs&l=1&h=2")
    (shown,) = shown_maps(page)
    assert np.array_equal(shown, record.views["pairs"].on_grid()[-1, 1]), "a row of the question has its own map"


def test_keys_walk_through_tokens_views_layers_and_heads(show: Show, report: Path, record: Record) -> None:
    page = show(report, "#t=4&v=none&l=0&h=0")
    settle(page)
    for keys, layer, head, token in (("]", 1, 0, 4), ("}}", 1, 2, 4), ("n", 1, 2, 5), ("pp", 1, 2, 3)):
        for key in keys:
            page.keyboard.press(key)
            settle(page)
        (shown,) = shown_maps(page)
        assert np.array_equal(shown, record.views["none"].on_grid()[token, layer, head]), keys
    for key, name in (("m", "m-spotlight"), ("c", "p-viridis"), ("s", "s-shared"), ("u", "b-prob")):
        page.keyboard.press(key)
        assert page.is_checked(f"#{name}"), key
    page.keyboard.press("v")
    assert page.is_checked(f"#v{index_of(record, 'none') + 1}")
    expect(page).to_have_url(re.compile(r"#t=3&v=heads&l=1&m=spotlight&p=viridis&s=shared&b=prob$"))
    page.uncheck("#keys-on")
    page.keyboard.press("m")
    assert page.is_checked("#m-spotlight")


def test_a_layer_alone_is_the_mean_of_its_heads(show: Show, report: Path, record: Record) -> None:
    page = show(report, "#t=6&v=none&l=1")
    mean = record.views["none"].maps_float()[6, 1].mean(axis=0)
    (shown,) = shown_maps(page)
    assert np.abs(shown - 255 * np.sqrt(mean / mean.max())).max() <= 1


@pytest.mark.parametrize(("layers", "heads", "key", "name"), [(1, 3, "]", "L0 H1"), (3, 1, "}", "L1 H0")])
def test_an_axis_with_one_entry_is_no_choice(
    show: Show, tmp_path: Path, layers: int, heads: int, key: str, name: str
) -> None:
    path = tmp_path / "run.html"
    path.write_text(render_report(make_record(layers=layers, heads=heads, reductions=("none",))), encoding="utf-8")
    page = show(path, "#t=2&v=none&h=0" if layers == 1 else "#t=2&v=none&l=1")
    settle(page)
    page.keyboard.press(key)
    settle(page)
    assert page.inner_text("#slotname") == name


def test_an_address_shows_the_same_in_an_open_page_as_in_a_fresh_one(show: Show, report: Path) -> None:
    page = show(report, "#t=3&v=none&m=map&p=inferno&s=shared&b=prob&o=40")
    settle(page)
    page.evaluate("location.hash = '#t=4&v=none&m=heat'")
    page.wait_for_selector("#t4:checked", state="attached")
    assert all(page.is_checked(f"#{name}") for name in ("p-cividis", "s-token", "b-share"))
    assert page.input_value("#opacity") == "100"


def test_a_click_on_the_board_chooses(show: Show, report: Path, record: Record) -> None:
    page = show(report, "#t=2&v=none")
    settle(page)
    board = page.locator("#board")
    expect(board).to_be_visible()
    page.wait_for_function("() => document.querySelector('#board').width > 300 || document.querySelector('.gap')")
    left, top = round(8 * 0.9), round(8 * 0.55)
    scale = board.bounding_box()["width"] / (left + 3 * 8)
    board.click(position={"x": scale * (left + 2.5 * 8), "y": scale * (top + 0.5 * 8)})
    settle(page)
    (shown,) = shown_maps(page)
    assert np.array_equal(shown, record.views["none"].on_grid()[2, 0, 2])


def test_the_card_says_the_same_with_the_script_and_without(show: Show, report: Path, record: Record) -> None:
    def told(page: Any, token: str) -> list[str]:
        choose(page, token)
        parts = (".card h2", ".card .parts dd", ".card .tops", ".card .top5", ".ramp b", ".ramp i", ".card .warn")
        found = [page.locator(f"{part}:visible").all_inner_texts() for part in parts]
        return [" ".join(text.split()) for texts in found for text in texts]

    with_script, without = show(report), show(report, js=False)
    for token in ("t0", "t3", "t8", "q1"):
        assert told(with_script, token) == told(without, token)


def test_bars_under_words_are_of_what_is_chosen_with_the_script_and_without(show: Show, report: Path) -> None:
    def bars(page: Any, *chosen: str) -> list[str]:
        for name in chosen:
            page.locator(f"label[for={name}]:visible").first.click()
            page.wait_for_selector(f"#{name}:checked", state="attached")
        drawn = "words => words.map(word => getComputedStyle(word).borderImageSource)"
        return page.locator(".answer .tok").evaluate_all(drawn)

    with_script, without = show(report), show(report, js=False)
    settle(with_script)
    steps = ((), ("b-prob",), ("v2",), ("b-share",), ("v0",))
    found = [bars(without, *chosen) for chosen in steps]
    assert found == [bars(with_script, *chosen) for chosen in steps]
    shares, chances, still, _, again = found
    assert shares == again != chances == still


def test_pins_and_their_difference(show: Show, report: Path, record: Record) -> None:
    page = show(report, "#t=1&v=layers_heads&m=map")
    settle(page)
    page.keyboard.press("a")
    choose(page, "t4")
    page.keyboard.press("b")
    expect(page.locator(".trio figure")).to_have_count(3)
    with page.expect_download() as download:
        page.click("#save-difference [data-save=csv]")
    maps = record.maps_float()
    lines = [line for line in Path(download.value.path()).read_text("utf-8").splitlines() if not line.startswith("#")]
    found = np.array([[float(one["a"]), float(one["b"]), float(one["a_minus_b"])] for one in csv.DictReader(lines)])
    assert np.allclose(found[:, 0], maps[1].ravel(), rtol=ROUNDING, atol=0)
    assert np.allclose(found[:, 1], maps[4].ravel(), rtol=ROUNDING, atol=0)
    assert np.allclose(found[:, 2], (maps[1] - maps[4]).ravel(), atol=1e-8)
    expect(page).to_have_url(re.compile("pa=1%7Elayers_heads%7E%7E&pb=4%7Elayers_heads%7E%7E$"))
    page.click("#pin-mean")
    expect(page.locator(".trio figure").nth(1)).to_contain_text("mean of all words")
    page.click("#unpin")
    expect(page.locator(".trio figure")).to_have_count(0)


def test_what_is_cleared_stays_cleared_when_an_earlier_map_arrives_late(show: Show, report: Path) -> None:
    page = show(report, "#t=1&v=none&l=1")
    settle(page)
    late = """async () => {
        for (const id of ["pin-mean", "unpin"]) document.getElementById(id).click();
        await new Promise((resolve) => setTimeout(resolve, 500));
        return document.querySelectorAll(".trio figure").length;
    }"""
    assert page.evaluate(late) == 0


@pytest.mark.parametrize("mode", ["heat", "spotlight", "map", "photo"])
def test_saved_files_open_and_hold_the_records_numbers(show: Show, report: Path, record: Record, mode: str) -> None:
    page = show(report, f"#t=3&v=layers_heads&m={mode}")
    settle(page)
    files = {}
    for kind in ("csv", "svg", "png"):
        with page.expect_download() as download:
            page.click(f".looks [data-save={kind}]")
        assert download.value.suggested_filename == f"llava-gaze_t3_layers-heads.{kind}"
        files[kind] = Path(download.value.path()).read_bytes()
    lines = [line for line in files["csv"].decode().splitlines() if not line.startswith("#")]
    table = list(csv.DictReader(lines))
    shares = np.array([float(one["share"]) for one in table], np.float32).reshape(8, 8)
    assert np.allclose(shares, record.maps_float()[3], rtol=ROUNDING, atol=0)
    edges = np.array([[float(one[name]) for name in ("x0_px", "y0_px", "x1_px", "y1_px")] for one in table])
    assert np.allclose(edges.reshape(8, 8, 4), record.geometry.patch_rects(), atol=1e-3)
    root = ET.fromstring(files["svg"])
    assert root.tag.endswith("svg")
    assert "filter" not in files["svg"].decode(), "the colours are baked in"
    picture = PillowImage.open(io.BytesIO(files["png"]))
    assert picture.width == 2100
    assert len(picture.convert("RGB").getcolors(10_000_000)) > 50


def test_a_question_without_spaces_is_broken_into_lines(show: Show, tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    question = "図の中に何がありますか" * 14
    path.write_text(render_report(make_record(prompt=question)), encoding="utf-8")
    page = show(path)
    settle(page)
    with page.expect_download() as download:
        page.click(".looks [data-save=svg]")
    texts = [text for element in ET.parse(download.value.path()).iter() if "図" in (text := element.text or "")]
    assert len(texts) > 1
    assert "".join(texts).endswith(question)
    # How many characters a line takes is the font's affair; that it ends within the figure is not.
    saved = tmp_path / "saved.svg"
    download.value.save_as(saved)
    ends = show(saved).evaluate(
        """() => [...document.querySelectorAll("text")].map((text) => {
            const box = text.getBBox();
            return (box.x + box.width) / document.documentElement.viewBox.baseVal.width;
        })"""
    )
    assert len(ends) > len(texts)
    assert max(ends) <= 1
    assert max(ends) > 0.6, "lines are filled"


def test_hostile_text_stays_text_in_saved_files(show: Show, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    path.write_text(render_report(hostile_record()), encoding="utf-8")
    page = show(path, "#t=0")
    settle(page)
    for kind in ("svg", "csv"):
        with page.expect_download() as download:
            page.click(f".looks [data-save={kind}]")
        assert re.fullmatch(r"[A-Za-z0-9_.-]+", download.value.suggested_filename)
        text = Path(download.value.path()).read_text("utf-8")
        if kind == "svg":
            tags = {element.tag.rpartition("}")[2] for element in ET.fromstring(text).iter()}
            assert not tags & {"script", "foreignObject", "a", "img"}
        else:
            assert all(line.startswith(("#", "row,")) or line[0].isdigit() for line in text.splitlines())


def test_axe_finds_nothing_with_every_section_open(
    show: Show, report: Path, inspect_access: Callable[[Any], list[str]]
) -> None:
    for theme in ("light", "dark"):
        page = show(report, "#t=1&v=none&pa=1~layers_heads~~&pb=mean", color_scheme=theme)
        page.locator(".gallery h2").scroll_into_view_if_needed()
        expect(page.locator(".gallery figure").first).to_be_visible()
        assert not inspect_access(page)
