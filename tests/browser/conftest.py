"""A headless Chromium and Firefox for the tests of what a page does; skipped where there is none, unless CI is set."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

PATIENCE_MS = 120_000
"""For a page on a busy machine."""
TOUR_SEEN = "try { localStorage.setItem('llava-gaze tour', 'seen'); } catch {}"
"""A reader who has seen the tour."""
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


def _program(*names: str) -> str:
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        reason = f"no browser found, looked for {', '.join(names)}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class _Resting:
    """Playwright's loop between two tests."""

    loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def wake(cls) -> None:
        if cls.loop is not None:
            asyncio._set_running_loop(cls.loop)

    @classmethod
    def rest(cls) -> None:
        cls.loop = asyncio._get_running_loop()
        asyncio._set_running_loop(None)


@pytest.fixture(autouse=True)
def loop_at_rest() -> Iterator[None]:
    """Playwright marks its loop as the thread's running one for good; other tests of this process run their own."""
    _Resting.wake()
    yield
    _Resting.rest()


@pytest.fixture(scope="session")
def firefox() -> str:
    """The program of Firefox."""
    return _program("firefox-esr", "firefox")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser, one for all tests."""
    found = _program("chromium", "chromium-browser", "google-chrome")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=ARGUMENTS, headless=True, timeout=PATIENCE_MS)
        yield browser
        _Resting.wake()
        browser.close()


@pytest.fixture(scope="session")
def inspect_access() -> Callable[[Any], list[str]]:
    """Runs axe-core on a page: one line per violation, empty when all is well."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()

    def violations(page: Any) -> list[str]:
        found = axe.run(page).response["violations"]
        return [
            f"{rule['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
            for rule in found
            for node in rule["nodes"]
        ]

    return violations


@pytest.fixture
def show(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens a file in a fresh page; at the end no error was logged and nothing but files beside it was asked for.

    With `refusals`, refusals of the content security policy may be logged.
    """
    pages: list[tuple[Any, str, list[str], list[str]]] = []

    def open_file(path: Path, fragment: str = "", *, js: bool = True, refusals: bool = False, **options: Any) -> Any:
        options = {"viewport": {"width": 1200, "height": 1700}, **options}
        context = chromium.new_context(java_script_enabled=js, **options)
        context.add_init_script(TOUR_SEEN)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        address = path.as_uri()
        errors: list[str] = []
        requests: list[str] = []

        # Chromium 150 says so of every SVG that is opened as a file, even of an empty one.
        itself = f"Unsafe attempt to load URL {address} from frame with URL {address}."

        def logged(message: Any) -> None:
            if message.text.startswith(itself):
                return
            if message.type != "log" and not (refusals and "Content Security Policy" in message.text):
                errors.append(message.text)

        page.on("console", logged)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address + fragment)
        pages.append((page, address, errors, requests))
        return page

    yield open_file
    for page, address, errors, requests in pages:
        page.context.close()
        assert not errors
        fetched = [url for url in requests if not url.startswith(("data:", address.rpartition("/")[0]))]
        assert not fetched
