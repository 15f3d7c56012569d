"""Measures how fast a report of many tokens opens and switches in Chromium, and what it weighs.

Opening: navigation start to the frame after the stage was drawn. Switching: a click on a word to the frame that shows
its map. Example: python -m bench.report --tokens 512 --out docs/benchmarks/report.json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.parts.in_browser import beside, chromium, milliseconds, watch
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
    quiet = beside()
    results = [_measure(browser, count, views, arguments) for count in arguments.tokens for views in (1, 3)]
    figures = [figure for one in results for figure in _figures(one)]
    settings = {"tokens": arguments.tokens, "opens": arguments.opens, "switches": arguments.switches}
    what = (
        "A report with 24 x 24 patches in headless Chromium: from navigation start to the frame after the stage was "
        f"drawn, and from a click on a word or view to the frame that shows its map ({quiet})."
    )
    write(arguments.out, Result("A report in the browser", what, machine(), settings, figures, {"reports": results}))
    print(arguments.out)
    return 0


def _figures(one: dict[str, Any]) -> list[Figure]:
    """The rows of the table of one report."""
    name = f"{one['tokens']} tokens, {one['views']} view{'s' if one['views'] > 1 else ''}"
    budget = 73 + 2.5 * (one["tokens"] + 1) * one["views"]
    return [
        milliseconds(f"{name}: open", one["open_ms"], at_most=1000),
        *(milliseconds(f"{name}: another {kind}", found, at_most=50) for kind, found in one["switch_ms"].items()),
        Figure(f"{name}: size without picture", one["bytes_without_picture"] / 1000, "KB", at_most=budget),
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
        kinds = ("word", "view") if views > 1 else ("word",)
        seen = watch(browser, path, arguments.opens, arguments.switches, kinds=kinds)
    found |= {
        "open_ms": [round(one) for one in seen.open_ms],
        "switch_ms": {kind: [round(one, 1) for one in all_] for kind, all_ in seen.switch_ms.items()},
    }
    print(json.dumps({key: own for key, own in found.items() if not key.endswith("_ms")}), file=sys.stderr)
    return found


if __name__ == "__main__":
    sys.exit(main())
