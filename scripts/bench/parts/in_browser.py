"""How fast a report opens and switches in headless Chromium.

Flow: a page's file -> a fresh context for each opening -> navigation start to the frame after the stage was drawn; then
other words, heads and views are chosen, each to the frame that shows its map, and to the one after every square of the
board and the list of heads is that choice's.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.parts.intervals import median
from bench.parts.results import Figure
from servekit.paths import SetupError

_PAINTED = """const frame = () => new Promise(requestAnimationFrame);
const afterPaint = () => new Promise((resolve) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = resolve;
  port2.postMessage(0);
});
const painted = () => frame().then(afterPaint);"""
_OPENED = f"""async () => {{
  {_PAINTED}
  const drawn = () => performance.getEntriesByName("stage").length;
  if (drawn()) await frame();
  while (!drawn()) await frame();
  await afterPaint(); // of the first frame after it was drawn: its callbacks have just run
  return performance.now();
}}"""
_SWITCHES = f"""async ([kind, count]) => {{
  {_PAINTED}
  const words = [...document.querySelectorAll(".answer .tok")];
  const views = [...document.querySelectorAll(".views label")];
  const pickers = [...document.querySelectorAll(".pickers label:not([hidden]) select")];
  const among = (list, i) => list[(37 * i + 5) % list.length];
  const choose = {{
    word: (i) => among(words, i).click(),
    view: (i) => views[(i + 1) % views.length].click(),
    head: (i) => {{
      const picker = pickers.at(-1);
      picker.value = among([...picker.options].slice(1), i).value;
      picker.dispatchEvent(new Event("change", {{ bubbles: true }}));
    }},
  }}[kind];
  const busy = (part) => part?.getAttribute("aria-busy") === "true";
  const [stage, board] = ["#stage", ".finding"].map((name) => document.querySelector(name));
  const took = [];
  for (let i = 0; i < count; i++) {{
    while (busy(board)) await painted();
    await new Promise((resolve) => setTimeout(resolve, 60));
    const start = performance.now();
    choose(i);
    while (busy(stage)) await new Promise((resolve) => setTimeout(resolve));
    await painted();
    const shown = performance.now() - start;
    while (busy(board)) await painted();
    took.push([shown, performance.now() - start]);
  }}
  return took;
}}"""


@dataclass
class Watched:
    """Milliseconds of every opening, and by kind ("word") of every switch after each of them.

    Args:
        switch_ms: to the frame with the chosen map.
        all_ms: to the frame with everything that shows the choice.
    """

    open_ms: list[float] = field(default_factory=list)
    switch_ms: dict[str, list[float]] = field(default_factory=dict)
    all_ms: dict[str, list[float]] = field(default_factory=dict)


def milliseconds(name: str, found: Sequence[float], at_most: float | None = None) -> Figure:
    """A row of the table: the median, and how long most of them took."""
    note = f"{len(found)} times, nine of ten in {sorted(found)[math.ceil(0.9 * len(found)) - 1]:.0f} ms"
    return Figure.of(name, median(found), "ms", at_most=at_most, note=note)


def beside() -> str:
    """What else the machine did in the last minute: as many processes as were ready to run on its cores."""
    return f"beside other work of the machine: load average {os.getloadavg()[0]:.1f} before it"


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


def watch(
    browser: str, page: Path, opens: int, switches: int, state: str = "", kinds: Sequence[str] = ("word",)
) -> Watched:
    """Opens a page several times and chooses other words, heads or views.

    Args:
        browser: Chromium's program.
        page: the file.
        opens, switches: how often; so many switches of each kind after each opening.
        state: of the page's address, "#l=3&h=5".
        kinds: of "word", "head" and "view".
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        seen = Watched()
        for _ in range(opens):
            shown = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
            shown.goto(page.as_uri() + state, wait_until="commit")
            seen.open_ms.append(shown.evaluate(_OPENED))
            for kind in kinds:
                for first, last in shown.evaluate(_SWITCHES, [kind, switches]):
                    seen.switch_ms.setdefault(kind, []).append(first)
                    seen.all_ms.setdefault(kind, []).append(last)
            shown.context.close()
        chromium.close()
    return seen
