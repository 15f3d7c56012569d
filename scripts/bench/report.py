"""Measures how fast a report of many tokens opens and switches in Chromium, and what it weighs.

Opening: navigation start to the frame after the stage was drawn. Switching: a click on a word to the frame that shows
its map. Example: python -m bench.report --tokens 512 --out docs/benchmarks/report.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.parts.in_browser import chromium, watch
from bench.parts.results import FOLDER, Figure, Result, machine, write
from servekit.paths import ROOT, SetupError


def main() -> int:
    """Measures and writes one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[3, 60, 512])
    parser.add_argument("--opens", type=int, default=5)
    parser.add_argument("--switches", type=int, default=30)
    parser.add_argument("--out", type=Path, default=FOLDER / "report.json")
    arguments = parser.parse_args()
    sys.path[:0] = [str(ROOT / part) for part in ("handler", "viewer", "tests")]
    try:
        browser = chromium()
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    results = [_measure(browser, count, views, arguments) for count in arguments.tokens for views in (1, 3)]
    figures = [figure for one in results for figure in _figures(one)]
    settings = {"tokens": arguments.tokens, "opens": arguments.opens, "switches": arguments.switches}
    what = (
        "A report with 24 x 24 patches in headless Chromium: from navigation start to the frame after the stage was "
        "drawn (median of the opens), and from a click on a word to the frame that shows its map (median)."
    )
    write(arguments.out, Result("A report in the browser", what, machine(), settings, figures, {"reports": results}))
    print(arguments.out)
    return 0


def _figures(one: dict[str, Any]) -> list[Figure]:
    """The rows of the table of one report."""
    name = f"{one['tokens']} tokens, {one['views']} view{'s' if one['views'] > 1 else ''}"
    budget = 60 + 2.5 * one["tokens"] * one["views"]
    return [
        Figure(f"{name}: open", one["open_ms"], "ms", at_most=1000),
        Figure(f"{name}: switch", one["switch_ms"], "ms", at_most=50),
        Figure(
            f"{name}: size without picture",
            one["bytes_without_picture"] / 1000,
            "KB",
            at_most=budget,
            note="" if one["tokens"] > 5 else "the page itself weighs about 63 KB: script, style and palettes",
        ),
    ]


def _measure(browser: str, count: int, views: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One report of `count` tokens with `views` views of 24 x 24 patches."""
    from llava_viewer.pages.report import render_report
    from support.synthetic import make_record

    words = tuple(f" word{number}" for number in range(count))
    pairs = [((0, 1),), ((1, 2),)][: views - 1]
    record = make_record(
        grid=24, patch_px=14, width_px=640, height_px=480, words=words, reductions=("layers_heads",),
        pairs=pairs[0] if pairs else (),
    )  # fmt: skip
    if views == 3:
        other = make_record(
            grid=24, patch_px=14, width_px=640, height_px=480, words=words, reductions=(), pairs=pairs[1], seed=1
        )
        record.views["other"] = other.views["pairs"]
    start = time.perf_counter()
    html = render_report(record)
    render_ms = 1000 * (time.perf_counter() - start)
    found: dict[str, Any] = {
        "tokens": count, "views": len(record.views), "render_ms": round(render_ms),
        "bytes": len(html), "bytes_without_picture": len(render_report(record, embed_image=False)),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.html"
        path.write_text(html, encoding="utf-8")
        seen = watch(browser, path, arguments.opens, arguments.switches)
    opens, switches = seen.open_ms, seen.switch_ms
    found |= {
        "open_ms": round(statistics.median(opens)), "open_ms_all": [round(one) for one in opens],
        "switch_ms": round(statistics.median(switches), 1), "switch_ms_all": [round(one, 1) for one in switches],
    }  # fmt: skip
    print(json.dumps({key: value for key, value in found.items() if not key.endswith("_all")}), file=sys.stderr)
    return found


if __name__ == "__main__":
    sys.exit(main())
