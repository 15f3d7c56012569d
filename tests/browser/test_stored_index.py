"""The index of a store in a real browser: pages of 500, what is in sight is loaded, filters by columns and by text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llava_viewer.pages.stored import BLOCK, PAGE, write_stored_index
from support.stores import synthetic_store

COUNT = 1200
Show = Callable[..., Any]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stored_index(synthetic_store(tmp_path_factory.mktemp("many"), COUNT))


def opened(show: Show, index: Path, fragment: str = "") -> Any:
    """The page when its first cards are there."""
    page = show(index, fragment)
    page.wait_for_selector(".run img")
    return page


def ids(page: Any) -> list[str]:
    """What the cards in sight are of."""
    page.wait_for_function("() => [...document.querySelectorAll('.run')].slice(0, 12).every(one => one.dataset.full)")
    found: list[str] = page.locator(".run[data-full] bdi:last-child").all_text_contents()
    return [one for one in found if one.startswith("q")]


def test_little_is_opened_first_and_the_rest_as_it_is_scrolled_to(show: Show, index: Path) -> None:
    assert index.stat().st_size < 1_000_000
    page = opened(show, index)
    assert page.locator(".run").count() == PAGE
    assert page.inner_text("#where") == "page 1 of 3"
    assert page.inner_text("#shown") == f"{COUNT} of {COUNT} shown"
    shown = page.locator(".run img").count()
    assert 0 < shown < 200
    page.locator(".run").nth(PAGE - 1).scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelector('#runs').lastElementChild.dataset.full")
    assert page.locator(".run img").count() > shown
    assert page.evaluate("document.querySelector('#runs').lastElementChild.querySelector('img').naturalWidth") > 0


def test_wrong_answers_come_first_and_pages_are_turned(show: Show, index: Path) -> None:
    page = opened(show, index)
    assert all(int(one[1:]) % 3 == 0 for one in ids(page))
    assert "wrong; expected “a red circle”" in page.locator(".run .foot").first.inner_text()
    page.click("#next")
    assert page.inner_text("#where") == "page 2 of 3"
    assert not all(int(one[1:]) % 3 == 0 for one in ids(page))
    assert "page=2" in page.evaluate("location.hash")
    page.click("#next")
    page.wait_for_selector(".run img")
    assert page.locator(".run").count() == COUNT - 2 * PAGE
    assert page.is_disabled("#next")


def test_a_card_has_its_command_and_one_page_no_pager(show: Show, index: Path) -> None:
    page = opened(show, index)
    [first, *_] = ids(page)
    assert page.is_visible("#pages")
    command = page.locator(".run details code").first
    assert not command.is_visible()
    page.locator(".run summary").first.click()
    assert command.is_visible()
    assert command.inner_text() == f"llava-viewer render .::{first} -o report.html"
    page.select_option("#verdict", "1")
    page.select_option("#tag", "1")
    page.wait_for_function("() => document.querySelector('#shown').textContent.startsWith('400 ')")
    assert page.is_hidden("#pages")


def test_columns_and_texts_filter_and_sort(show: Show, index: Path) -> None:
    page = opened(show, index)
    page.select_option("#verdict", "1")
    page.select_option("#tag", "1")  # "odd", behind "even"
    page.wait_for_function("() => document.querySelector('#shown').textContent.startsWith('400 ')")
    assert all(int(one[1:]) % 2 == 1 and int(one[1:]) % 3 for one in ids(page))
    page.select_option("#column", "share")
    assert "%" in page.locator("#column option:checked").inner_text()
    page.fill("#least", "80")
    page.wait_for_function("() => document.querySelector('#shown').textContent.startsWith('40 ')")
    assert all(int(one[1:]) % 20 == 19 for one in ids(page))
    page.click("#reset")
    page.wait_for_function(f"() => document.querySelector('#shown').textContent.startsWith('{COUNT} ')")
    page.fill("#q", "Q77 circle")
    page.wait_for_function("() => document.querySelector('#shown').textContent.startsWith('11 ')")
    assert sorted(ids(page)) == ["q77", *(f"q{number}" for number in range(770, 780))]
    page.fill("#q", "nothing like it")
    page.wait_for_selector("#none")
    page.click("#reset")
    page.select_option("#sort", "n")
    page.wait_for_function("() => document.querySelector('.run')?.dataset.n === '0'")
    assert ids(page)[:3] == ["q0", "q1", "q2"]
    page.click("#order")
    page.wait_for_function(f"() => document.querySelector('.run')?.dataset.n === '{COUNT - 1}'")


def test_an_address_opens_the_same_list(show: Show, index: Path) -> None:
    page = opened(show, index, "#sort=n&page=2")
    assert page.inner_text("#where") == "page 2 of 3"
    assert ids(page)[0] == f"q{PAGE}"


def test_the_first_page_is_there_without_a_script(show: Show, index: Path) -> None:
    page = show(index, js=False)
    assert page.locator(".run").count() == PAGE
    assert page.locator(".run h2").first.inner_text().startswith("What is there?")
    assert page.locator(".run .foot").first.inner_text().splitlines()[0].endswith("wrong · expected “a red circle”")
    assert page.locator(".pages").is_hidden()
    assert "the others and all images need the page" in page.inner_text("main")


def test_nothing_stands_in_anybodys_way(show: Show, index: Path, inspect_access: Callable[[Any], list[str]]) -> None:
    assert inspect_access(opened(show, index, "#q=q77")) == []


def test_a_block_holds_what_its_cards_show(index: Path) -> None:
    assert len(list((index.parent / "index").glob("b*.js"))) == COUNT // BLOCK
