"""Heads in order beside the board: by likeness, share, entropy in space and sinks; the numbers are Python's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser.test_report_page import settle

from llava_eval.criteria.localization import spatial_entropy
from llava_viewer.look import wording
from llava_viewer.pages.report import render_report
from llava_viewer.pages.styles import script_text
from support.planted import SINK, make_sunk
from support.several import make_signed

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
Show = Callable[..., Any]


def listed(page: Any) -> list[tuple[str, ...]]:
    settle(page)
    page.wait_for_timeout(200)
    rows = page.locator("#headlist button").evaluate_all(
        "all => all.map(one => [...one.children].map(c => c.textContent))"
    )
    return [tuple(cell.strip() for cell in row) for row in rows]


def test_the_scripts_numbers_are_those_of_python(chromium: Any) -> None:
    rng = np.random.default_rng(4)
    maps = np.concatenate([rng.random((40, 42)) ** 6, rng.normal(size=(10, 42)), np.full((1, 42), 0.1)])
    page = chromium.new_page()
    entropies, alike = page.evaluate(
        f"""(maps) => {{
            {script_text("alike")}
            return [maps.map((map) => spatialEntropy(map, 6, 7)), maps.map((map) => likeness(map, maps[0]))];
        }}""",
        maps.tolist(),
    )
    page.close()
    wanted = spatial_entropy(maps, ((6, 7),))
    assert np.isinf(wanted[-1])
    assert entropies[-1] == np.inf
    assert np.allclose(entropies[:-1], wanted[:-1], atol=1e-9)
    assert len({round(one, 6) for one in entropies[:-1]}) > 10, "many kinds of maps"
    cosine = maps @ maps[0] / np.linalg.norm(maps, axis=1) / np.linalg.norm(maps[0])
    assert np.allclose(alike, cosine, atol=1e-9)


def test_heads_are_listed_in_every_order_and_chosen(
    show: Show, tmp_path: Path, inspect_access: Callable[[Any], list[str]]
) -> None:
    record = make_sunk(seed=5, precision="float32")
    path = tmp_path / "run.html"
    path.write_text(render_report(record), encoding="utf-8")
    page = show(path, "#t=2&v=none&l=1&h=2")
    maps = record.views["none"].maps_float()[2].reshape(6, -1)
    names = [f"L{layer} H{head}" for layer in range(2) for head in range(3)]
    like = maps @ maps[5] / np.linalg.norm(maps, axis=1) / np.linalg.norm(maps[5])
    found = listed(page)
    assert found[0] == ("L1 H2", "1.00")
    assert [name for name, _ in found] == [names[cell] for cell in np.argsort(-like, kind="stable")]
    page.select_option("#list-by", "sinks")
    part = maps[:, SINK] / maps.sum(1)
    found = listed(page)
    assert [name for name, _ in found] == [names[cell] for cell in np.argsort(part, kind="stable")]
    assert found[0][1] == wording.percent(float(part.min()))
    page.select_option("#list-by", "share")
    assert {text for _, text in listed(page)} == {wording.percent(0.4)}
    page.select_option("#list-by", "entropy")
    assert len(listed(page)) == 6
    page.locator("#headlist button").nth(1).click()
    settle(page)
    expect(page.locator("#headlist [aria-pressed=true]")).to_have_count(1)
    assert page.inner_text("#slotname") == page.inner_text("#headlist [aria-pressed=true] bdi")
    assert not inspect_access(page)


def test_signed_heads_are_listed_by_their_sums(show: Show, tmp_path: Path) -> None:
    record = make_signed()
    path = tmp_path / "run.html"
    path.write_text(render_report(record), encoding="utf-8")
    page = show(path, "#t=2&v=signed")
    page.select_option("#list-by", "share")
    sums = record.views["signed"].maps_float()[2].sum((-2, -1)).ravel()
    found = listed(page)
    heads = record.views["signed"].lead[-1]
    assert found[0][0] == "L{} H{}".format(*divmod(int(sums.argmax()), heads))
    assert "logit" in found[0][1]


def test_bars_under_words_follow_the_chosen_head(show: Show, tmp_path: Path) -> None:
    record = make_sunk(seed=5)
    view = record.views["none"]
    shares = np.random.default_rng(1).uniform(0.05, 0.7, view.shares.shape[:-1]).astype(np.float32)
    split = np.stack([(1 - shares) / 2, shares, (1 - shares) / 4, (1 - shares) / 4], axis=-1)
    maps = view.patches_float() * (shares / view.shares[..., 1])[..., None]
    apart = type(view).of(view.facts, maps, split, record.grids)
    path = tmp_path / "run.html"
    path.write_text(render_report(replace(record, views={**record.views, "none": apart})), encoding="utf-8")
    page = show(path, "#t=2&v=none&b=share")
    bars = """() => [...document.querySelectorAll(".answer .tok")]
        .map((one) => getComputedStyle(one).getPropertyValue("--w"))"""

    def wanted(which: np.ndarray) -> list[str]:
        return [f"{5 * round(20 * float(share))}%" for share in which]

    settle(page)
    assert page.evaluate(bars) == wanted(shares.mean((1, 2)))
    page.select_option("#pick-layer select", "1")
    page.select_option("#pick-head select", "2")
    listed(page)
    assert page.evaluate(bars) == wanted(shares[:, 1, 2])
    page.click("label[for=b-prob]")
    assert page.evaluate(bars) != wanted(shares[:, 1, 2])
    page.click("label[for=b-share]")
    page.select_option("#pick-head select", "")
    listed(page)
    assert page.evaluate(bars) == wanted(shares[:, 1].mean(1))


def first_among(shares: np.ndarray, entropy: np.ndarray, most: int = 10) -> np.ndarray:
    """The rule of the page by another way: every order of the tied heads, one by one."""
    kept = np.flatnonzero(shares >= shares.mean() - 1e-12)
    count = min(most, -(-len(kept) // 2))
    order = kept[np.argsort(entropy[kept], kind="stable")]
    last = entropy[order[count - 1]]
    found = np.zeros(len(shares))
    sure = [at for at in order if entropy[at] < last - 1e-9]
    found[sure] = 1
    tied = [at for at in order if at not in sure and entropy[at] <= last + 1e-9]
    found[tied] = (count - len(sure)) / len(tied)
    return found


def test_how_often_a_head_is_among_the_first(chromium: Any) -> None:
    rng = np.random.default_rng(7)
    page, tied = chromium.new_page(), 0
    for heads in (6, 40, 90):
        shares = rng.random(heads)
        entropy = rng.choice([0.0, 0.5, 0.7, 1.1, np.inf], heads)
        given = [
            {"share": float(s), "entropy": None if np.isinf(e) else float(e)}
            for s, e in zip(shares, entropy, strict=True)
        ]
        found = page.evaluate(
            f"""(heads) => {{
                {script_text("alike")}
                return firstAmong(heads.map((one) => ({{ ...one, entropy: one.entropy ?? Infinity }})), 10);
            }}""",
            given,
        )
        wanted = first_among(shares, entropy)
        assert np.allclose(found, wanted)
        tied += sum(0 < one < 1 for one in wanted)
    page.close()
    assert tied, "some are tied for the last place"


def test_heads_lie_by_share_and_entropy_and_are_chosen_without_scrolling(
    show: Show, tmp_path: Path, inspect_access: Callable[[Any], list[str]]
) -> None:
    record = make_sunk(seed=5, precision="float32")
    view = record.views["none"]
    rng = np.random.default_rng(2)
    shares = rng.uniform(0.05, 0.7, view.shares.shape[:-1]).astype(np.float32)
    split = np.stack([(1 - shares) / 2, shares, (1 - shares) / 4, (1 - shares) / 4], axis=-1)
    maps = view.patches_float() * (shares / view.shares[..., 1])[..., None]
    record = replace(record, views={**record.views, "none": type(view).of(view.facts, maps, split, record.grids)})
    path = tmp_path / "run.html"
    path.write_text(render_report(record), encoding="utf-8")
    page = show(path, "#t=2&v=none", viewport={"width": 1280, "height": 720})
    settle(page)
    page.locator("#layers").scroll_into_view_if_needed()
    page.evaluate("document.getElementById('layers').scrollIntoView({ behavior: 'instant' })")
    expect(page.locator("#scatter circle")).to_have_count(7)
    for one in ("#scatter", "#nearby", "#headlist"):
        box = page.locator(one).bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 720, one
    at = page.evaluate("scrollY")
    own = shares[2].ravel()
    names = [f"L{layer} H{head}" for layer in range(2) for head in range(3)]
    entropy = spatial_entropy(record.views["none"].maps_float()[2].reshape(6, -1), ((8, 8),))
    page.focus("#scatter")
    for cell in np.argsort(own, kind="stable"):
        page.keyboard.press("ArrowRight")
        told = f"{names[cell]}: {wording.percent(float(own[cell]))}, entropy {entropy[cell]:.2f}"
        expect(page.locator("#scattered")).to_have_text(told)
    page.keyboard.press("Enter")
    settle(page)
    best = names[int(own.argmax())]
    expect(page.locator("#slotname")).to_have_text(best)
    expect(page.locator("#nearby + figcaption")).to_have_text(f"circle, {best}")
    assert page.get_attribute("#nearby image", "href") == page.get_attribute("#live", "href")
    least = page.locator("#scatter circle:not(#dot, .chosen)").evaluate_all(
        "all => all.map((one) => one.getBoundingClientRect()).map(({ x, y, width }) => [x + width / 2, y + width / 2])"
    )
    x, y = min(least)
    page.mouse.click(x, y)
    expect(page.locator("#slotname")).to_have_text(names[int(own.argmin())])
    assert page.evaluate("scrollY") == at
    page.select_option("#list-by", "often")
    words = record.views["none"].maps_float()[: len(record.tokens) - 1].reshape(-1, 6, 64)
    each = [
        first_among(own.ravel(), spatial_entropy(maps, ((8, 8),))) for own, maps in zip(shares, words, strict=False)
    ]
    often = np.mean(each, axis=0)
    expect(page.locator("#headlist b").first).to_have_text(wording.percent(float(often.max())))
    assert dict(listed(page)) == {name: wording.percent(float(own)) for name, own in zip(names, often, strict=True)}
    for options in ({}, {"color_scheme": "dark"}):
        page.emulate_media(**options)
        assert not inspect_access(page)
