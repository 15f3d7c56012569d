"""How fast a report opens and switches in headless Chromium.

Flow: a page's file -> a fresh context for each opening -> navigation start to the frame after the stage was drawn; then
clicks on words, each to the frame that shows its map.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from servekit.paths import SetupError

_PAINTED = """const painted = () => new Promise((resolve) => requestAnimationFrame(() => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = resolve;
  port2.postMessage(0);
}));"""
_OPENED = f"""async () => {{
  {_PAINTED}
  while (!performance.getEntriesByName("stage").length) await new Promise(requestAnimationFrame);
  await painted();
  return performance.now();
}}"""
_SWITCHES = f"""async (count) => {{
  {_PAINTED}
  const words = [...document.querySelectorAll(".answer .tok")];
  const stage = document.querySelector("#stage");
  const took = [];
  for (let i = 0; i < count; i++) {{
    await new Promise((resolve) => setTimeout(resolve, 60));
    const start = performance.now();
    words[(37 * i + 5) % words.length].click();
    while (stage.getAttribute("aria-busy") === "true") await new Promise((resolve) => setTimeout(resolve));
    await painted();
    took.push(performance.now() - start);
  }}
  return took;
}}"""


@dataclass(frozen=True)
class Watched:
    """Milliseconds of every opening, and of every switch after the last one."""

    open_ms: list[float]
    switch_ms: list[float]


def chromium() -> str:
    """Where Chromium or Chrome is.

    Raises:
        SetupError: there is none.
    """
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), "")
    if not found:
        raise SetupError("chromium: got none on PATH, expected Chromium or Chrome; install one")
    return found


def watch(browser: str, page: Path, opens: int, switches: int, state: str = "") -> Watched:
    """Opens a page several times and clicks on words.

    Args:
        browser: Chromium's program.
        page: the file.
        opens, switches: how often.
        state: of the page's address, "#l=3&h=5".
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        opened, switched = [], []
        for _ in range(opens):
            shown = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
            shown.goto(page.as_uri() + state, wait_until="commit")
            opened.append(shown.evaluate(_OPENED))
            switched = shown.evaluate(_SWITCHES, switches)
            shown.context.close()
        chromium.close()
    return Watched(opened, switched)
